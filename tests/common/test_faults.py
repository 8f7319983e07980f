"""A planned fault strikes at its point, with its values, once."""

from __future__ import annotations

import json

import pytest

from grpo.common.faults import fault


@pytest.fixture
def plan(tmp_path, monkeypatch):
    def write(*faults):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(faults))
        monkeypatch.setenv("CHAOS_PLAN", str(path))

    return write


def test_nothing_happens_without_a_plan():
    fault("learner.step", rank=0)


def test_a_fault_strikes_where_its_values_are_and_only_once(plan):
    plan({"point": "learner.step", "where": {"rank": 1}, "action": "raise"})
    fault("learner.forward", rank=1)
    fault("learner.step", rank=0)
    with pytest.raises(RuntimeError, match="planned fault"):
        fault("learner.step", rank=1)
    fault("learner.step", rank=1)


def test_a_full_disk_stays_full(plan):
    plan({"point": "save.state", "action": "full"})
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            fault("save.state", step=1)
