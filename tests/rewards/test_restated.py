"""Answers that repeat the question, and answers that are left undone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rewards import Component, Sample, Scorer, accuracy_reward

ECHOES = Path(__file__).resolve().parents[3] / "shared" / "bugs" / "echo.jsonl"


def paid(answer: str, gold: str, question: str) -> bool:
    return accuracy_reward(f"<answer>{answer}</answer>", gold, question=question).score == 1


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("7*2+16", "30", "7*2+16"),
        (r"7 \times 2 + 16", "30", "What is 7*2+16?"),
        ("16+7*2", "30", "7*2+16"),
        ("14+16", "30", "7*2+16"),
        (r"6 \times 7", "42", "What is 6 times 7?"),
        ("200000-130000", "70000", r"He sells for $\\$200,000$ and paid $\\$130,000$."),
        ("i^{7}", "-i", "Compute $i^7$."),
        (r"(2+i)^2", "3+4i", "Compute $(2+i)^2$."),
        ("(3-2i)-(5-2i)", "-2", "Evaluate $(3-2i)-(5-2i)$."),
        (r"\frac{1}{\sqrt{2}-1}", r"\sqrt{2}+1", r"Rationalize $\frac{1}{\sqrt{2}-1}$."),
        (r"\frac{5}{8}", "0.625", r"Express $\frac{5}{8}$ as a decimal."),
        ("(7*2)+16", "30", "7*2+16="),
        ("7*2+16 = 7*2+16", "30", "7*2+16"),
        ("3^{4}", "81", "Find $3^4$."),
        (r"\sqrt{50}", r"5\sqrt{2}", r"Simplify $\sqrt{50}$."),
        (r"\frac{6}{8}", r"\frac{3}{4}", r"Reduce $\frac{6}{8}$."),
        (r"0.\overline{3}", r"\frac{1}{3}", r"Write $0.\overline{3}$ as a fraction."),
        (r"\tbinom{6}{2}", "15", r"Compute $\binom{6}{2}$."),
        (r"\log_2 32", "5", r"What is $\log_2 32$?"),
        ("(x+1)^2", "x^2+2x+1", "Expand $(x+1)^2$."),
        ("2x+3=7", "x=2", "Solve $2x+3=7$."),
        ("x + y = 9", "9", "Reals satisfy $x + y = 9$. Find the largest $xy - 11.25$."),
    ],
)
def test_an_answer_that_repeats_the_question_does_not_count(answer: str, gold: str, question: str):
    assert accuracy_reward(f"<answer>{answer}</answer>", gold).score == 1
    assert not paid(answer, gold, question)


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("30", "30", "7*2+16"),
        ("7*2+16 = 30", "30", "7*2+16"),
        ("2^{100}", "2^{100}", "Is $2^{100}$ or $3^{60}$ larger?"),
        (r"\frac{1}{2}", "0.5", r"A coin shows heads with probability $\frac{1}{2}$."),
        (r"3\sqrt2", r"\sqrt{18}", r"One side is $3\sqrt2$ and the other 5. What is the shortest?"),
        ("x = 5", "5", "Which solves it, $x = 5$ or $x = 7$?"),
        (r"\binom{10}{3}", "120", "In how many ways can 3 of 10 be chosen?"),
        ("b + a", "a + b", "Give it in terms of $a + b$."),
        ("m + n = 35", "35", "In a class of 35, the ratio is $m:n$. Find $m + n$."),
        ("2^{10}", "2^{10}", "How many subsets has a set of 10?"),
        (r"4 \cdot 2^9", "2^{11}", "A set of 9 and one of 4."),
        ("Jean-Paul", "Jean-Paul", "Who is older, Jean-Paul or Marie?"),
    ],
)
def test_an_answer_that_is_worked_out_or_written_as_the_gold_counts(
    answer: str, gold: str, question: str
):
    assert paid(answer, gold, question)


def test_no_echo_of_generated_arithmetic_is_paid():
    generator = random.Random(1)
    for _ in range(200):
        a, b, c = (generator.randint(1, 20) for _ in range(3))
        question = generator.choice((f"{a}*{b}+{c}", f"{c}-{a}*{b}", f"{a}+{b}+{c}"))
        value = {"*": a * b + c, "-": c - a * b}.get(
            "-" if "-" in question else "*" if "*" in question else "+", a + b + c
        )
        assert not paid(question, str(value), question)
        assert paid(str(value), str(value), question)


@pytest.mark.skipif(not ECHOES.exists(), reason="needs ../shared/bugs")
def test_public_echoes_are_paid_as_they_should():
    cases = [json.loads(line) for line in ECHOES.read_text(encoding="utf-8").splitlines()]
    assert [
        case["id"]
        for case in cases
        if (accuracy_reward(case["response"], case["gold"], question=case["question"]).score == 1)
        != case["should_pay"]
    ] == []


@pytest.mark.parametrize(
    ("answer", "gold", "is_value"),
    [
        ("14+16", "30", False),
        (r"2 \cdot 3", "6", False),
        ("60/2", "30", False),
        (r"\binom{10}{3}", "120", False),
        (r"\sqrt{4}", "2", False),
        ("2^5", "32", False),
        (r"\binom{10}{3}", r"\binom{10}{7}", True),  # the gold is left undone too
        ("2^{100}", str(2**100), True),  # nobody writes it out
        (r"\frac{1}{2}", "0.5", True),
        (r"3\sqrt2", r"\sqrt{18}", True),
        (r"1 + \sqrt 2", r"\sqrt 2 + 1", True),
        (r"5.7 \times 10^3", "5700", True),
        ("10^{-3}", "0.001", True),
        (r"1\frac12", "1.5", True),
        ("2x + x", "3x", True),  # no number
    ],
)
def test_form_evaluated_wants_a_value(answer: str, gold: str, is_value: bool):
    response = f"<answer>{answer}</answer>"
    assert accuracy_reward(response, gold).score == 1
    assert (accuracy_reward(response, gold, form="evaluated").score == 1) is is_value


def test_form_can_differ_between_data_sources():
    options = {"form": "any", "per_data_source": {"sums": {"form": "evaluated"}}}
    scorer = Scorer({"accuracy": Component(weight=1.0, options=options)})
    samples = [
        Sample(response="<answer>14+16</answer>", gold="30", data_source=source)
        for source in ("sums", "other")
    ]
    with scorer:
        scores = scorer.score_groups([samples])[0]
    assert [score.total for score in scores] == [0.0, 1.0]
