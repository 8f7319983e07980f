"""A run that samples one step ahead and in segments is the same run after a SIGKILL, with a batch in
flight and responses begun.

`make chaos` does more, on Ray: `ahead`, `ahead-actors`, `ahead-alone` and `partial`.
"""

from __future__ import annotations

import json

import pytest

from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.conftest import OVERRIDES
from tests.stack.test_run import rollouts, steps, untimed

pytestmark = pytest.mark.stack

SETTINGS = [
    *OVERRIDES,
    *("runtime=in_process", "learner.num_ranks=1", f"model.path={SMALL_MODEL}"),
    *("rollout.max_staleness=1", "algorithm.mismatch.correction=truncate"),
    # Responses have about 14 tokens. Few groups are in flight, so that every step samples.
    *("rollout.strategy=partial", "rollout.segment_tokens=12", "rollout.prompts_in_flight=10"),
    "rollout.max_num_seqs=8",  # not all finish together
    *(
        "trainer.max_steps=3",
        "checkpoint.every=1",
        "evaluation.every=0",
        "evaluation.num_samples=1",
    ),
    *("tracking.plots=false", "tracking.tensorboard=false"),
]


def train(folder, *overrides, **environment):
    return warm.run(
        "grpo.train", "--config-name", "tiny", *SETTINGS, f"output_dir={folder}", *overrides,
        **environment,
    )  # fmt: skip


def test_a_run_that_was_killed_with_a_batch_in_flight_is_the_same_run(tmp_path):
    """The driver dies while the learner works on step 2, with half of the batch of step 3."""
    whole, broken, plan = tmp_path / "whole", tmp_path / "broken", tmp_path / "plan.json"
    done = train(whole)
    assert done.returncode == 0, done.stderr[-3000:]
    fault = {"point": "journal.written", "where": {"journal": "step_000003"}, "action": "kill"}
    plan.write_text(json.dumps([fault]))
    assert train(broken, CHAOS_PLAN=str(plan)).returncode == -9
    assert [row["step"] for row in steps(broken)] == [1]
    done = train(broken)
    assert done.returncode == 0, done.stderr[-3000:]
    for step in (2, 3):  # that of step 2 is whole, and was sampled by weights which are gone
        assert f"step {step}: " in done.stdout, done.stdout
    assert "ahead are not in the journal" not in done.stdout
    assert untimed(steps(broken)) == untimed(steps(whole))
    assert rollouts(broken) == rollouts(whole)
    ends = [json.loads((folder / "summary.json").read_text()) for folder in (whole, broken)]
    for key in ("weights_sha256", "chain"):
        assert ends[0][key] == ends[1][key]
    ages = [row["staleness_max"] for row in steps(whole)]
    assert ages[0] == 0 and ages[1] == 1 and max(ages) > 1  # ahead, and continued
