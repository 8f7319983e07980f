"""Which groups become the batch, on groups whose rewards stand in the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from data.types import Problem
from grpo.config import load_config
from grpo.config.schema import BatchConfig
from grpo.rollout.batch_rules import Batch, fill_batch, is_zero_variance
from grpo.rollout.scoring import Collected, make_requests
from grpo.types import Group, Prompt, SamplingSettings, ScoredGroup
from rewards import Reward, Score

SETTINGS = SamplingSettings(num_samples=2, temperature=1.0, max_tokens=8, seed=0)
EQUAL, TEACHING = (1.0, 1.0), (1.0, 0.0)


def group(name: str, rewards: Sequence[float], accuracies: Sequence[float] = ()) -> ScoredGroup:
    prompt = Prompt(Problem(id=name, question=name, answer="1", source="test"), name, [1])
    scores = [
        Score(total=reward, components={"accuracy": Reward(accuracy, "", {})})
        for reward, accuracy in zip(rewards, accuracies or rewards, strict=True)
    ]
    return ScoredGroup(Group(prompt, []), scores)


def batch_of(rewards: Sequence[Sequence[float]], **rules: object) -> Batch:
    """The batch of three prompts, when the groups that come have these rewards."""
    coming = [group(f"g{i}", own) for i, own in enumerate(rewards)]

    def sample(stream, num_prompts, settings, step, rollouts, scorer, drawn):
        taken = coming[:num_prompts]
        del coming[:num_prompts]
        drawn.update(one.group.prompt.problem.id for one in taken)
        return Collected(taken, 1.0, 0.5)

    config = BatchConfig.model_validate({"num_prompts": 3, "num_samples": 2, **rules})
    return fill_batch(config, sample, None, SETTINGS, 1, None, None)  # type: ignore[arg-type]


def names(groups: Sequence[ScoredGroup]) -> list[str]:
    return [one.group.prompt.problem.id for one in groups]


def test_keep_trains_on_everything_that_was_sampled():
    batch = batch_of([EQUAL, TEACHING, EQUAL])
    assert names(batch.groups) == ["g0", "g1", "g2"]
    assert batch.counts_only == [False] * 3
    assert batch.numbers == {"groups_sampled": 3, "groups_trained": 3, "refills": 0}


def test_drop_leaves_equal_groups_in_the_denominators_alone():
    batch = batch_of([EQUAL, TEACHING, EQUAL], zero_variance="drop")
    assert names(batch.groups) == ["g0", "g1", "g2"]
    assert batch.counts_only == [True, False, True]
    assert batch.numbers["groups_trained"] == 1


def test_drop_without_counting_takes_them_out_of_the_batch():
    batch = batch_of([EQUAL, TEACHING, EQUAL], zero_variance="drop", count_dropped=False)
    assert (names(batch.groups), batch.counts_only) == (["g1"], [False])


def test_a_batch_in_which_every_group_is_dropped_keeps_its_size_and_trains_on_nothing():
    batch = batch_of([EQUAL] * 3, zero_variance="drop", count_dropped=False)
    assert batch.counts_only == [True] * 3
    assert batch.numbers["groups_trained"] == 0


def test_resample_draws_until_the_batch_teaches_and_takes_groups_in_the_order_of_their_draws():
    coming = [EQUAL, TEACHING, EQUAL, TEACHING, EQUAL, TEACHING, TEACHING]
    batch = batch_of(coming, zero_variance="resample")
    assert names(batch.groups) == ["g1", "g3", "g5"]
    assert len(batch.sampled) == 6
    assert batch.refills == 1
    assert (batch.sample_seconds, batch.score_seconds) == (2.0, 1.0)


def test_groups_beyond_the_batch_are_sampled_and_left_out():
    batch = batch_of([TEACHING] * 9, zero_variance="resample", prompts_per_draw=9)
    assert names(batch.groups) == ["g0", "g1", "g2"]
    assert batch.numbers == {"groups_sampled": 9, "groups_trained": 3, "refills": 0}


def test_after_the_last_refill_the_first_equal_groups_fill_the_batch_up():
    coming = [EQUAL, EQUAL, EQUAL, EQUAL, TEACHING, EQUAL, TEACHING, TEACHING, TEACHING]
    batch = batch_of(coming, zero_variance="resample", max_refills=1)
    assert names(batch.groups) == ["g0", "g1", "g4"]
    assert len(batch.sampled) == 6


def test_a_component_decides_where_the_recipe_names_one():
    late_but_right = group("a", (1.0, 0.4), accuracies=(1.0, 1.0))
    assert is_zero_variance(late_but_right, "accuracy")
    assert not is_zero_variance(late_but_right, "total")


def test_ungraded_responses_make_no_variance():
    scores = [Score(1.0, {}), Score(0.0, {}, graded=False)]
    assert is_zero_variance(ScoredGroup(group("a", EQUAL).group, scores), "total")


def test_a_problem_that_a_refill_draws_again_gets_other_samples():
    prompt, drawn = group("a", EQUAL).group.prompt, Counter[str]()
    first = make_requests([prompt], SETTINGS, 4, drawn)
    second = make_requests([prompt], SETTINGS, 4, drawn)
    assert not {request.seed for request in first} & {request.seed for request in second}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch.max_refills=3"], r"batch\.max_refills=3: only batch\.zero_variance=resample"),
        (["batch.count_dropped=false"], r"batch\.count_dropped=False: only .*=drop looks at it"),
        (
            ["batch.zero_variance=resample", "batch.variance_of=acuracy"],
            r"batch\.variance_of=acuracy: the recipe has no such reward.*accuracy",
        ),
        (["batch.variance_of=accuracy"], r"batch\.zero_variance=keep looks at no variance"),
        (
            ["batch={zero_variance: drop, count_dropped: false, num_updates: 2}"],
            "does not split into equal updates",
        ),
    ],
)
def test_settings_that_their_rule_would_ignore_are_refused(overrides: list[str], message: str):
    with pytest.raises(Exception, match=message):
        load_config("tiny", overrides)
