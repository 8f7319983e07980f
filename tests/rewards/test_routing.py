"""Rows name the reward that decides whether they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest

from rewards import Component, Reward, Sample, Scorer, register
from rewards.checkers.blocksworld import BlocksworldGold
from rewards.checkers.countdown import CountdownGold
from rewards.checkers.knights import KnightsGold
from rewards.checkers.multiplication import MultiplicationGold

TASK = CountdownGold([3, 7], 21).to_text()


def maths(answer: str, **more: str) -> Sample:
    text = f"<think>so</think><answer>{answer}</answer>"
    return Sample(response=text, gold="42", **{"reward": "accuracy", **more}, max_tokens=100)


def numbers(answer: str) -> Sample:
    text = f"<think>so</think><answer>{answer}</answer>"
    return Sample(response=text, gold=TASK, reward="countdown", max_tokens=100)


MIXED = {
    "accuracy": Component(weight=1.0),
    "countdown": Component(weight=2.0),
    "format": Component(weight=0.1),
}


def test_a_mixed_batch_is_scored_by_the_reward_that_each_row_names():
    groups = [[maths("42"), maths("41")], [numbers("3*7"), numbers("3+7")]]
    scores = Scorer(MIXED).score_groups(groups)
    totals = [[score.total for score in row] for row in scores]
    assert totals == [[pytest.approx(1.1), 0.1], [pytest.approx(2.1), 0.1]]
    assert [list(row[0].components) for row in scores] == [
        ["accuracy", "format"],
        ["countdown", "format"],
    ]


@register("own_verdict")
def own_verdict(sample: Sample, earlier: Mapping[str, Reward], correct: str = "accuracy") -> Reward:
    return Reward(earlier[correct].score, "ok")


@register("own_verdicts", group=True)
def own_verdicts(samples: Sequence[Sample], earlier: Sequence[Mapping[str, Reward]]) -> list:
    return [Reward(one["accuracy"].score, "ok") for one in earlier]


def test_rewards_that_look_at_accuracy_see_the_checker_of_the_row():
    components = {
        **{name: Component(weight=0.0) for name in ("accuracy", "countdown")},
        "own_verdict": Component(weight=1.0),
        "own_verdicts": Component(weight=1.0),
        "format": Component(weight=4.0, requires=["accuracy"]),
    }
    group = [maths("42"), numbers("3*7"), maths("1"), numbers("3+7")]
    scores = Scorer(components).score_group(group)
    assert [score.total for score in scores] == [6.0, 6.0, 0.0, 0.0]
    assert scores[3].components["format"].reason == "gated_by_accuracy"


def test_the_only_checker_of_a_recipe_stands_in_for_accuracy():
    components = {"countdown": Component(weight=1.0), "own_verdict": Component(weight=1.0)}
    [score] = Scorer(components).score_group([numbers("3*7")])
    assert score.total == 2.0
    with pytest.raises(ValueError, match="needs the component 'accuracy'"):
        Scorer({**components, "own_verdict": Component(weight=1, options={"correct": "accuracy"})})


@pytest.mark.parametrize(
    ("components", "sample", "reason"),
    [
        (["accuracy", "countdown"], maths("42"), None),
        (["accuracy", "countdown"], numbers(""), None),
        (["accuracy"], numbers(""), "the reward 'countdown', which the recipe lacks; add"),
        (["countdown"], maths("42"), "needs a gold like"),
        (["numeric"], maths("42"), None),  # a plain gold may be read by another checker
        (["accuracy", "countdown"], maths("", reward=""), "set its `reward` to one of accuracy, "),
        (["accuracy"], maths("", reward="acuracy"), "did you mean 'accuracy'?"),
        (["accuracy"], Sample(response="", gold=" "), "has an empty gold"),
        (["format"], maths("", reward="countdown"), None),  # nothing in it is about right or wrong
    ],
)
def test_rows_that_a_recipe_cannot_score_are_found(
    components: list[str], sample: Sample, reason: str | None
):
    scorer = Scorer({name: Component(weight=1.0) for name in components})
    found = scorer.can_score(sample)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("name", "gold", "bad"),
    [
        ("countdown", TASK, '{"numbers": [3, 7]}'),
        ("countdown", '{"numbers": [2, 3], "target": "3/2"}', '{"numbers": [1], "target": "1/0"}'),
        ("blocksworld", BlocksworldGold([["A", "B"]], [["B"], ["A"]], 1).to_text(), "move A to B"),
        ("knights", "Ava is a knight, Ben is a knave", "Ava is a knight, Ava is a knave"),
        ("multiplication", "408", "12 * 34"),
        ("function_call", '{"name": "f", "arguments": {}}', '{"name": "f"}'),
    ],
)
def test_golds_that_a_checker_cannot_read_are_found(name: str, gold: str, bad: str):
    scorer = Scorer({name: Component(weight=1.0)})
    assert scorer.can_score(Sample(response="", gold=gold, reward=name)) is None
    reason = scorer.can_score(Sample(response="", gold=bad, reward=name))
    assert reason is not None and name in reason


def test_golds_come_back_from_their_texts():
    assert TASK == '{"numbers": [3, 7], "target": 21}'
    for countdown in (CountdownGold([3, 7], 21), CountdownGold([2, 3], Fraction(3, 2))):
        assert CountdownGold.from_text(countdown.to_text()) == countdown
    blocks = BlocksworldGold([["A", "B"]], [["B"], ["A"]], 1)
    assert BlocksworldGold.from_text(blocks.to_text()) == blocks
    knights = KnightsGold({"ava": True, "ben": False})
    assert KnightsGold.from_text(knights.to_text()) == knights
    assert MultiplicationGold.from_text("408") == MultiplicationGold(408)


def test_per_token_rewards_are_summed_by_weight_and_stay_out_of_the_total():
    component = Component(weight=2.0, options={"ngram": 2, "penalty": -0.05})
    scorer = Scorer({"token_repetition": component, "format": Component(weight=1.0)})
    assert scorer.needs_tokens and not Scorer(MIXED).needs_tokens
    [score] = scorer.score_group([Sample(response="", gold="", token_ids=[1, 2, 3, 1, 2])])
    assert score.token_scores == [0.0, 0.0, 0.0, -0.1, -0.1]  # the second 1, 2 occurred before
    assert score.total == 0.0
    assert score.components["token_repetition"].score == -0.1


@register("short_by_one", per_token=True)
def short_by_one(sample: Sample) -> Reward:
    return Reward(0.0, "ok", token_scores=[1.0] * (len(sample.token_ids) - 1))


def test_a_per_token_reward_must_have_a_score_for_each_token():
    [score] = Scorer({"short_by_one": Component(weight=1.0)}).score_group(
        [Sample(response="", gold="", token_ids=[1, 2])]
    )
    reward = score.components["short_by_one"]
    assert (reward.reason, score.token_scores) == ("error", None)
    assert "1 finite token scores for 2 tokens" in reward.details["error"]


@pytest.mark.parametrize(
    ("end", "score"),
    [
        ("<|eot_id|>", 1.0),
        ("<|im_end|>\n<|endoftext|>", 1.0),
        ("</s>", 1.0),
        ("<end_of_turn>", 1.0),
        ("<｜end▁of▁sentence｜>", 1.0),
        (" that is all", 0.0),
        ("<|im_start|>", 0.0),
        ("<|eot_id|>" * 20_000, 1.0),
    ],
)
def test_end_tokens_do_not_break_the_format(end: str, score: float):
    sample = Sample(response=f"<think>a</think> <answer>5</answer>{end}", gold="5")
    assert Scorer({"format": Component(weight=1.0)}).score_group([sample])[0].total == score
