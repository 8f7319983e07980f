"""The in-process runtime is the second implementation of the protocols: a run on it equals a run on
Ray.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.conftest import OVERRIDES

pytestmark = pytest.mark.stack


def train(folder, *overrides):
    command = [
        *("--config-name", "tiny", *OVERRIDES, f"model.path={SMALL_MODEL}"),
        *("trainer.max_steps=2", "evaluation.every=1"),
        *("evaluation.num_samples=1", "tracking.plots=false", "tracking.tensorboard=false"),
        *(*overrides, f"output_dir={folder}"),
    ]
    if "runtime=in_process" in overrides:
        done = warm.run("grpo.train", *command)
    else:  # Ray reads how to authenticate when it is imported, so a fork cannot start a cluster
        done = subprocess.run(
            [sys.executable, "-m", "grpo.train", *command],
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward_std" in row]


def test_a_run_without_ray_samples_and_learns_what_a_run_on_ray_does(tmp_path):
    local = train(tmp_path / "local", "runtime=in_process", "learner.num_ranks=1")
    on_ray = train(tmp_path / "ray", "learner.num_ranks=1")
    for ours, theirs in zip(local, on_ray, strict=True):
        for key in ("reward", "accuracy", "response_length", "generated_tokens"):
            assert ours[key] == theirs[key], key
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    state = json.loads((tmp_path / "local/checkpoints/step_000002/state.json").read_text())
    assert (state["step"], state["weight_version"]) == (2, 2)
    assert state["stream"]["curriculum"]["step"] == 2
