"""Workers: a bad answer costs itself, never its neighbours; the pool stays usable; faults of the
machine are errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Component, InfrastructureError, Sample, Scorer
from rewards.execution.pool import Pool, Task

EXPECTED = {
    "good": (1.0, "ok"),
    "sleep": (0.0, "timeout"),
    "hold the lock": (0.0, "timeout"),
    "stop": (0.0, "timeout"),
    "segfault": (0.0, "crash"),
    "memory": (0.0, "limit"),
    "exit": (0.0, "crash"),
    "hard exit": (0.0, "crash"),
    "raise": (0.0, "error"),
    "print": (1.0, "ok"),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, wall_seconds=0.5, modules=["tests.rewards.hostile_rewards"]) as pool:
        yield pool


def task(action: str, **options: str) -> Task:
    return Task(name="hostile", samples=[Sample(response=action, gold="")], options=options)


def test_bad_answers_get_0_with_their_reason_and_good_ones_are_unchanged(pool: Pool):
    actions = [action for bad in EXPECTED for action in (bad, "good")]
    started = time.monotonic()
    rewards = [result[0] for result in pool.run([task(action) for action in actions])]
    assert [(reward.score, reward.reason) for reward in rewards] == [
        EXPECTED[action] for action in actions
    ]
    assert time.monotonic() - started < 25  # three half seconds of waiting and some ten restarts
    assert all(reward.score == 1 for [reward] in pool.run([task("good")] * 20))


def test_a_worker_that_dies_once_is_a_fault_of_the_machine(pool: Pool, tmp_path: Path):
    marker = {"marker": str(tmp_path / "died")}
    [[reward]] = pool.run([task("die once", **marker)])
    assert (reward.score, reward.reason) == (1.0, "ok")  # a single one is retried in silence
    many = [task("die once", marker=str(tmp_path / str(k))) for k in range(3)]
    with pytest.raises(InfrastructureError, match="3 of 3"):
        pool.run(many)
    assert pool.run([task("good")])[0][0].score == 1


def test_workers_that_cannot_start_are_an_error_not_a_zero():
    with (
        Pool(1, modules=["no_such_module_of_rewards"]) as broken,
        pytest.raises(InfrastructureError, match="no_such"),
    ):
        broken.run([task("good")])


def test_results_do_not_depend_on_the_number_of_workers(pool: Pool):
    responses = [
        r"\boxed{\sqrt{8}}",
        r"\boxed{9^{9^9}}",
        r"\boxed{2}",
        "no",
        r"\boxed{2\sqrt2}",
    ] * 4
    tasks = [
        Task(name="accuracy", samples=[Sample(response=text, gold=r"2\sqrt{2}")])
        for text in responses
    ]
    with Pool(1) as one:
        assert one.run(tasks) == pool.run(tasks) == pool.run(tasks[::-1])[::-1]


def test_a_scorer_runs_rewards_of_the_operator_in_workers():
    components = {"hostile": Component(weight=2.0), "format": Component(weight=1.0)}
    with Scorer(
        components, modules=["tests.rewards.hostile_rewards"], num_workers=1, wall_seconds=0.5
    ) as scorer:
        scores = scorer.score_group(
            [Sample(response=text, gold="") for text in ("good", "spin", "hard exit")]
        )
    assert [score.total for score in scores] == [2.0, 0.0, 0.0]
    assert [score.components["hostile"].reason for score in scores] == ["ok", "timeout", "crash"]


def test_nothing_outlives_a_closed_pool():
    pool = Pool(1)
    pool.run([Task(name="accuracy", samples=[Sample(response=r"\boxed{1}", gold="1")])])
    process = pool.workers[0].process
    pool.close()
    assert process.poll() is not None and pool.workers == []
    with pytest.raises(ValueError, match="at least one"):
        Pool(0)
