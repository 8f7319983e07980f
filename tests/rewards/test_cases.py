"""The case tables, graded as boxed answers, in tags, and with the sides exchanged."""

from __future__ import annotations

from collections import defaultdict

import pytest

from rewards import accuracy_reward
from tests.rewards.table import DIFFERENT, EQUAL, Case, blind

# A choice is known by its gold.
ONE_WAY = {
    "C) 12",
    "C: 12",
    "(C) 12",
    r"\textbf{(C)}\ 12",
}
PLACEHOLDERS = {"answer", r"\ldots"}  # in a box they are an echo of the prompt, no answer


def by_kind(cases: list[Case]) -> list[tuple[str, list[Case]]]:
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case[0]].append(case)
    return list(kinds.items())


def graded(answer: str, gold: str) -> bool:
    return accuracy_reward(rf"<think>So it is.</think> Hence \boxed{{{answer}}}.", gold).score == 1


def test_there_are_at_least_600_cases():
    assert len(EQUAL) + len(DIFFERENT) >= 600
    assert len({case[1:] for case in EQUAL + DIFFERENT}) == len(EQUAL) + len(DIFFERENT)


@pytest.mark.parametrize(
    ("kind", "cases"), by_kind(EQUAL), ids=lambda value: value if isinstance(value, str) else ""
)
def test_equal_answers_are_right_both_ways(kind: str, cases: list[Case]):
    wrong = [(answer, gold) for _, answer, gold in cases if not graded(answer, gold)]
    wrong += [
        (gold, answer)
        for _, answer, gold in cases
        if answer not in ONE_WAY and not graded(gold, answer)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "cases"), by_kind(DIFFERENT), ids=lambda value: value if isinstance(value, str) else ""
)
def test_different_answers_are_wrong_both_ways(kind: str, cases: list[Case]):
    wrong = [(answer, gold) for _, answer, gold in cases if graded(answer, gold)]
    wrong += [(gold, answer) for _, answer, gold in cases if graded(gold, answer)]
    assert wrong == []


def test_blind_cases():
    assert [
        case
        for case in blind()
        if (accuracy_reward(case["response"], case["gold"]).score == 1) != case["right"]
    ] == []


@pytest.mark.parametrize("table", [EQUAL, DIFFERENT], ids=["equal", "different"])
def test_every_side_is_equal_to_itself(table: list[Case]):
    sides = {
        side for _, answer, gold in table for side in (answer, gold) if side not in PLACEHOLDERS
    }
    assert [side for side in sides if not graded(side, side)] == []


@pytest.mark.parametrize(
    "gold", ["x + y = 5", r"\gcd(m + 1, n) = 5", "x^2 + y^2 = 5", "3x + 2y = 5"]
)
def test_a_gold_that_is_an_equation_or_a_condition_asks_for_it(gold: str):
    """Unlike the gold `m + n = 5`, which gives the value that was asked for."""
    assert not graded("5", gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("AB = a + b", "a + b"),
        ("[ABC] = 24n", "24n"),
        ("|S| = 2n + 1", "2n + 1"),
        (r"\frac{N}{M} = 2^{k-n}", "2^{k-n}"),
        ("f^{-1}(5) = 3", "3"),
        (r"\tan^2 A = 12", "12"),
        (r"x^2 + \frac{1}{x^2} = 12", "12"),
        (r"\frac{CM}{BC} = \frac{8}{13}", "8 : 13"),
        ("(x - 1)(x + 1) = x^2 - 1", "x^2 - 1"),
    ],
)
def test_an_answer_may_say_what_it_answers(answer: str, gold: str):
    """The other way round the gold is an equation, which the question may have asked for."""
    assert graded(answer, gold)


def test_an_equation_of_letters_picks_no_choice():
    assert not graded("A = D", "D")


@pytest.mark.parametrize(
    ("name", "gold"),
    [
        ("y", r"y = \sin x"),
        ("a_n", "a_n = 2^n"),
        ("V", r"V = \pi r^2 h"),
        ("f(x)", "f(x) = x"),
        ("A", "A = B"),
    ],
)
def test_the_name_in_a_gold_is_no_answer(name: str, gold: str):
    assert not graded(name, gold)
