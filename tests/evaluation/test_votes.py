"""Ballots: which responses say the same, by the grader's equality."""

from __future__ import annotations

import pytest

from grpo.evaluation.votes import ballots
from rewards import Component, Sample, Scorer


def vote(*responses, gold="1/2", question="", source="", checker="accuracy", **options):
    """Ballots of some responses; one that is a tuple was cut off."""
    scorer = Scorer({checker: Component(weight=1.0, options=options)})
    samples = [
        Sample(
            response=response if isinstance(response, str) else response[0],
            gold=gold,
            question=question,
            data_source=source,
            truncated=not isinstance(response, str),
        )
        for response in responses
    ]
    scores = scorer.score_group(samples)
    right = [score.components[checker].score >= 1 for score in scores]
    return ballots(samples, right, checker, scorer)


def test_equal_values_are_one_answer_whatever_their_text():
    found = vote(
        r"\boxed{0.5}",
        r"\boxed{\frac12}",
        r"\boxed{3}",
        r"\boxed{6/2}",
        r"\boxed{4}",
        r"\boxed{3.0}",
    )
    assert [number for _, number in found] == [0, 0, 1, 1, 2, 1]
    assert found[3][0] == "6/2"


def test_who_has_no_vote():
    found = vote(
        "",  # nothing
        "I cannot tell.",
        (r"\boxed{0.5}",),  # right, and cut off
        r"<think> \boxed{3}",  # never left the thought
        r"\boxed{3} or rather \boxed{4}",  # several answers
        r"\boxed{7}",
    )
    assert [number for _, number in found] == [None] * 5 + [1]


def test_the_rules_of_a_data_source_hold_between_answers_too():
    texts = (r"\boxed{100}", r"\boxed{100.5}")
    exact = vote(*texts, gold="7")
    loose = vote(*texts, gold="7", source="minerva", per_data_source={"minerva": {"rel_tol": 0.01}})
    assert [number for _, number in exact] == [1, 2]
    assert [number for _, number in loose] == [1, 1]


@pytest.mark.parametrize("blank", ["", " "])
def test_answers_of_other_checkers_are_compared_as_text_without_blanks(blank):
    gold = '{"numbers": [2, 3, 4], "target": 14}'
    answers = ("2+3*4", "3*4+2", f"2*3{blank}+4", "2*3+4")
    found = vote(*(f"<answer>{a}</answer>" for a in answers), gold=gold, checker="countdown")
    assert [number for _, number in found] == [0, 0, 1, 1]
