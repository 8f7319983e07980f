"""Where a run begins, and which settings it may have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from grpo.checkpoint.folder import Checkpoints
from grpo.checkpoint.resume import is_finished, leaves, recorded_bytes, starting_point
from grpo.common.errors import UserError
from grpo.common.files import append_line
from grpo.config import load_config
from grpo.tracking.folder import _unlock, claim, note_in_state, read_state, run_folder
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


def killed(folder: Path, num_steps: int, *checkpoints: int, resume: str = "auto") -> Path:
    """A run in its folder, as it is after a SIGKILL behind so many steps."""
    claim(folder, "tiny", resume)
    (folder / "config.yaml").write_text(yaml.safe_dump(config(f"resume={resume}").as_tree()))
    (folder / "rollouts").mkdir(exist_ok=True)
    for step in range(1, num_steps + 1):
        append_line(folder / "metrics.jsonl", {"step": step})
        (folder / "rollouts" / f"step_{step:06d}.jsonl").write_text("{}\n")
        if step in checkpoints:
            size = (folder / "metrics.jsonl").stat().st_size
            state = {"step": step, "metrics_bytes": size}
            Checkpoints(folder).write(state, lambda folder: None)
    _unlock(folder)  # which the system does when a process ends
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(tmp_path):
    told = []
    folder = killed(tmp_path / "run", 4)
    assert starting_point(config("checkpoint.every=5", folder=folder), told.append) is None
    assert "ended before its first checkpoint: step 0 again" in told[-1]


def older(folder: Path) -> None:
    """As versions left it that did not note checkpoints."""
    (folder / "run.json").write_text(json.dumps({"state": "running", "pid": 1}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "checkpoints"), "there was one of step 20"),
        (lambda f: shutil.rmtree(f / "checkpoints/step_000020"), "there was one of step 20"),
        (
            lambda f: (shutil.rmtree(f / "checkpoints"), (f / "summary.json").write_text("{}")),
            "summary.json says that it was finished",
        ),
        (
            lambda f: (shutil.rmtree(f / "checkpoints"), older(f)),
            "with checkpoint.every=20 there was one before step 22",
        ),
    ],
    ids=["folder gone", "folder empty", "of a finished run", "of an older version"],
)
def test_a_run_whose_checkpoints_are_gone_is_refused_and_left_as_it_is(tmp_path, damage, message):
    folder = killed(tmp_path / "run", 22, 20)
    damage(folder)
    before = files(folder)
    with pytest.raises(UserError, match=rf"{message}.*or set resume=fresh to begin again"):
        starting_point(config(folder=folder), print)
    assert files(folder) == before
    with run_folder(folder, "tiny", "fresh"):
        assert starting_point(config("resume=fresh", folder=folder), print) is None
    moved = {name.split("/", 2)[2] for name in files(folder) if name.startswith("previous/")}
    assert {*before} - moved <= {".claim"}


def test_an_older_record_from_before_the_first_checkpoint_begins_again(tmp_path):
    older(killed(tmp_path / "run", 19))
    assert starting_point(config(folder=tmp_path / "run"), print) is None


def test_that_there_was_a_checkpoint_outlives_later_starts_and_not_a_fresh_one(tmp_path):
    folder = killed(killed(tmp_path / "run", 22, 20), 1)
    assert read_state(folder)["checkpoint"] == 20
    assert read_state(killed(folder, 1, resume="fresh"))["checkpoint"] is None


def test_a_checkpoint_whose_record_is_gone_or_cut_is_gone_on_from_and_told(tmp_path):
    folder, told = killed(tmp_path / "run", 22, 20), []
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    assert starting_point(config(folder=folder), told.append).step == 20
    assert "has lost rows of steps up to 20" in told[-1]
    (folder / "metrics.jsonl").unlink()
    shutil.rmtree(folder / "rollouts")
    assert starting_point(config(folder=folder), told.append).step == 20
    assert claim(folder, "tiny", "auto") == folder
    _unlock(folder)
    assert Checkpoints(folder).steps() == [20]


def test_a_branch_goes_on_with_the_command_that_began_it(tmp_path):
    first, told = killed(tmp_path / "first", 22, 10, 20), []
    branch, resume = tmp_path / "branch", f"resume={first}"
    start = starting_point(config(resume, folder=branch), told.append)
    assert start.folder == first / "checkpoints/step_000020"
    assert recorded_bytes(start, branch) == 0
    killed(branch, 2, resume=str(first))  # before the first checkpoint of its own
    note_in_state(branch, branched_at=20)
    Checkpoints(branch).adopt(first / "checkpoints", {10})  # for a stage that may go back there
    for again in (resume, "resume=auto"):
        start = starting_point(config(again, folder=branch), told.append)
        assert start.folder == first / "checkpoints/step_000020"
        assert f"before its first checkpoint: from {first} again" in "\n".join(told)
        told.clear()
    assert recorded_bytes(start, branch) == 0  # what was recorded meanwhile was not committed
    killed(branch, 23, 23, resume=str(first))
    start = starting_point(config(resume, folder=branch), told.append)
    assert start.folder == branch / "checkpoints/step_000023"
    assert recorded_bytes(start, branch) > 0
    shutil.rmtree(branch / "checkpoints")
    with pytest.raises(UserError, match="there was one of step 23"):
        starting_point(config(resume, folder=branch), told.append)


def test_a_folder_that_did_not_branch_off_from_there_is_refused(tmp_path):
    first = killed(tmp_path / "first", 22, 20)
    other = killed(tmp_path / "other", 2, 2)
    assert starting_point(config(f"resume={first}", folder=other), print).step == 20
    with pytest.raises(UserError, match="already holds a run"):
        claim(other, "tiny", str(first))


def test_a_checkpoint_of_other_versions_is_gone_on_from_and_told(tmp_path):
    folder, told = killed(tmp_path / "run", 20, 20), []
    assert starting_point(config(folder=folder), told.append).step == 20
    assert not any("other versions" in line for line in told)
    manifest = Checkpoints(folder).path(20) / "manifest.json"
    tree = json.loads(manifest.read_text())
    assert {"grpo", "torch", "deepspeed", "python"} < tree["versions"].keys()
    now, tree["versions"]["torch"] = tree["versions"]["torch"], "1.0"
    manifest.write_text(json.dumps(tree))
    assert starting_point(config(folder=folder), told.append).step == 20
    assert f"other versions: torch 1.0 then, {now} now" in told[-1]
    del tree["versions"]  # of an older version
    manifest.write_text(json.dumps(tree))
    assert starting_point(config(folder=folder), print).step == 20


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
