"""The front doors of the weight check: the self-test of a sound stack, a run whose engine loses a
bit.
"""

from __future__ import annotations

import pytest

from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.conftest import OVERRIDES

pytestmark = pytest.mark.stack

RECIPE = [
    *("--config-name", "tiny", *OVERRIDES, f"model.path={SMALL_MODEL}"),
    *("runtime=in_process", "learner.num_ranks=1"),
]


def grpo(*arguments):
    return warm.run("grpo.commands.main", *arguments)


def test_two_steps_without_a_learning_rate_move_nothing_on_a_sound_stack():
    done = grpo("doctor", "--self-test", *RECIPE, "batch.num_updates=2")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "27 tensors, 3 hand-overs" in " ".join(done.stdout.split())
    assert done.stdout.count("largest difference 0,") == 2
    assert "bad" not in done.stdout


def test_a_run_whose_engine_loses_a_bit_ends_with_70_and_names_the_tensor(tmp_path):
    settings = ["health.weight_check_every=1", "trainer.max_steps=3", f"output_dir={tmp_path}/run"]
    modules = "modules=[grpo.miniature,tests.stack.damage]"
    done = grpo("train", *RECIPE, modules, *settings, "evaluation.interim_problems=2")
    assert done.returncode == 70, done.stdout + done.stderr[-3000:]
    assert "model.norm.weight at version 2 in engine 0" in done.stderr
    assert "raise UnhealthyError" not in done.stderr  # a message and no traceback
    assert not (tmp_path / "run" / "policy").exists()
