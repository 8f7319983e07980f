"""The arithmetic of the embedded default: splits, solutions, and the styles that the
report counts.
"""

from __future__ import annotations

import itertools
import random
import re

import pytest

from grpo.miniature.arithmetic import (
    TEMPLATE,
    ArithmeticSpec,
    CorpusSpec,
    Expression,
    bare_response,
    corpus,
    distinct_problems,
    expressions,
    is_hasty,
    is_held_out,
    problems,
    solution_style,
    untagged_response,
    worked_response,
)
from rewards import Sample, accuracy_reward, format_reward

SPEC = ArithmeticSpec()
EXPRESSION = Expression((7, 3, 4, 5), ("+", "*", "-"))


def test_products_come_first_then_left_to_right():
    assert EXPRESSION.text == "7+3*4-5"
    assert EXPRESSION.steps() == [(3, "*", 4, 12), (7, "+", 12, 19), (19, "-", 5, 14)]


def test_every_expression_has_one_product_and_no_negative_step():
    for expression in itertools.islice(expressions(SPEC, "train", random.Random(0)), 2000):
        assert expression.operators.count("*") == 1
        assert len(expression.numbers) in SPEC.lengths
        assert min(result for *_, result in expression.steps()) >= 0
        assert expression.steps()[-1][-1] == eval(expression.text)


def test_splits_are_disjoint_for_any_seed():
    train = {
        problem.question for problem in itertools.islice(problems(SPEC, "train", seed=1), 20_000)
    }
    held_out = {problem.question for problem in distinct_problems(SPEC, "held_out", 2000, seed=2)}
    assert len(held_out) == 2000
    assert not train & held_out


def test_pretraining_text_holds_no_held_out_problem_even_as_a_part():
    held_out = {problem.question for problem in distinct_problems(SPEC, "held_out", 2000, seed=2)}
    for document in itertools.islice(corpus(SPEC, CorpusSpec(), seed=0), 20_000):
        for run in re.findall(r"\d+(?:[-+*]\d+)+", document):
            numbers, operators = re.findall(r"\d+", run), re.findall(r"[-+*]", run)
            for expression in Expression(tuple(map(int, numbers)), tuple(operators)).parts():
                assert expression.text not in held_out
                assert not is_held_out(expression)


def test_equal_seeds_give_equal_problems_and_text():
    def first(stream):
        return list(itertools.islice(stream, 50))

    assert first(problems(SPEC, "train", seed=3)) == first(problems(SPEC, "train", seed=3))
    assert first(problems(SPEC, "train", seed=3)) != first(problems(SPEC, "train", seed=4))
    assert first(corpus(SPEC, CorpusSpec(), seed=3)) == first(corpus(SPEC, CorpusSpec(), seed=3))


def test_asking_for_more_problems_than_there_are_is_refused():
    with pytest.raises(ValueError, match="has about"):
        distinct_problems(
            ArithmeticSpec(lengths=(3,), max_term=2, max_factor=2), "held_out", 100, seed=0
        )


@pytest.mark.parametrize(
    ("respond", "style", "format_score", "accuracy"),
    [
        (worked_response, "worked", 1.0, 1.0),
        (bare_response, "bare", 1.0, 1.0),
        (untagged_response, "none", 0.0, 0.0),
    ],
)
def test_the_rewards_judge_the_three_styles(respond, style, format_score, accuracy):
    response = respond(EXPRESSION)
    assert solution_style(response) == style
    assert format_reward(Sample(response=response, gold="14")).score == format_score
    assert accuracy_reward(response, "14").score == accuracy


def test_worked_and_bare_responses_read_as_documented():
    assert (
        worked_response(EXPRESSION)
        == "<think>\n3*4=12\n7+12=19\n19-5=14\n</think><answer>14</answer>"
    )
    assert bare_response(EXPRESSION) == "<think> 7+3*4-5 </think><answer>14</answer>"
    assert untagged_response(EXPRESSION) == " 14"


def test_hasty_work_puts_the_sum_on_one_line_and_slips_are_carried_on():
    hasty = worked_response(EXPRESSION, hasty=True, slips=(0, 2))
    assert hasty == "<think>\n3*4=12\n7+12-5=16\n</think><answer>16</answer>"
    careful = worked_response(EXPRESSION, slips=(1, 0, -2))
    assert careful == "<think>\n3*4=13\n7+13=20\n20-5=13\n</think><answer>13</answer>"
    assert is_hasty(hasty)
    assert not is_hasty(careful)
    assert solution_style(hasty) == solution_style(careful) == "worked"
    # 2*2-4 is 0, and a slip takes no line below that
    none_left = worked_response(Expression((2, 2, 4), ("*", "-")), slips=(0, -1))
    assert none_left == "<think>\n2*2=4\n4-4=0\n</think><answer>0</answer>"


def test_the_quality_of_work_changes_no_other_text():
    mixes = CorpusSpec(), CorpusSpec(hasty=0.5, step_slips=0.3)
    plain, mixed = (list(itertools.islice(corpus(SPEC, mix, seed=0), 2000)) for mix in mixes)
    differing = [(a, b) for a, b in zip(plain, mixed, strict=True) if a != b]
    assert len(differing) > 100
    for before, after in differing:
        assert before.partition("Assistant:")[0] == after.partition("Assistant:")[0]
        assert solution_style(before) == solution_style(after) == "worked"


def test_work_is_hasty_and_slips_as_often_as_the_mix_says():
    mix = CorpusSpec(worked=1.0, bare=0.0, untagged=0.0, slips=0.5, hasty=0.6, step_slips=0.2)
    right: dict[bool, list[float]] = {True: [], False: []}
    spec = ArithmeticSpec(lengths=(4,), max_term=9, max_factor=5)
    for document in itertools.islice(corpus(spec, mix, seed=0), 4000):
        question, _, response = document.removeprefix("User: ").partition("\nAssistant:")
        assert not any(
            is_held_out(Expression(tuple(map(int, re.findall(r"\d+", run))), tuple(operators)))
            for run in re.findall(r"\d+(?:[-+*]\d+)+", document)
            if "*" in (operators := re.findall(r"[-+*]", run)) and len(operators) > 1
        )
        score = accuracy_reward(response, str(eval(question))).score
        right[is_hasty(response)].append(score)
    assert len(right[True]) / 4000 == pytest.approx(0.6, abs=0.03)
    # all lines without a slip, and a few slips that cancel: 0.8 x 0.5 and 0.8 x 0.8 x 0.8
    assert sum(right[True]) / len(right[True]) == pytest.approx(0.40 + 0.02, abs=0.04)
    assert sum(right[False]) / len(right[False]) == pytest.approx(0.512 + 0.03, abs=0.05)


def test_a_slip_is_an_answer_that_is_off():
    assert bare_response(EXPRESSION, slip=3) == "<think> 7+3*4-5 </think><answer>17</answer>"
    assert untagged_response(EXPRESSION, slip=-20) == " 6"  # never negative


def test_answers_without_work_are_wrong_as_often_as_the_mix_says_and_worked_ones_never():
    mix = CorpusSpec(worked=0.5, bare=0.5, untagged=0.0, slips=0.7)
    right: dict[str, list[float]] = {"worked": [], "bare": []}
    for document in itertools.islice(corpus(SPEC, mix, seed=0), 4000):
        question, _, response = document.removeprefix("User: ").partition("\nAssistant:")
        right[solution_style(response)].append(accuracy_reward(response, str(eval(question))).score)
    assert min(right["worked"]) == 1.0
    assert sum(right["bare"]) / len(right["bare"]) == pytest.approx(0.3, abs=0.04)


def test_a_thought_that_is_never_closed_counts_as_no_thought():
    assert solution_style("<think>3*4=12\n7+12=19") == "none"


def test_corpus_keeps_to_its_mix():
    mix = CorpusSpec(worked=0.4, bare=0.3, untagged=0.2)
    documents = list(itertools.islice(corpus(SPEC, mix, seed=0), 5000))
    dialogues = [document for document in documents if document.startswith("User:")]
    answers = [document.partition("Assistant:")[2] for document in dialogues]
    styles = [solution_style(answer) for answer in answers]
    shares = {style: styles.count(style) / 5000 for style in ("worked", "bare", "none")}
    assert shares == pytest.approx({"worked": 0.4, "bare": 0.3, "none": 0.2}, abs=0.03)
    assert len(dialogues) / 5000 == pytest.approx(0.9, abs=0.02)
    assert all(document.startswith(TEMPLATE.render("")[:6]) for document in dialogues)


def test_a_mix_of_more_than_everything_is_refused():
    with pytest.raises(ValueError, match="sum to at most 1"):
        CorpusSpec(worked=0.6, bare=0.6)
