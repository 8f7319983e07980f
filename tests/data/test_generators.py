"""Generators are seeded and endless, and what they claim is true."""

from __future__ import annotations

import ast
import json
import operator
import random
import re
import statistics
from fractions import Fraction
from itertools import islice

import pytest

from data.generators import GENERATORS, LEVELLED
from data.generators.blocksworld import shortest_plan
from data.generators.countdown import solve
from data.generators.knights import solutions
from data.generators.multiplication import scratchpad
from data.generators.stories import STORIES
from data.generators.symbolic import draw, evaluation_set
from rewards import Sample, accuracy_reward
from rewards.checkers.blocksworld import run_plan
from tests.data.helpers import generate

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def value_of(text: str) -> Fraction:
    """Value of an arithmetic expression, by Python's own grammar."""

    def walk(node: ast.AST) -> Fraction:
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        assert isinstance(node, ast.Constant)
        return Fraction(node.value)

    return walk(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("name", LEVELLED)
def test_a_problem_depends_on_its_number_alone(name: str) -> None:
    generator = LEVELLED[name]
    whole = generate(name, seed=3, count=12)
    assert whole[5:] == generate(name, seed=3, count=7, start=5)
    assert whole == list(islice(generator.stream(3), 12))
    assert whole != generate(name, seed=4, count=12)
    assert len({p.id for p in whole}) == 12
    assert {p.reward for p in whole} == {generator.reward}
    assert {p.level for p in generate(name, seed=0, count=generator.levels)} == {
        str(k + 1) for k in range(generator.levels)
    }
    assert [p.extra for p in whole[:3]] == [p.extra for p in generate(name, seed=3, count=3)]


def test_an_unknown_generator_or_level_is_named() -> None:
    with pytest.raises(ValueError, match="no generator is called 'sudoku'"):
        GENERATORS["sudoku"]
    with pytest.raises(ValueError, match=r"level=9 is outside 1..6"):
        generate("knights", seed=0, count=1, level=9)


def test_arithmetic_answers_are_the_values_of_their_expressions() -> None:
    for problem in generate("arithmetic_brackets", seed=0, count=600):
        expression = problem.question.removeprefix("What is ").removesuffix("?")
        assert value_of(expression) == int(problem.answer)
        assert len(re.findall(r"\d+", expression)) == int(problem.level or 0) + 1


def test_scratchpads_end_in_the_product() -> None:
    assert scratchpad(12, 34) == "12 * 4 = 48\n12 * 30 = 360\n48 + 360 = 408"
    for problem in generate("multiplication", seed=0, count=200):
        a, b = problem.extra["a"], problem.extra["b"]
        assert int(problem.answer) == a * b
        assert problem.extra["scratchpad"].endswith(f"= {a * b}")


def test_countdown_solutions_use_each_number_once_and_a_solver_finds_one_too() -> None:
    for level in (1, 2, 3, 4):
        for problem in generate("countdown", seed=0, count=40, level=level):
            task = json.loads(problem.answer)
            solution = problem.extra["solution"]
            assert sorted(map(int, re.findall(r"\d+", solution))) == sorted(task["numbers"])
            assert len(task["numbers"]) == level + 2
            assert value_of(solution) == task["target"]
    easy = json.loads(generate("countdown", seed=0, count=1, level=2)[0].answer)
    found = solve(easy["numbers"], easy["target"])
    assert found is not None and value_of(found) == easy["target"]
    assert solve([1, 1, 1], 100) is None


def test_knights_have_exactly_one_solution() -> None:
    liar = [lambda kinds: not kinds[0]]  # "I am a knave"
    assert solutions(liar) == []
    assert solutions([lambda kinds: not kinds[1], lambda kinds: kinds[0] == kinds[1]]) == [
        (True, False)
    ]
    for problem in generate("knights", seed=1, count=60):
        assert len(re.findall(r" is a kn", problem.answer)) == int(problem.level or 0) + 1


def test_blocksworld_plans_reach_the_goal_and_none_is_shorter_than_it_must() -> None:
    for problem in generate("blocksworld", seed=0, count=40):
        task = json.loads(problem.answer)
        moves = [
            tuple(line.removeprefix("move ").upper().split(" TO "))
            for line in problem.extra["plan"].splitlines()
        ]
        assert len(moves) == task["moves"] >= 1
        state = run_plan(task["initial"], moves)  # type: ignore[arg-type]
        assert state == run_plan(task["goal"], [])
    # a stack turned upside down: unstack two, then build
    assert len(shortest_plan((("A", "B", "C"),), (("C", "B", "A"),))) == 3


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_stories_agree_with_themselves(story: object) -> None:
    for index in range(60):
        for num_extras in (0, 1, 2):
            instance = draw(story, random.Random(index), num_extras)  # type: ignore[arg-type]
            assert instance.holds()
            assert instance.steps()[-1] == instance.answer() > 0
            plain, noop = instance.question(), instance.question(noop=True)
            assert (
                "{" not in noop
                and len(noop) > len(plain)
                and noop.replace(instance.story.noop, "") != plain
            )
            # the useless sentence is the whole difference
            words = iter(noop.split())
            assert all(word in words for word in plain.split())


def test_there_are_enough_stories_and_extras_change_answers() -> None:
    assert len(STORIES) >= 15 and len({story.title for story in STORIES}) == len(STORIES)
    for story in STORIES:
        instances = [draw(story, random.Random(1), extras) for extras in (0, 1, 2)]
        assert all(i.steps()[-1] != i.steps()[-2] for i in instances[1:])


def test_noop_changes_the_text_and_never_the_answer() -> None:
    plain, noop = (evaluation_set(3, noop=flag) for flag in (False, True))
    assert [p.answer for p in plain] == [p.answer for p in noop]
    assert all(a.question != b.question for a, b in zip(plain, noop, strict=True))


def test_sets_vary_names_or_numbers_or_both() -> None:
    def numbers(vary: str, index: int) -> list[list[str]]:
        return [re.findall(r"\d+", p.question) for p in evaluation_set(index, vary=vary)]  # type: ignore[arg-type]

    assert numbers("names", 0) == numbers("names", 1)
    assert numbers("numbers", 0) != numbers("numbers", 1)
    first, second = evaluation_set(0, vary="names"), evaluation_set(1, vary="names")
    assert any(a.question != b.question for a, b in zip(first, second, strict=True))
    assert [p.answer for p in first] == [p.answer for p in second]


def test_a_perfect_solver_has_no_variance_over_sets() -> None:
    means = []
    for index in range(10):
        problems = evaluation_set(index, level=3)
        scores = [accuracy_reward(f"<answer>{p.answer}</answer>", p.answer).score for p in problems]
        means.append(statistics.mean(scores))
    assert (statistics.mean(means), statistics.pstdev(means)) == (1.0, 0.0)


def test_gold_answers_of_text_generators_grade_themselves() -> None:
    for name in ("arithmetic_brackets", "symbolic", "symbolic_noop", "multiplication"):
        for problem in generate(name, seed=0, count=20):
            sample = Sample(response=f"<answer>{problem.answer}</answer>", gold=problem.answer)
            assert accuracy_reward(sample.response, sample.gold).score == 1.0
