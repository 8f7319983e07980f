"""The numbers of a step and of an evaluation, against hand-made groups."""

from __future__ import annotations

import pytest

from data.types import Problem
from grpo.evaluation.metrics import rollout_metrics, sample_rows
from grpo.miniature.answer_style import answer_style, careful_work, growth
from grpo.run import verdict
from grpo.types import Group, Prompt, Response, ScoredGroup
from rewards import Component, Sample, Scorer

WORKED = "<think>\n2*3=6\n1+6=7\n</think><answer>7</answer>"
BARE = "<think> 1+2*3 </think><answer>9</answer>"
UNTAGGED = " 7"


def scored(*groups, requires=()):
    """Groups of (text, number of tokens, truncated), scored by accuracy and format."""
    scorer = Scorer(
        {"accuracy": Component(weight=1.0, requires=requires), "format": Component(weight=0.1)}
    )
    result = []
    for i, texts in enumerate(groups):
        problem = Problem(id=f"p{i}", question="1+2*3", answer="7", source="arithmetic")
        responses = [
            Response(j, [5] * length, text, [0.0] * length, "length" if truncated else "stop", 3, j)
            for j, (text, length, truncated) in enumerate(texts)
        ]
        samples = [Sample(response=text, gold="7") for text, _, _ in texts]
        group = Group(Prompt(problem, "User: 1+2*3", [1, 2]), responses)
        result.append(ScoredGroup(group, scorer.score_groups([samples])[0]))
    return result


GROUPS = [[(WORKED, 20, False), (BARE, 10, False)], [(BARE, 10, False), (BARE, 8, True)]]


def test_the_numbers_of_a_step():
    numbers = rollout_metrics(scored(*GROUPS))
    assert numbers["accuracy"] == numbers["reward/accuracy"] == 0.25
    assert numbers["format"] == 1.0
    assert numbers["reward"] == pytest.approx(0.25 + 0.1)
    assert numbers["reward_std"] == pytest.approx(0.1875**0.5)
    assert (numbers["response_length"], numbers["response_length_max"]) == (12, 20)
    assert numbers["generated_tokens"] == 48
    assert numbers["truncation_share"] == 0.25
    assert numbers["zero_variance_share"] == 0.5


def test_gating_changes_what_is_paid_and_not_what_is_right():
    groups = scored([("<answer>7</answer>", 4, False), (BARE, 4, False)], requires=("format",))
    numbers = rollout_metrics(groups)
    assert numbers["reward/accuracy"] == 0.0
    assert numbers["accuracy"] == 0.5


def test_styles_and_the_accuracy_within_each():
    numbers = answer_style(scored(*GROUPS))
    assert (numbers["worked_share"], numbers["worked_accuracy"]) == (0.25, 1.0)
    assert (numbers["bare_share"], numbers["bare_accuracy"]) == (0.75, 0.0)
    assert numbers["none_share"] == 0.0
    assert "none_accuracy" not in numbers  # no such answer, so no accuracy of them


def test_careful_and_hasty_work_and_the_accuracy_within_each():
    hasty = "<think>\n1+2*3=9\n</think><answer>9</answer>"
    lucky = "<think>\n1+2*3=7\n</think><answer>7</answer>"
    # BARE shows no work, so it is neither of the two.
    texts = [(text, 9, False) for text in (WORKED, hasty, lucky, BARE)]
    numbers = careful_work(scored(texts))
    assert numbers == {"careful_share": 1 / 3, "careful_accuracy": 1.0, "hasty_accuracy": 0.5}
    assert careful_work(scored([(BARE, 9, False)])) == {}


def test_growth_splits_the_gain_into_shift_and_work():
    base = {"worked_share": 0.4, "worked_accuracy": 0.9, "bare_share": 0.4, "bare_accuracy": 0.1}
    final = {"worked_share": 0.9, "worked_accuracy": 0.95, "bare_share": 0.1, "bare_accuracy": 0.2}
    nothing = {"none_share": 0.2, "none_accuracy": 0.0}
    parts = growth(base | nothing, final | nothing | {"none_share": 0.0})
    assert parts["from_shift_of_style"] == pytest.approx(0.5 * 0.9 - 0.3 * 0.1)
    assert parts["from_better_work"] == pytest.approx(0.9 * 0.05 + 0.1 * 0.1)
    assert parts["accuracy_gain"] == pytest.approx(
        (0.9 * 0.95 + 0.1 * 0.2) - (0.4 * 0.9 + 0.4 * 0.1)
    )


@pytest.mark.parametrize(
    ("gain", "word"),
    [(0.06, "improved"), (0.05, "unchanged"), (-0.05, "unchanged"), (-0.06, "worse")],
)
def test_the_verdict_on_a_gain(gain, word):
    assert verdict(gain) == word


def test_a_table_of_samples_is_cut_by_rows_and_knows_its_step():
    rows = sample_rows(15, scored(*GROUPS), limit=3)
    assert [row["problem_id"] for row in rows] == ["p0", "p0", "p1"]
    assert {row["step"] for row in rows} == {15}
    assert "advantage" not in rows[0]
