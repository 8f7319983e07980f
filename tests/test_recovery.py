"""What a run does when processes are lost and when signals come."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from grpo.checkpoint.commits import Commits
from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import LostError, OutOfTime, StalledError, Stopped, Terminated
from grpo.recovery import Resumable


class Counting(Resumable[str]):
    """Finishes a step each time it is told to, and ends as its script says."""

    def __init__(self, folder, script, runtime="ray", max_restarts=2):
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
            else:
                raise event
        return "done"

    def rewind(self):
        start = self.checkpoints.newest(self.notices.append)
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


def test_what_hangs_leaves_its_stacks(tmp_path):
    work = Counting(tmp_path, [StalledError("learner, optimise", {"rank_1": "in broadcast"})])
    work.to_the_end(None)
    text = (tmp_path / "stacks" / "step_000001_rank_1.txt").read_text()
    assert text == "learner, optimise\n\nin broadcast"
    assert str(tmp_path / "stacks") in work.notices[0]


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
