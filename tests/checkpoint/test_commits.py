"""When commits reach the disk, and what a full disk does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from grpo.checkpoint.commits import MAX_FAILURES, Commits
from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import StorageError


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
    with pytest.raises(StorageError, match="tried 5 times"):
        one.note({"step": 9}, due=True, keep=2)


def cut_short(checkpoints, step):
    (checkpoints.path(step) / "learner" / "rank_000.safetensors").write_bytes(b"wei")


def test_a_damaged_checkpoint_is_none_of_those_that_stay(tmp_path):
    one, checkpoints, notices = commits(tmp_path)
    for step in (1, 2):
        one.note({"step": step}, due=True, keep=2)
    cut_short(checkpoints, 2)
    assert one.note({"step": 3}, due=True, keep=2)
    assert checkpoints.steps() == [1, 3]
    assert "checkpoint of step 2 is damaged" in notices[0] and "3 bytes of 7" in notices[0]


def test_the_last_step_is_written_again_where_its_checkpoint_is_damaged(tmp_path):
    one, checkpoints, _ = commits(tmp_path)
    for step in (1, 2):
        one.note({"step": step}, due=True, keep=2)
    cut_short(checkpoints, 2)
    assert one.save_last() == 2
    assert checkpoints.read(2).state == {"step": 2}


def test_a_checkpoint_that_does_not_read_back_deletes_nothing(tmp_path, monkeypatch):
    one, checkpoints, notices = commits(tmp_path)
    for step in (1, 2):
        one.note({"step": step}, due=True, keep=2)
    rename = Path.rename

    def lossy(path, target):  # a file system that loses what it has taken
        rename(path, target)
        if path.name.endswith(".partial"):
            (target / "learner" / "rank_000.safetensors").write_bytes(b"")

    monkeypatch.setattr(Path, "rename", lossy)
    assert not one.note({"step": 3}, due=True, keep=2)
    assert {1, 2} <= {*checkpoints.whole_steps()}
    assert "does not read back" in notices[0]


@pytest.mark.parametrize(("last", "wanted"), [(4, 1.5), (0, 4.5)])
def test_a_save_for_which_there_is_no_room_is_not_begun_and_tried_again(
    tmp_path, monkeypatch, last, wanted
):
    """After the first update a checkpoint has two moments as well, and is three times as large."""
    one, checkpoints, notices = commits(tmp_path)
    one.note({"step": last}, due=True, keep=2)
    files = [path for path in checkpoints.path(last).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if path.name != "manifest.json")
    begun, save = [], one.save_learner
    one.save_learner = lambda folder: (begun.append(folder), save(folder))
    free = {"bytes": math.ceil(wanted * size) - 1}
    monkeypatch.setattr(
        "grpo.checkpoint.folder.shutil.disk_usage", lambda _: SimpleNamespace(free=free["bytes"])
    )
    killed = checkpoints.folder / ".step_000003.partial"  # what it has left is room
    killed.mkdir()
    assert not one.note({"step": 5}, due=True, keep=2)
    assert not begun and checkpoints.steps() == [last] and not killed.exists()
    assert "is not begun" in notices[0] and "the next try is at step 7" in notices[0]
    free["bytes"] += 1
    assert one.note({"step": 7}, due=False, keep=2)
    assert len(begun) == 1 and checkpoints.steps() == [last, 7]
