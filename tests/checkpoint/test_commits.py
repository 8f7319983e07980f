"""When commits reach the disk, and what a full disk does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grpo.checkpoint.commits import MAX_FAILURES, Commits
from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import LostError


@pytest.fixture
def plan(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    monkeypatch.setenv("CHAOS_PLAN", str(path))
    path.write_text("[]")
    return path


def commits(tmp_path):
    notices = []
    checkpoints = Checkpoints(tmp_path)

    def save(folder):
        (Path(folder) / "rank_000.safetensors").write_bytes(b"weights")

    return Commits(checkpoints, save, notices.append), checkpoints, notices


def test_a_step_that_is_not_due_is_written_only_when_the_run_stops(tmp_path):
    one, checkpoints, _ = commits(tmp_path)
    assert not one.note({"step": 3}, due=False, keep=2)
    assert checkpoints.steps() == []
    assert one.save_last() == 3
    assert checkpoints.read(3).state == {"step": 3}


def test_the_newest_and_the_needed_ones_stay(tmp_path):
    one, checkpoints, _ = commits(tmp_path)
    for step in range(5):
        assert one.note({"step": step}, due=True, keep=2, needed={1})
    assert checkpoints.steps() == [1, 3, 4]


def test_a_full_disk_is_tried_again_at_growing_distance(tmp_path, plan):
    one, checkpoints, notices = commits(tmp_path)
    one.note({"step": 0}, due=True, keep=2)
    plan.write_text(json.dumps([{"point": "save.state", "action": "full"}]))
    tried = []
    for step in range(1, 9):
        before = len(notices)
        assert not one.note({"step": step}, due=step == 1, keep=2)
        if len(notices) > before:
            tried.append(step)
    assert tried == [1, 3, 7]  # 1 + 2, 3 + 4
    assert checkpoints.steps() == [0]
    assert not list(checkpoints.folder.glob(".*.partial"))
    plan.write_text("[]")
    assert one.note({"step": 15}, due=False, keep=2)
    assert checkpoints.steps() == [0, 15]


def test_a_disk_that_never_has_room_ends_the_run(tmp_path, plan):
    one, _, _ = commits(tmp_path)
    plan.write_text(json.dumps([{"point": "save.learner", "action": "full"}]))
    for step in range(MAX_FAILURES - 1):
        one.note({"step": step}, due=True, keep=2)
    with pytest.raises(LostError, match="tried 5 times"):
        one.note({"step": 9}, due=True, keep=2)
