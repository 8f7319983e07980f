"""Kinds of answers that were once misread, in cases of our own."""

from __future__ import annotations

import pytest

from rewards import Component, Sample, Scorer, accuracy_reward
from tests.rewards.table import blind_three, blind_with_questions


def graded(answer: str, gold: str) -> bool:
    return accuracy_reward(rf"<think>So.</think> \boxed{{{answer}}}", gold).score == 1


EQUAL = {
    "letter, brace, bracket": [
        ("3^{m}(m+2)", "(m+2)3^m"),
        (r"\frac{1}{k}(k+3)", r"1+\frac3k"),
        ("q^{j}(1-q)^{m-j}", "(1-q)^{m-j}q^j"),
    ],
    "no mixed number in a script": [
        (r"y^3\frac{1}{5}", r"\frac{y^3}{5}"),
        (r"\log_3\frac{1}{9}", "-2"),
        (r"\pi r^3\frac{4}{3}", r"\frac43\pi r^3"),
    ],
    "subscripts": [
        ("k_BT", r"k_{B} T"),
        ("v^2_0", "v_0^2"),
        ("n_1c_vT", "n_1 c_{v} T"),
        ("v_{max}", "v_max"),
    ],
    "products of letters": [
        ("ad-bc", "-bc+ad"),
        (r"\frac12 mg", r"\frac{mg}{2}"),
        ("2 m g", "2mg"),
        ("e^{-at}", "e^{-a t}"),
    ],
    "bare units": [
        ("12 N", "12"),
        ("3.2 m/s^2", r"3.2\text{ m/s}^2"),
        ("7 W/m^2", "7"),
        ("4 Pa", r"4 \text{ Pa}"),
        ("6 keV", "6"),
    ],
    "scientific notation": [("4e-7", r"4 \times 10^{-7}"), ("10⁻⁶", "1e-6"), ("3×10¹²", "3e12")],
    "decimal commas": [("3{,}5", "3.5"), ("0{,}125", "0.125"), ("4{,}375", "4.375")],
    "signs": [("⅝", r"\frac58"), ("b₁₂", "b_{12}"), ("②④", "④、②"), ("x≦3", r"x \le 3")],
    "sets": [
        (r"\mathbb{R}\setminus[0,1]", r"(-\infty,0)\cup(1,\infty)"),
        (r"[0,5]\setminus(1,2)", r"[0,1]\cup[2,5]"),
    ],
    "constants": [
        ("Ae^{2x}+Be^{-x}", "C_1e^{2x}+C_2e^{-x}"),
        (r"\sin x + K", r"\sin x + C"),
    ],
    "derivatives": [("v' = -kv", r"\frac{dv}{dt} = -kv"), (r"\ddot{y}+y=0", "y''+y=0")],
    "bound letters": [
        (r"x = 2k\pi \text{ for some integer } k", r"x = 2k\pi"),
        (r"3n+1 \text{ for some integer } n", "3k+1"),
    ],
    "remainders": [(r"5 \pmod 8", "5"), ("5! = 120", "120"), ("5!=120", "120")],
    "nouns in other scripts": [("7 книг", "7"), ("第5天", "5")],
}
DIFFERENT = {
    "numbers": [
        ("1, 0234", "1234"), ("y^3\\frac{1}{5}", "y^{16/5}"), ("4e-7", "4e7"), ("3{,}5", "35"),
        ("4e-7", "4e-6"),
    ],
    "units": [("12 N", "12 J"), ("5 kN", "5"), ("3 m/s", "3 m/s^2"), ("5 x", "5")],
    "letters": [("ad-bc", "ac-bd"), ("v_0^2", "v_2^0"),
        ("k_BT", "k_{BT} + 1"), (r"\frac12 mg", "mg")],
    "sets": [(r"\mathbb{R}\setminus[0,1]", r"(-\infty,0)\cup[1,\infty)"), ("①③", "①④")],
    "constants": [("C_1e^x", "C_1e^{2x}"), ("Ax", "Bx"), ("k", "C")],
    "remainders": [(r"5 \pmod 8", "8"), (r"13 \pmod 8", "13")],
}  # fmt: skip


@pytest.mark.parametrize("kind", EQUAL)
def test_both_spellings_are_equal_both_ways(kind: str):
    assert [pair for pair in EQUAL[kind] if not graded(*pair)] == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_answers_stay_different(kind: str):
    assert [pair for pair in DIFFERENT[kind] if graded(*pair) or graded(*pair[::-1])] == []


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("(E) A triangle", "E", True),
        ("B: P(A) = 0.25", "B", True),
        ("D) vitamin C", "D", True),
        ("(A) B and C", "B", False),
        ("B) 6, C) 7", "B", False),
        ("B. is wrong", "B", False),
    ],
)
def test_a_choice_may_come_with_a_text_that_has_capitals(answer: str, gold: str, right: bool):
    assert graded(answer, gold) is right
    with Scorer({"choice": Component(weight=1.0)}) as scorer:
        sample = Sample(response=rf"\boxed{{{answer}}}", gold=gold)
        assert scorer.score_group([sample])[0].total == right


@pytest.mark.parametrize(
    "response",
    [
        "The answer is 5<eos>", "The answer is 5<end_of_turn>", "The answer is 5[/INST]", "Ответ: 5",
        "Réponse : 5",
        "**Antwort:** 5", "La respuesta final es $5$.", "答案应该是5。",
    ],
)  # fmt: skip
def test_a_statement_may_end_in_an_end_token_or_be_in_another_language(response: str):
    assert accuracy_reward(response, "5").score == 1


@pytest.mark.parametrize(
    "response", [r"The answer is not \boxed{5}.", r"If \boxed{5} were it, then 2 = 3."]
)
def test_a_denied_box_is_no_answer(response: str):
    assert accuracy_reward(response, "5").score == 0


@pytest.mark.parametrize("gold", ["#### 7", "3+4 is 7.\n#### 7", "<answer>7</answer>"])
def test_a_gold_may_come_in_its_marks(gold: str):
    assert graded("7", gold)
    assert not graded("8", gold)


def test_a_percentage_is_a_plain_number_where_the_question_asks_for_one():
    question = "By what percent did it rise?"
    assert accuracy_reward(r"\boxed{35\%}", "35", question=question).score == 1
    assert accuracy_reward(r"\boxed{35\%}", "35").score == 0


def test_an_answer_in_another_unit_than_the_question_asks_for_is_wrong():
    price, time = "How much does one pen cost in dollars?", "What time p.m. does it arrive?"
    for answer, gold, question, right in (
        ("12.50 cents", "12.50", price, False),
        ("12.50 dollars", "12.50", price, True),
        ("12.50 cents", "12.50", "How much does it cost?", True),
        ("3:45 a.m.", "3:45", time, False),
        ("3:45 p.m.", "3:45", time, True),
    ):
        reward = accuracy_reward(f"The answer is {answer}", gold, question=question)
        assert (reward.score == 1) is right, (answer, question)


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (r"I wrote \boxed{4}, but 4 is not prime. Correcting this, it is \boxed{3}.", 1),
        (r"\boxed{4} and then \boxed{3}.", 0),
        (r"\boxed{3} or 4", 0),
        (r"\boxed{3} or 3.0.", 1),
    ],
)
def test_a_box_may_be_corrected_but_not_offered_beside_another_number(response: str, score: int):
    assert accuracy_reward(response, "3").score == score


def test_the_third_blind_set_is_graded_as_well_as_recorded():
    score = {
        case["id"]: accuracy_reward(case["response"], case["gold"], question=case["question"]).score
        for case in blind_three()
    }
    wrong = [case for case in blind_three() if (score[case["id"]] == 1) != case["equal"]]
    assert not [case["id"] for case in wrong if not case["equal"]]  # none is wrongly paid
    assert len(wrong) <= 23


def test_the_second_blind_set_is_graded_as_well_as_recorded():
    wrong = [
        (case["kind"], case["response"][-80:], case["gold"])
        for case in blind_with_questions()
        if (accuracy_reward(case["response"], case["gold"], question=case["question"]).score == 1)
        != case["equal"]
    ]
    assert len(wrong) <= 4, wrong
