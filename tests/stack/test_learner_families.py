"""Each architecture through an update, the hand-over to vLLM and the export."""

from __future__ import annotations

import json

import pytest

from tests.families import FAMILIES
from tests.stack import warm
from tests.stack.family_cases import WIDE_QWEN

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    done = warm.run("tests.stack.family_cases")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("embeddings", ["tied", "untied"])
@pytest.mark.parametrize("family", [*FAMILIES, WIDE_QWEN])
def test_engine_and_export_have_exactly_what_the_learner_trained(found, family, embeddings):
    case = found[f"{family} {embeddings}"]
    assert case["start"] < 1e-4  # largest gap of a log-prob, over texts longer than the windows
    assert case["apart"] > 0.1  # the learner has moved on, the engine has not
    assert case["together"] < 1e-4
    assert case["names"], "an export has the names that transformers gives"
    assert case["equal"], "an export reloads bit-equal"
    assert case["tied"] == (embeddings == "tied")
