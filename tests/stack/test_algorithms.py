"""Parts that only work together: reference, KL in the reward, controllers and refills, in a run."""

from __future__ import annotations

import json

import pytest

from tests.runtime.test_in_process import train
from tests.stack.test_run import untimed

pytestmark = pytest.mark.stack

SETTINGS = (
    *("runtime=in_process", "learner.num_ranks=1", "trainer.max_steps=4", "checkpoint.every=1"),
    *("algorithm=reinforce_pp_baseline", "algorithm.kl_in=reward"),
    *("algorithm.kl_estimator=k1", "algorithm.kl_coef=0.01", "algorithm.kl_target=1e-6"),
    *("algorithm.reference_refresh_every=2", "algorithm.mask_truncated=true"),
    *("algorithm.entropy_target=100", "batch.zero_variance=resample", "batch.max_refills=1"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, train(folder, *SETTINGS)


def test_the_policy_leaves_the_reference_until_the_reference_is_refreshed(run):
    _, rows = run
    first, second, third, fourth = (row["kl"] for row in rows)
    assert first == third == 0.0  # both are measured before anything moved, to the last bit
    assert second != 0.0
    assert fourth != 0.0


def test_coefficients_follow_their_targets_and_are_part_of_the_state(run):
    folder, rows = run
    # The record shows what a step used. Entropy is far below 100, so its bonus rises by a step.
    assert [row["entropy_coef"] for row in rows[1:]] == pytest.approx([1e-4, 2e-4, 3e-4])
    state = json.loads((folder / "checkpoints/step_000004/state.json").read_text())
    assert state["coefficients"]["entropy_coef"] == pytest.approx(4e-4)
    assert 0 < state["coefficients"]["kl_coef"] != 0.01


def test_engine_and_learner_agree_so_weighted_samples_are_worth_all(run):
    _, rows = run
    for row in rows:
        assert row["mismatch_kl"] < 1e-8
        assert row["effective_share"] == pytest.approx(1.0, abs=1e-4)


def test_refills_keep_the_size_of_the_batch(run):
    _, rows = run
    assert all(row["groups_trained"] <= row["groups_sampled"] for row in rows)
    assert len({row["groups_trained"] for row in rows}) == 1
    assert any(row["refills"] == 1 for row in rows)


def test_a_run_that_goes_on_from_a_checkpoint_does_what_the_first_one_did(run, tmp_path):
    """Moments, the moved reference, coefficients and the data cursor are all in it."""
    folder, rows = run
    checkpoint = folder / "checkpoints/step_000003"
    (again,) = train(tmp_path / "again", *SETTINGS, f"resume={checkpoint}")
    assert untimed([again]) == untimed(rows[3:])
    weights = [
        json.loads((f / "summary.json").read_text())["weights_sha256"]
        for f in (folder, tmp_path / "again")
    ]
    assert weights[0] == weights[1]
