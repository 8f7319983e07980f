"""What every loop does when something breaks: lost processes, and signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from grpo.common.errors import LostError, OutOfTime, Stopped, Terminated, UserError
from grpo.common.signals import name_of
from grpo.config.schema import RunConfig

if TYPE_CHECKING:
    from grpo.checkpoint.commits import Commits
    from grpo.checkpoint.folder import Checkpoint, Checkpoints
    from grpo.tracking import Run

T = TypeVar("T")


@dataclass(kw_only=True)
class Resumable(ABC, Generic[T]):
    """A run at work, which can go on from its checkpoints."""

    config: RunConfig
    run: Run
    checkpoints: Checkpoints
    processes: ExitStack  # engines and learner
    commits: Commits | None = field(default=None, init=False)  # None until processes have started

    @property
    @abstractmethod
    def step(self) -> int:
        """Updates done."""

    @abstractmethod
    def attempt(self, start: Checkpoint | None) -> T:
        """Start the processes with the weights of `start`, and work to the end of the run."""

    @abstractmethod
    def rewind(self) -> Checkpoint | None:
        """Put state and record back to the newest checkpoint that is whole, or to the beginning."""

    def to_the_end(self, start: Checkpoint | None) -> T:
        """Work to the end of the run. A process that is lost costs the steps since the last
        checkpoint.

        Args:
            start: what the state of the run was read from.

        Raises:
            LostError: as often as `health.max_restarts` allows, and once more, no step was
                finished in between.
            Stopped: a signal came. The last finished step is on disk.
        """
        restarts, lost_at = 0, -1
        while True:
            try:
                return self.attempt(start)
            except LostError as error:
                restarts = restarts + 1 if self.step == lost_at else 1
                lost_at = self.step
                where = self._write_stacks(error)
                if self.config.runtime != "ray" or restarts > self.config.health.max_restarts:
                    raise
                self.run.notice(
                    f"lost in step {lost_at + 1}: {error}{where}. Starting the processes again "
                    f"({restarts} of health.max_restarts={self.config.health.max_restarts})"
                )
                self.processes.close()
                start = self.rewind()
            except (KeyboardInterrupt, Terminated, OutOfTime) as error:
                raise Stopped(name_of(error), self._save_before_stopping(error)) from None

    def _save_before_stopping(self, error: BaseException) -> str:
        """Save the last finished step while the grace lasts; what to tell the user.

        A signal comes between steps (`signals.held`), so the learner has the weights of that step.
        Only the end of the grace tears an update apart.
        """
        name, newest = name_of(error), max(self.checkpoints.steps(), default=0)
        try:
            if isinstance(error, OutOfTime):
                raise error
            if self.commits is not None and self.commits.last is not None:
                self.run.status(f"{name}: saving step {self.step}")
                newest = self.commits.save_last() or 0
        except (OutOfTime, UserError, LostError) as failed:
            reason = "the grace was over" if isinstance(failed, OutOfTime) else str(failed)
            self.run.notice(f"warning: step {self.step} was not saved: {reason}")
        return (
            f"stopped by {name}; the same command goes on after step {newest}, with "
            f"output_dir={self.run.output_dir}"
        )

    def _write_stacks(self, error: LostError) -> str:
        """Keep the stacks of processes that hang; where they are, for a message."""
        if not error.dumps:
            return ""
        folder = self.run.output_dir / "stacks"
        folder.mkdir(exist_ok=True)
        for name, text in error.dumps.items():
            file = folder / f"step_{self.step + 1:06d}_{name}.txt"
            file.write_text(f"{error}\n\n{text}", encoding="utf-8")
        return f" (stacks of its processes: {folder})"
