"""Rewards of users that fail, and machines that do."""

from __future__ import annotations

import pytest

from rewards import Component, Sample, Scorer
from rewards.execution import pool as pools
from rewards.execution.pool import Pool, Task
from rewards.types import InfrastructureError, RewardFailedError, WorkerStartError

RETURNED = {
    "reward": (0.25, "ok"),
    "number": (0.5, "number"),
    "numpy": (0.5, "number"),
    "numpy score": (0.5, "ok"),
    "whole": (2.0, "number"),
    "true": (1.0, "number"),
    "nan": (0.0, "error"),
    "nan score": (0.0, "error"),
    "none": (0.0, "error"),
    "text": (0.0, "error"),
    "array": (0.0, "error"),
    "beyond a float": (0.0, "error"),
    "raise": (0.0, "error"),
}
MODULES = ["tests.rewards.faulty_rewards"]


def of(*responses: str) -> list[Sample]:
    return [Sample(response=response, gold="") for response in responses]


def test_what_a_reward_returns_counts_alike_here_and_in_workers():
    scores = []
    for num_workers in (0, 1):
        with Scorer(
            {"faulty": Component(weight=1.0)}, modules=MODULES, num_workers=num_workers
        ) as scorer:
            scores.append(scorer.score_group(of(*RETURNED)))
    here, there = scores
    rewards = {name: score.components["faulty"] for name, score in zip(RETURNED, here, strict=True)}
    assert {name: (r.score, r.reason) for name, r in rewards.items()} == RETURNED
    assert here == there
    assert type(rewards["numpy"].score) is float and rewards["numpy score"].details["share"] == 0.5
    assert rewards["raise"].details["error"] == "KeyError: 'no such thing'"
    assert rewards["none"].details["error"] == (
        "it returned None; return a Reward or a finite number"
    )
    assert "a Reward with the score inf" in rewards["nan score"].details["error"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_first_failure_is_told_once_with_its_text_and_its_line(num_workers: int):
    told: list[str] = []
    with Scorer(
        {"faulty": Component(weight=1.0)},
        modules=MODULES,
        num_workers=num_workers,
        on_failure=told.append,
    ) as scorer:
        for _ in range(2):
            scorer.score_group(of("number", "raise", "raise"))
    [message] = told
    assert message.startswith("the reward 'faulty' failed: KeyError: 'no such thing' (faulty_rew")
    assert "in faulty)" in message


def test_a_failure_is_shown_on_stderr_by_default(capsys: pytest.CaptureFixture):
    Scorer({"faulty": Component(weight=1.0)}, modules=MODULES).score_group(of("nan", "number"))
    assert "the reward 'faulty' failed: it returned nan" in capsys.readouterr().err


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_reward_that_fails_on_nine_of_ten_samples_ends_the_run(num_workers: int):
    with Scorer(
        {"faulty": Component(weight=1.0)}, modules=MODULES, num_workers=num_workers
    ) as scorer:
        scorer.score_group(of(*["raise"] * 8, "number", "number"))  # 8 of 10 are not nearly all
        scorer.score_group(of(*["raise"] * 7))  # 7 samples are too few to tell
        with pytest.raises(RewardFailedError, match=r"components.faulty: .*KeyError.* on 12 of 12"):
            scorer.score_group(of(*["raise"] * 5))  # small groups are counted together


def test_a_group_reward_must_return_one_reward_for_each_sample():
    scores = Scorer({"unequal": Component(weight=1.0)}, modules=MODULES).score_group(of("a", "b"))
    assert [score.components["unequal"].reason for score in scores] == ["error", "error"]
    assert "1 rewards for 2 samples" in scores[0].components["unequal"].details["error"]


def test_answers_whose_worker_is_killed_twice_from_outside_are_ungraded():
    with Scorer(
        {"hostile": Component(weight=1.0)},
        modules=["tests.rewards.hostile_rewards"],
        num_workers=1,
        wall_seconds=0.5,
    ) as scorer:
        scores = scorer.score_group(of("good", "kill", "segfault", "sleep"))
    found = [(s.graded, s.total, s.components["hostile"].reason) for s in scores]
    assert found == [
        (True, 1.0, "ok"),
        (False, 0.0, "killed"),
        (True, 0.0, "crash"),
        (True, 0.0, "timeout"),
    ]


def test_without_workers_samples_are_ungraded_and_the_third_call_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(self: Pool) -> None:
        raise WorkerStartError("a reward worker cannot start: no memory")

    monkeypatch.setattr(pools.Pool, "start_worker", refuse)
    told: list[str] = []
    components = {"faulty": Component(weight=1.0), "format": Component(weight=1.0)}
    scorer = Scorer(components, modules=MODULES, num_workers=1, on_failure=told.append)
    for _ in range(2):
        [score] = scorer.score_group(of("number"))
        assert not score.graded
        assert score.components["faulty"].reason == "no_worker"
        assert score.components["format"].graded
    assert told == ["a reward worker cannot start: no memory"]
    with pytest.raises(InfrastructureError, match="no memory"):
        scorer.score_group(of("number"))


def test_workers_that_run_finish_the_work_of_those_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
):
    start = pools.Pool.start_worker

    def once(self: Pool) -> pools._Worker:
        if self.workers:
            raise WorkerStartError("no more")
        return start(self)

    monkeypatch.setattr(pools.Pool, "start_worker", once)
    with Pool(2, modules=["tests.rewards.hostile_rewards"]) as pool:
        results = pool.run([Task(name="hostile", samples=of("good")) for _ in range(4)])
    assert [reward.score for [reward] in results] == [1.0] * 4
