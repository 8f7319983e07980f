"""What an answer means beside its question, in cases of our own."""

from __future__ import annotations

import pytest

from rewards import accuracy_reward

PERCENT = "What percent of the class is absent?"
POINTS = "By how many percentage points did the rate rise?"
BASE = "Express the sum in base $6$."
SPELT = "What is the base seven equivalent of $50_{10}$?"
SQUARE = "The ellipses share their foci. Find $a^2.$"
ORDER = r"Arrange the numbers $3, \sqrt{3}, 3^3$ in increasing order."
UPRIGHT = r"How long is the wire (in $\mathrm{~cm}$ )?"
RATE = r"Find the rate, in units of $\mathrm{s}^{-1}$."
VOLTS = "Which potential is needed? Give an integer, in Volts."
TURN = r"Compute $\sin 390^\circ$."
CONJUGATE = r"Compute the product of $4+\sqrt{2}$ and its conjugate."
COMPLEX = "Evaluate $(2+i)3-5i$."


@pytest.mark.parametrize(
    ("question", "gold", "right", "wrong"),
    [
        (PERCENT, r"12.5\%", ("12.5", r"12.5\%", "0.125"), ("1.25", "125", "0.125\\%")),
        (PERCENT, "12.5", (r"12.5\%", r"\(12.5\%\)"), (r"125\%",)),
        (POINTS, r"4\%", ("4",), ("5",)),
        ("Find the rate of markup on cost.", r"25\%", ("25",), ("20",)),
        ("Which share is absent?", r"12.5\%", ("0.125",), ("12.5",)),
        ("If the percentage of goats is 30%, how many goats are there?", "6", ("6",), (r"6\%",)),
        ("What was the percent profit?", "6", ("6", r"6\%"), ("7",)),
        (BASE, "24_6", ("24", "24_6", "**24**"), ("16", "24_7", "42")),
        (SPELT, "101_7", ("101",), ("50_7", "110")),
        ("Write it in binary.", "1101_2", ("1101",), ("13_2",)),
        ("Write $50$ with seven digits.", "101_7", (), ("101",)),
        (SQUARE, "7", ("a^2 = 7", "a^{2}=7", "7"), ("b^2 = 7", "A^2 = 7", "2a^2 = 7", "a^2 = 8")),
        ("Find $a^2 + 3.$", "7", ("a^2 + 3 = 7",), ("a^2 = 7",)),
        (ORDER, r"\sqrt{3}, 3, 3^3", (r"\sqrt3, 3, 3^3", r"\sqrt{3} < 3 < 27", r"\sqrt{3}, 3 \text{ and } 3^3"),
         (r"3^3, 3, \sqrt{3}", r"3, \sqrt{3}, 3^3", r"3^3 > 3 > \sqrt{3}", r"\sqrt{3}, 3")),
        ("List all roots.", "1, 2, 3", ("3, 2, 1",), ("3, 2",)),
        (UPRIGHT, "2.5", ("2.5", r"2.5\text{ cm}"), (r"2.5\text{ mm}", "2.5 m")),
        (RATE, "3.5", ("3.5", r"3.5\text{ s}^{-1}"), (r"3.5\text{ min}^{-1}",)),
        (VOLTS, "2100", ("2100 V", "2100"), (r"2100\text{ kV}", "2100 mV")),
        (TURN, r"\frac12", ("0.5", r"\frac{1}{2}"), (r"\sin 30^\circ", r"\cos 60^\circ")),
        (CONJUGATE, "14", ("14",), (r"(4+\sqrt2)(4-\sqrt2)",)),
        (COMPLEX, "6-2i", ("6-2i", "2(3-i)"), ("3(2+i)-5i",)),
        ("Evaluate it in terms of $a$.", r"2+2\sqrt3", (r"2(1+\sqrt3)",), (r"(1+\sqrt3)(3-\sqrt3)+2",)),
    ],
)  # fmt: skip
def test_answers_are_read_as_the_question_asks(
    question: str, gold: str, right: tuple[str, ...], wrong: tuple[str, ...]
):
    paid = [
        answer
        for answer in right + wrong
        if accuracy_reward(f"<answer>{answer}</answer>", gold, question=question).score == 1
    ]
    assert paid == [*right]


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        (r"\boxed{i + \frac{j}{2}}\%", r"\left(i + \frac{j}{2}\right)\%", True),
        (r"\boxed{i + \frac{j}{2}}\%", r"i + \frac{j}{2}\%", True),
        (r"\boxed{i + \frac{j}{3}}\%", r"\left(i + \frac{j}{2}\right)\%", False),
    ],
)
def test_a_percent_sign_behind_a_box_belongs_to_the_whole_sum(
    response: str, gold: str, right: bool
):
    assert (accuracy_reward(response, gold).score == 1) is right
