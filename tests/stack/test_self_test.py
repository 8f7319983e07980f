"""The front doors of the weight check: the self-test of a sound stack, a run whose engine loses a
bit.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.conftest import OVERRIDES

pytestmark = pytest.mark.stack

RECIPE = [
    *("--config-name", "tiny", *OVERRIDES, f"model.path={SMALL_MODEL}"),
    *("runtime=in_process", "learner.num_ranks=1"),
]


def test_two_steps_without_a_learning_rate_move_nothing_on_a_sound_stack():
    # In a process of its own, as users start it: it finds its settings in time and ends in peace.
    command = [sys.executable, "-m", "grpo.commands.main", "doctor", "--self-test", *RECIPE]
    done = subprocess.run(
        [*command, "batch.num_updates=2"], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "Exception ignored" not in done.stderr
    assert "27 tensors, 3 hand-overs" in " ".join(done.stdout.split())
    assert done.stdout.count("largest difference 0,") == 2
    assert "bad" not in done.stdout


def test_a_run_whose_engine_loses_a_bit_ends_with_76_and_names_the_tensor(tmp_path):
    settings = ["health.weight_check_every=1", "trainer.max_steps=3", f"output_dir={tmp_path}/run"]
    modules = "modules=[grpo.miniature,tests.stack.damage]"
    run = ["train", *RECIPE, modules, *settings, "evaluation.interim_problems=2"]
    done = warm.run("grpo.commands.main", *run)
    assert done.returncode == 76, done.stdout + done.stderr[-3000:]
    assert "model.norm.weight at version 2 in engine 0" in done.stderr
    assert "raise UnhealthyError" not in done.stderr  # a message and no traceback
    assert not (tmp_path / "run" / "policy").exists()
