"""Where a run begins, and which settings it may have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from grpo.checkpoint.folder import Checkpoints
from grpo.checkpoint.resume import is_finished, leaves, starting_point
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.tracking.record import cut_back


def config(*overrides: str, folder: Path | None = None):
    """The tiny recipe; what it works in is not among its settings here."""
    place = [] if folder is None else [f"output_dir={folder}"]
    return load_config("tiny", [*overrides, *place])


def run(folder: Path, *steps: int, overrides: tuple[str, ...] = ()) -> Path:
    """A run's folder with checkpoints of these steps."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    (folder / "config.yaml").write_text(yaml.safe_dump(config(*overrides).as_tree()))
    for step in steps:
        Checkpoints(folder).write({"step": step, "metrics_bytes": 0}, lambda folder: None)
    return folder


def test_an_empty_folder_and_a_fresh_start_begin_at_step_0(tmp_path):
    assert starting_point(config(), print) is None
    assert starting_point(config(folder=tmp_path), print) is None
    folder = run(tmp_path / "run", 20)
    assert starting_point(config("resume=fresh", folder=folder), print) is None


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path):
    assert starting_point(config(folder=run(tmp_path / "run", 20, 40)), print).step == 40


def test_a_run_without_a_checkpoint_says_that_it_begins_again(tmp_path):
    told = []
    assert starting_point(config(folder=run(tmp_path / "run")), told.append) is None
    assert "ended before its first checkpoint: step 0 again" in told[-1]


def test_another_setting_is_refused_by_name_and_allowed_by_name(tmp_path):
    folder = run(tmp_path / "run", 20)
    with pytest.raises(UserError) as caught:
        starting_point(config("seed=1", "batch.num_prompts=32", folder=folder), print)
    message = str(caught.value)
    assert "seed: 0 then, 1 now" in message
    assert "batch.num_prompts: 64 then, 32 now" in message
    assert "allow_config_change=[batch.num_prompts, seed]" in message
    told = []
    allowed = config(
        "seed=1", "batch.num_prompts=32", "allow_config_change=[batch, seed]", folder=folder
    )
    assert starting_point(allowed, told.append).step == 20
    assert [line for line in told if "output_dir" not in line] == [
        "going on with another setting: allow_config_change: [] then, ['batch', 'seed'] now",
        "going on with another setting: batch.num_prompts: 64 then, 32 now",
        "going on with another setting: seed: 0 then, 1 now",
    ]


def test_what_decides_no_number_may_change_and_the_length_where_only_it_is_looked_at(tmp_path):
    folder = run(tmp_path / "run", 20)
    free = ["tracking.plots=false", "checkpoint.keep=5", "cluster.start_timeout_seconds=9"]
    assert starting_point(config(*free, folder=folder), print).step == 20
    with pytest.raises(UserError, match=r"trainer.max_steps: 45 then, 50 now"):
        starting_point(config("trainer.max_steps=50", folder=folder), print)  # a linear schedule
    constant = "optimizer.schedule=constant"
    folder = run(tmp_path / "constant", 20, overrides=(constant,))
    assert starting_point(config(constant, "trainer.max_steps=50", folder=folder), print).step == 20


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    folder = run(tmp_path / "run", 45)
    same = config(folder=folder)
    assert not is_finished(same, starting_point(same, print), 45)  # the last evaluation is missing
    (folder / "summary.json").write_text("{}")
    assert is_finished(same, starting_point(same, print), 45)
    branch = config(f"resume={folder}", folder=tmp_path / "new")
    assert not is_finished(branch, starting_point(branch, print), 45)


def test_resume_can_name_a_run_or_one_of_its_checkpoints(tmp_path):
    folder = run(tmp_path / "run", 20, 40)
    elsewhere = tmp_path / "new"
    assert starting_point(config(f"resume={folder}", folder=elsewhere), print).step == 40
    one = Checkpoints(folder).path(20)
    assert starting_point(config(f"resume={one}", folder=elsewhere), print).step == 20
    with pytest.raises(UserError, match="no checkpoint there; name the folder of a run"):
        starting_point(config(f"resume={tmp_path}", folder=elsewhere), print)
    (one / "state.json").unlink()
    with pytest.raises(UserError, match="is missing; name another checkpoint"):
        starting_point(config(f"resume={one}", folder=elsewhere), print)


def test_the_record_is_cut_back_to_the_commit(tmp_path):
    (tmp_path / "rollouts").mkdir()
    for step in (1, 2, 3):
        (tmp_path / "rollouts" / f"step_{step:06d}.jsonl").write_text("{}\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    cut_back(tmp_path, 2, len('{"step": 1}\n{"step": 2}\n'))
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    names = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert names == ["step_000001.jsonl", "step_000002.jsonl"]
    cut_back(tmp_path, 0, 0)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not list((tmp_path / "rollouts").iterdir())


def test_leaves_are_dotted_keys():
    assert leaves({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}
