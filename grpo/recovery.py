"""What every loop does when something breaks: lost processes, and signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from grpo.common.errors import (
    LostError,
    OutOfTime,
    Stopped,
    StorageError,
    Terminated,
    UserError,
)
from grpo.common.signals import name_of
from grpo.config.schema import RunConfig
from grpo.tracking.folder import note_in_state

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
    origin: Checkpoint | None = field(default=None, init=False)  # that the run branched off from

    @property
    @abstractmethod
    def step(self) -> int:
        """Updates done."""

    @abstractmethod
    def attempt(self, start: Checkpoint | None) -> T:
        """Start the processes with the weights of `start`, and work to the end of the run."""

    @abstractmethod
    def rewind(self) -> Checkpoint | None:
        """Put state and record back to `newest`, or to the beginning."""

    def newest(self) -> Checkpoint | None:
        """The checkpoint to go back to: the newest one that is whole, or that which the run
        branched off from. None: the run has had none.

        Raises:
            UserError: those that it had are damaged or gone.
        """
        from grpo.checkpoint.resume import check_never_saved

        if (found := self.checkpoints.newest(self.run.notice)) is None:
            check_never_saved(self.run.output_dir)
        return found or self.origin

    def to_the_end(self, start: Checkpoint | None) -> T:
        """Work to the end of the run. A process that is lost costs the steps since the last
        checkpoint.

        Args:
            start: what the state of the run was read from.

        Raises:
            LostError: as often as `health.max_restarts` allows, and once more, no step was
                finished in between.
            StorageError: the disk has refused too many checkpoints in a row.
            Stopped: a signal came. The last finished step is on disk.
        """
        if start is not None and start.folder.parent != self.checkpoints.folder:
            self.origin = start
            note_in_state(self.run.output_dir, branched_at=start.step)
        restarts, lost_at = 0, -1
        while True:
            try:
                return self.attempt(start)
            except LostError as error:
                restarts = restarts + 1 if self.step == lost_at else 1
                lost_at = self.step
                if self.config.runtime != "ray" or restarts > self.config.health.max_restarts:
                    raise
                self.run.notice(
                    f"lost in step {lost_at + 1}: {error}. Starting the processes again "
                    f"({restarts} of health.max_restarts={self.config.health.max_restarts})"
                )
                self.processes.close()
                start = self.rewind()
            except (KeyboardInterrupt, Terminated, OutOfTime) as error:
                raise Stopped(name_of(error), self._save_before_stopping(error)) from None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """The block in which a run that has done all its steps writes its policy and its summary.

        Raises:
            StorageError: the disk does not take them. The same command then does this part alone.
        """
        assert self.commits is not None
        try:
            self.commits.save_last()  # the last checkpoint, if a full disk has refused it
        except UserError as error:
            self.run.notice(f"warning: step {self.step} was not saved: {error}")
        try:
            yield
        except (OSError, UserError) as error:
            whole = self.checkpoints.whole_steps()
            last = (
                f"the last checkpoint is of step {whole[-1]}" if whole else "no checkpoint is there"
            )
            raise StorageError(
                f"all {self.step} steps are done, and the policy or the summary cannot be written "
                f"to {self.run.output_dir}: {error}. Make room there; {last}"
            ) from None

    def _save_before_stopping(self, error: BaseException) -> str:
        """Save the last finished step while the grace lasts; what to tell the user.

        A signal comes between steps (`signals.held`), so the learner has the weights of that step.
        Only the end of the grace tears an update apart.
        """
        name, newest = name_of(error), max(self.checkpoints.whole_steps(), default=0)
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
