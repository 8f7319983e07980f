"""In bfloat16 a float32 output layer on both sides brings engine and learner together, and on one
side only it takes them apart.
"""

from __future__ import annotations

import json

import pytest

from grpo.config import load_config
from grpo.parts import with_float32_head
from tests.models import SMALL_MODEL
from tests.stack import warm

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def found():
    done = warm.run("tests.stack.head_cases", SMALL_MODEL)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_in_bfloat16_both_sides_have_it_unless_told_otherwise(found):
    assert found["start"] == ["torch.float32", True]


def test_on_both_sides_it_makes_the_gap_smaller(found):
    # The rest is the rounding of hidden states, which differ between the two.
    assert found["both"] < 0.95 * found["neither"]


@pytest.mark.parametrize("side", ["engine only", "learner only"])
def test_on_one_side_it_is_worse_than_on_none(found, side):
    assert found[side] > 1.1 * found["neither"]


@pytest.mark.parametrize(
    ("device", "settings", "wanted"),
    [
        ("cpu", [], False),  # float32 weights: nothing to widen, the recorded run stays as it is
        ("cuda", [], True),
        ("cpu", ["model.dtype=bfloat16"], True),
        ("cuda", ["model.float32_head=false"], False),
        ("cpu", ["model.float32_head=true"], False),
    ],
)
def test_one_setting_decides_for_engine_and_learner(device, settings, wanted):
    assert with_float32_head(load_config("tiny", settings), device) is wanted
