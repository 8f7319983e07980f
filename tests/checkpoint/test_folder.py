"""Checkpoint folders: whole under their names, or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grpo.checkpoint.folder import Checkpoints, DamagedError
from grpo.common.errors import UserError


def save_learner(folder: str) -> None:
    """Two ranks' files."""
    for rank in (0, 1):
        (Path(folder) / f"rank_{rank:03d}.safetensors").write_bytes(bytes([rank]) * 100)


def written(tmp_path: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path)
    for step in steps:
        checkpoints.write({"step": step, "metrics_bytes": 7 * step}, save_learner)
    return checkpoints


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path):
    checkpoints = written(tmp_path, 20, 40)
    found = checkpoints.newest(print)
    assert found.step == 40
    assert found.state == {"step": 40, "metrics_bytes": 280}
    assert sorted(p.name for p in Path(found.learner_folder).iterdir()) == [
        "rank_000.safetensors",
        "rank_001.safetensors",
    ]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step_000020",
        "step_000040",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "learner/rank_001.safetensors").unlink(),
        lambda folder: (folder / "learner/rank_001.safetensors").write_bytes(b"\1" * 99 + b"\0"),
        lambda folder: (folder / "state.json").write_text('{"step": 41}'),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["file gone", "one bit", "state changed", "half a manifest", "no manifest"],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(tmp_path, damage):
    checkpoints, told = written(tmp_path, 20, 40), []
    damage(checkpoints.path(40))
    assert checkpoints.newest(told.append).step == 20
    assert "checkpoint of step 40 is damaged" in told[0]
    damage(checkpoints.path(20))
    with pytest.raises(UserError, match=r"no checkpoint there is whole.*resume=fresh"):
        checkpoints.newest(told.append)


def test_a_write_that_fails_leaves_the_older_ones_and_nothing_of_its_own(tmp_path):
    checkpoints = written(tmp_path, 20)

    def full(folder: str) -> None:
        save_learner(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device; make room"):
        checkpoints.write({"step": 40, "metrics_bytes": 0}, full)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_000020"]
    assert checkpoints.newest(print).step == 20


def test_what_a_killed_write_left_is_no_checkpoint_and_goes_with_the_next_pruning(tmp_path):
    checkpoints = written(tmp_path, 20, 40, 60, 80)
    (tmp_path / "checkpoints" / ".step_000100.partial").mkdir()
    assert checkpoints.steps() == [20, 40, 60, 80]
    checkpoints.prune({40, 80, 999})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step_000040",
        "step_000080",
    ]


def test_a_later_format_is_refused(tmp_path):
    checkpoints = written(tmp_path, 20)
    manifest = checkpoints.path(20) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(DamagedError, match="format 99"):
        checkpoints.read(20)


def test_what_a_killed_run_was_deleting_is_in_nobodys_way(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for _ in range(2):
        for step in (1, 2, 3):
            checkpoints.write({"step": step}, lambda folder: None)
        (tmp_path / "checkpoints" / ".step_000001.deleted" / "learner").mkdir(parents=True)
        checkpoints.prune({2, 3})
        assert checkpoints.steps() == [2, 3]
        assert not list((tmp_path / "checkpoints").glob(".*"))
