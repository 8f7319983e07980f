"""What a run does when processes are lost and when signals come."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from grpo.checkpoint.commits import Commits
from grpo.checkpoint.folder import Checkpoints
from grpo.common.command_line import run
from grpo.common.errors import (
    LostError,
    OutOfTime,
    Stopped,
    StorageError,
    Terminated,
    UserError,
)
from grpo.recovery import Resumable


class Counting(Resumable[str]):
    """Finishes a step each time it is told to, and ends as its script says."""

    def __init__(self, folder, script, runtime="ray", max_restarts=2):
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text('{"state": "running", "checkpoint": null}')
        config = SimpleNamespace(runtime=runtime, health=SimpleNamespace(max_restarts=max_restarts))
        self.notices, self.closed = [], 0
        run = SimpleNamespace(output_dir=folder, notice=self.notices.append, status=lambda _: None)
        super().__init__(
            config=config, run=run, checkpoints=Checkpoints(folder), processes=ExitStack()
        )
        self.script, self.at, self.starts = list(script), 0, []
        self.commits = Commits(self.checkpoints, lambda _: None, self.notices.append)

    @property
    def step(self):
        return self.at

    def attempt(self, start):
        self.starts.append(None if start is None else start.step)
        self.processes.callback(lambda: setattr(self, "closed", self.closed + 1))
        while self.script:
            event = self.script.pop(0)
            if event == "step":
                self.at += 1
                self.commits.note({"step": self.at}, due=self.at % 2 == 0, keep=2)
            elif callable(event):
                event()
            else:
                raise event
        return "done"

    def rewind(self):
        start = self.newest()
        self.at = 0 if start is None else start.step
        return start


def test_a_lost_process_costs_the_steps_since_the_last_checkpoint(tmp_path):
    script = ["step", "step", "step", LostError("rank 1 died"), "step", "step"]
    work = Counting(tmp_path, script)
    assert work.to_the_end(None) == "done"
    assert work.starts == [None, 2] and work.at == 4 and work.closed == 1
    assert "lost in step 4: rank 1 died" in work.notices[0]


def test_a_step_that_is_lost_again_and_again_ends_the_run(tmp_path):
    work = Counting(tmp_path, [LostError("died")] * 4)
    with pytest.raises(LostError):
        work.to_the_end(None)
    assert len(work.starts) == 3  # the first and two restarts


def test_progress_between_losses_begins_the_count_anew(tmp_path):
    script = [LostError("a"), LostError("b"), "step", "step", LostError("c"), LostError("d")]
    assert Counting(tmp_path, script).to_the_end(None) == "done"


def test_a_disk_that_takes_no_checkpoint_ends_the_run_and_starts_no_process_again(
    tmp_path, monkeypatch, capsys
):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([{"point": "save.begun", "action": "full"}]))
    monkeypatch.setenv("CHAOS_PLAN", str(plan))
    work = Counting(tmp_path, ["step"] * 40)

    def command(_):
        work.to_the_end(None)
        return 0

    assert run(command, []) == 75
    assert work.starts == [None] and work.closed == 0
    assert work.at == 10  # a checkpoint is due every two steps
    told = capsys.readouterr().err
    assert "it was tried 5 times. The same command goes on" in told


def test_a_branch_goes_back_to_what_it_branched_off_from_and_then_to_its_own(tmp_path):
    for step in (0, 1):
        Checkpoints(tmp_path / "first").write({"step": step}, lambda _: None)
    origin = Checkpoints(tmp_path / "first").read(1)
    script = [LostError("a"), "step", LostError("b"), "step", "step", LostError("c"), "step"]
    work = Counting(tmp_path / "branch", script)
    work.at = 1
    # Of a step to which a later stage may go back; the branch has not been there.
    work.checkpoints.adopt(tmp_path / "first" / "checkpoints", {0})
    assert work.to_the_end(origin) == "done"
    assert work.starts == [1, 1, 2, 4]


def test_checkpoints_that_vanish_under_a_run_are_no_reason_to_begin_at_step_0(tmp_path):
    gone = lambda: shutil.rmtree(tmp_path / "checkpoints")  # noqa: E731
    work = Counting(tmp_path, ["step", "step", gone, LostError("a"), "step"])
    with pytest.raises(UserError, match=r"one of step 2\. Restore .* or set resume=fresh"):
        work.to_the_end(None)
    assert work.starts == [None]


def test_the_end_that_a_full_disk_does_not_take_is_told_and_can_be_done_again(tmp_path):
    work = Counting(tmp_path, ["step", "step", "step"])
    work.to_the_end(None)
    told = r"all 3 steps are done.*No space left.*is of step 3"
    with pytest.raises(StorageError, match=told), work.ending():
        raise OSError(28, "No space left on device")
    assert work.checkpoints.steps() == [2, 3]  # although step 3 was not due


def test_a_signal_saves_the_last_finished_step(tmp_path):
    work = Counting(tmp_path, ["step", "step", "step", Terminated()])
    with pytest.raises(Stopped, match="the same command goes on after step 3") as stopped:
        work.to_the_end(None)
    assert stopped.value.by == "SIGTERM"
    assert work.checkpoints.steps() == [2, 3]


def test_after_the_grace_nothing_is_saved_any_more(tmp_path):
    work = Counting(tmp_path, ["step", "step", "step", OutOfTime()])
    with pytest.raises(Stopped, match="goes on after step 2"):
        work.to_the_end(None)
    assert work.checkpoints.steps() == [2]
    assert "the grace was over" in work.notices[0]
