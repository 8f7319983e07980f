"""The rewards that check generated problems."""

from __future__ import annotations

import json

import pytest

from rewards import Sample
from rewards.checkers.blocksworld import blocksworld
from rewards.checkers.knights import knights
from rewards.checkers.multiplication import check_scratchpad, multiplication
from tests.data.helpers import generate

TASK = json.dumps({"initial": [["A", "B"], ["C"]], "goal": [["C", "B"], ["A"]], "moves": 1})


def kinds(text: str, a: int = 12, b: int = 34) -> list[str]:
    return [node.kind for node in check_scratchpad(text, a, b)]


def test_scratchpad_nodes_of_each_kind() -> None:
    assert kinds("12 * 4 = 48, 12 * 30 = 360, 48 + 360 = 408") == ["right"] * 3
    assert kinds("12 * 4 = 46, 12 * 30 = 360, 46 + 360 = 406") == ["local", "right", "propagated"]
    assert kinds("12 * 4 = 46, 12 * 30 = 360, 46 + 360 = 408") == ["local", "right", "restored"]
    assert kinds("12 * 4 = 48, 12 * 30 = 360, 48 + 360 = 418") == ["right", "right", "local"]
    assert kinds("12 * 4 = 46, 12 * 30 = 360, 46 + 360 = 416") == ["local", "right", "local"]


def test_the_parts_may_come_in_any_order_and_zeros_are_no_parts() -> None:
    assert kinds("12 * 30 = 360 then 12 * 4 = 48 then 360 + 48 = 408") == ["right"] * 3
    assert kinds("12 × 400 = 4800; 12 × 3 = 36; 4800 + 36 = 4836", b=403) == ["right"] * 3
    assert kinds("12 * 34 = 408") == ["right"]
    assert kinds("12 * 3 = 36") == [
        "propagated"
    ]  # the zero of 30 is lost: rightly worked on a wrong factor


def test_multiplication_reward_counts_nodes_and_may_pay_for_them() -> None:
    def sample(answer: int) -> Sample:
        text = "<think>12 * 4 = 46\n12 * 30 = 360\n46 + 360 = 406</think>"
        return Sample(
            response=f"{text}<answer>{answer}</answer>",
            gold="408",
            question="What is 12 * 34? Multiply ...",
        )

    wrong = multiplication(sample(406), scratchpad_weight=0.3)
    assert wrong.score == pytest.approx(0.1)  # one right node of three
    assert (wrong.details["right"], wrong.details["local"], wrong.details["propagated"]) == (
        1,
        1,
        1,
    )
    assert multiplication(sample(406)).score == 0.0
    assert multiplication(sample(408)).score == 1.0
    for problem in generate("multiplication", seed=2, count=30):
        response = f"<think>{problem.extra['scratchpad']}</think><answer>{problem.answer}</answer>"
        reward = multiplication(
            Sample(response=response, gold=problem.answer, question=problem.question)
        )
        lines = problem.extra["scratchpad"].count("\n") + 1
        assert (reward.score, reward.details["right"]) == (1.0, lines)


def plan(*lines: str, tags: bool = True, **fields: bool) -> Sample:
    text = "\n".join(lines)
    return Sample(
        response=f"<think>..</think><answer>{text}</answer>" if tags else text, gold=TASK, **fields
    )


@pytest.mark.parametrize(
    ("lines", "score", "reason"),
    [
        (["move B to C"], 1.0, "correct"),
        (["Move block B onto block C."], 1.0, "correct"),
        (["move B to table", "move B to C"], 1.0, "correct"),
        (["move A to C"], 0.0, "impossible_move"),  # B is on it
        (["move C to A"], 0.0, "impossible_move"),  # A is covered
        (["move D to C"], 0.0, "impossible_move"),
        (["move B to B"], 0.0, "impossible_move"),
        (["move B to table"], 0.0, "goal_not_reached"),
        (["no idea"], 0.0, "no_answer"),
        (["move B to table", "move B to A"] * 101, 0.0, "too_many_moves"),
    ],
)
def test_plans_are_carried_out(lines: list[str], score: float, reason: str) -> None:
    reward = blocksworld(plan(*lines))
    assert (reward.score, reward.reason) == (score, reason)


def test_efficiency_pays_for_short_plans() -> None:
    assert blocksworld(plan("move B to C"), efficiency=True).score == 2.0
    # two moves instead of one: excess ratio 1
    assert blocksworld(plan("move B to table", "move B to C"), efficiency=True).score == 1.5
    assert blocksworld(plan("move B to table"), efficiency=True).score == 0.0


def test_thoughts_and_truncated_answers_do_not_count() -> None:
    assert (
        blocksworld(Sample(response="<think>move B to C", gold=TASK)).reason == "unclosed_thought"
    )
    assert blocksworld(plan("move B to C", truncated=True)).reason == "truncated"
    assert blocksworld(plan("move B to C", tags=False)).score == 1.0
    assert (
        knights(Sample(response="Ava is a knight", gold="Ava is a knight", truncated=True)).score
        == 0.0
    )
    assert (
        multiplication(Sample(response="<answer>6</answer>", gold="6", truncated=True)).score == 0.0
    )


def test_generated_plans_are_right() -> None:
    for problem in generate("blocksworld", seed=9, count=20):
        reward = blocksworld(
            Sample(response=problem.extra["plan"], gold=problem.answer), efficiency=True
        )
        assert reward.score == 2.0


GOLD = "Ava is a knight, Ben is a knave"


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        (GOLD, 1.0, "correct"),
        ("ben is a KNAVE and Ava is the knight.", 1.0, "correct"),
        ("Ava is not a knave; Ben is not a knight", 1.0, "correct"),
        ("Ava is a knight", 0.5, "incomplete"),
        ("Ava is a knave, Ben is a knave", 0.5, "wrong"),
        ("Ava is a knight, Ava is a knave, Ben is a knave", 0.5, "wrong"),
        ("Ava is a knight, Ben is a knave, Cleo is a knight", 2 / 3, "wrong"),
        ("Ava is a knight or a knave, Ben is a knave", 0.5, "incomplete"),
        ("unclear", 0.0, "no_answer"),
    ],
)
def test_everyone_must_be_named_right(answer: str, score: float, reason: str) -> None:
    sample = Sample(response=f"<think>Ava is a knave</think><answer>{answer}</answer>", gold=GOLD)
    partial = knights(sample, partial=True)
    assert (partial.score, partial.reason) == (pytest.approx(score), reason)
    assert knights(sample).score == float(reason == "correct")
