"""Which answers can be graded by rule. The table was labelled by hand before the rules were written down."""

from __future__ import annotations

import pytest

from data.cleaning.base import Context
from data.cleaning.gradable import Gradable, why_not_gradable
from data.cleaning.guessable import DropChoices
from tests.data.helpers import SHARED, generate, needs_shared, problem, read_jsonl

GRADABLE = [
    "5", "-3", "0.25", "1,000", r"\frac{1}{2}", "3/4", r"2\sqrt{3}", r"\pi", "50%", r"50\%", r"\$12.50", "x^2 + 1",
    "(1, 2)", "(2, 1), (3, 1), (1, 2), (1, 3)", "1, 2, 3", "1.5, 2.5", "[0, 1)", r"(-\infty, 2) \cup (3, \infty)",
    r"x > 2 \text{ or } x < -1", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"4 \text{ feet}", "12 square feet per minute",
    "7 minutes and 5 seconds", r"3200 \mathrm{~cm}^{3}", r"90^\circ", "r = 4, s = 5", r"\text{(1) and (4)}", "I, II and III",
    "(1)(2)(4)", r"\text{(C)}", r"\text{even}", "Bob", "NNNYYY", r"\text{No}", "no solution", "3x(3x+1)", "(a+b)(a-b)",
    "abc+bcd+xyz", r"f(x) = x \text{ or } f(x) = -x", r"\sin^2 x + \cos x", r"52_8", r"2 \pm \sqrt{3}", "1:2",
    r"\{1, 2, 5\}", r"\left\{1, 2\right\}", r"\binom{10}{3}", "2^{100}", r"0.\overline{3}", "8.7e8", "10 meters, 5 seconds",
    "all real numbers", r"\text{All real numbers}", "①②④", "①, ③", "log 2, sin 3", "5 feet, 6 inches", "q, 1", "Room 5",
    "no real solutions", "the empty set", "does not exist", r"\text{cannot be determined}", "the first player",
    "So the answer is 18.", "The minimum value is 4", "There are infinitely many solutions", "all real numbers except 2",
    "All positive real numbers", r"\text{all positive integers}", "[0, 1] \\cup [2, 3]", "x = 1 or x = 2", r"\$8",
]  # fmt: skip

UNGRADABLE = {
    "(a) 5 (b) 7": "multi_part",
    "a) 3, b) 4": "multi_part",
    "(1) 5; (2) 7": "multi_part",
    r"(i) $x=2$ (ii) $y=3$": "multi_part",
    "Part (a): 5, Part (b): 6": "multi_part",
    "1. 5 2. 7": "multi_part",
    "1) 5\n2) 7": "multi_part",
    r"\text{(a)} 5, \text{(b)} 7": "multi_part",
    "perimeter: 12, area: 8": "multi_part",
    "maximum 5, minimum 2": "multi_part",
    r"\text{max } 5 \text{ and min } -2": "multi_part",
    "Q1: 3, Q2: 4": "multi_part",
    "Question 1: 3; question 2: 4": "multi_part",
    "① 3 ② 4": "multi_part",
    "(Ⅰ) 3 (Ⅱ) 5": "multi_part",
    "**a)** 3 **b)** 5": "multi_part",
    r"\begin{enumerate} \item 3 \item 5 \end{enumerate}": "multi_part",
    "[1] 5 [2] 7": "multi_part",
    "1a) 5, 1b) 6": "multi_part",
    "center (1,2), radius 3": "multi_part",
    "It costs \\$8": "free_text",
    "He walked 8 km": "free_text",
    "all real numbers but those of the first kind": "free_text",
    "The triangle is isosceles because AB = AC": "free_text",
    r"\text{No such integer exists}": "free_text",
    "all primes that are congruent to 1 modulo 4": "free_text",
    r"f(x)=a x+b, where b is an arbitrary integer": "free_text",
    "It follows from the triangle inequality": "free_text",
    "the number is even": "free_text",
    "Yes, because 7 divides 21": "free_text",
    "x = 2 when y = 3": "free_text",
    "$n$ is odd": "free_text",
    r"2 \text{ if } n \text{ is even}": "free_text",
    "12 (first part), 15 (second part)": "multi_part",
    "\\[ x = 1 \\]\n\\[ y = 2 \\]": "multi_part",
    "See the solution": "no_answer",
    "Answers may vary": "no_answer",
    "N/A": "no_answer",
    "(see figure)": "no_answer",
    "Figure 3": "no_answer",
    "omitted": "no_answer",
    "Solution omitted": "no_answer",
    "略": "no_answer",
    "TBD": "no_answer",
    "varies": "no_answer",
    "x =": "no_answer",
    "—": "no_answer",
    "![](figure.png)": "no_answer",
    "-": "no_answer",
    "Proof: by induction on n": "proof",
    r"We will show that $n$ is even. $\blacksquare$": "proof",
    r"\begin{tabular}{ll} 0 & 1 \end{tabular}": "not_an_expression",
    "[asy] draw((0,0)--(1,1)); [/asy]": "not_an_expression",
    "7" * 600: "too_long",
    r"\frac{1}{2": "broken_latex",
    "5}": "broken_latex",
    "614.519...": "elided",
    r"6, 8, 10, \ldots": "elided",
}


@pytest.mark.parametrize("answer", GRADABLE)
def test_values_stay(answer: str) -> None:
    assert why_not_gradable("What is it?", answer) is None


@pytest.mark.parametrize("answer", UNGRADABLE)
def test_the_rest_goes_with_its_reason(answer: str) -> None:
    assert why_not_gradable("What is it?", answer) == UNGRADABLE[answer]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Prove that $n(n+1)$ is even.", "proof"),
        ("Show that every such graph has a cycle.", "proof"),
        ("Let $f$ be linear. Give a proof of the inequality.", "proof"),
        ("Let $f(k)$ be the number of ways to factor $k$. Prove: $f(n) \\leq n$.", "proof"),
        ("We find that $c = 2$. Prove that $c$ is the largest value.", "proof"),
        ("Verify that $x = 2$ is a root.", "proof"),
        ("Explain why the sum is even.", "proof"),
        ("Construct the midpoint with ruler and compass.", "proof"),
        ("求证：$n(n+1)$ 是偶数。", "proof"),
        ("Show that $f$ is linear and find its slope.", None),
        ("What is the root? Justify your answer.", None),
        ("Find the gcd of 12 and 18, and verify it by subtraction.", None),
        ("Prove that there is a largest $n$. What is it?", None),
        ("What is shown in the picture?", None),
        ("Determine all $n$, and prove that there are no others.", None),
    ],
)
def test_a_question_that_only_asks_for_a_proof_goes(question: str, reason: str | None) -> None:
    assert why_not_gradable(question, "1") == reason


def test_a_gold_that_the_grader_refuses_goes() -> None:
    # a closing tag inside the gold: no model can ever answer with it
    result = Gradable().run([problem("x", "1</answer> or 2"), problem("y", "1")], Context())
    assert [p.id for p in result.kept] == ["y"]
    assert result.dropped[0].reason.startswith("gold_fails_grader: ")


def test_problems_with_a_checker_of_their_own_stay() -> None:
    problems = [
        p
        for name in ("knights", "blocksworld", "countdown")
        for p in generate(name, seed=0, count=4)
    ]
    assert Gradable().run(problems, Context()).kept == problems


@needs_shared
@pytest.mark.parametrize(
    "name", ["math500", "gsm8k_test", "aime24", "aime25", "amc23", "minerva", "olympiadbench"]
)
def test_evaluation_sets_are_gradable(name: str) -> None:
    rows = read_jsonl(SHARED / f"{name}.jsonl")
    bad = [row["answer"] for row in rows if why_not_gradable(row["problem"], row["answer"])]
    assert len(bad) <= 0.005 * len(rows), bad[:5]


def test_choices_are_guessable() -> None:
    choices = "Which? (A) 1 (B) 2 (C) 3 (D) 4"
    rows = [
        problem(choices, r"\text{(C)}", id="choice"),
        problem(choices, "3", id="value"),
        problem("Which point is it, A or B?", "B", id="point"),
        problem("Is it prime?", r"\text{Yes}", id="yes"),
    ]
    result = DropChoices().run(rows, Context())
    assert [p.id for p in result.kept] == ["value", "point"]
    assert [d.reason for d in result.dropped] == ["multiple_choice", "true_false"]
