"""The commits of a run: the state of its last finished step, in memory always and on disk when a
checkpoint is due.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import StorageError, UserError

MAX_FAILURES = 5  # writes in a row that the disk may refuse before the run stops


class Commits:
    """What a run can go on from.

    A disk that is full does not end training: the write is tried again with the next steps, at
    growing distance, and the last good checkpoint stays.

    Args:
        checkpoints: of the run.
        save_learner: writes weights and moments into a folder; a collective.
        notice: told when a write fails.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        save_learner: Callable[[str], object],
        notice: Callable[[str], None],
    ) -> None:
        self.checkpoints, self.notice = checkpoints, notice
        self.save_learner = save_learner
        self.last: dict[str, Any] | None = None  # the state of the last finished step
        self._failures = 0  # writes in a row
        self._retry_at = 0  # the step at which a write that failed is tried again

    def note(
        self, tree: Mapping[str, Any], *, due: bool, keep: int, needed: Collection[int] = ()
    ) -> bool:
        """Take the state of a finished step.

        Args:
            tree: plain values that do not change any more.
            due: write a checkpoint of it.
            keep: newest checkpoints that stay.
            needed: steps whose checkpoints stay too.

        Returns:
            Is it on disk?

        Raises:
            StorageError: the disk has refused too many times in a row.
        """
        self.last, step = dict(tree), int(tree["step"])
        if not due and not (self._failures and step >= self._retry_at):
            return False
        try:
            self.checkpoints.write(self.last, self.save_learner)
        except UserError as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise StorageError(f"{error}; it was tried {self._failures} times") from None
            self._retry_at = step + 2**self._failures
            self.notice(
                f"warning: {error}. Training goes on; the next try is at step {self._retry_at} at "
                "the latest"
            )
            return False
        self._failures = 0
        whole = self.checkpoints.whole_steps()
        for other in sorted({*self.checkpoints.steps()} - {*whole, *needed}):
            self.notice(
                f"warning: the checkpoint of step {other} is damaged and goes: "
                f"{self.checkpoints.damage(other)}. It is none of checkpoint.keep={keep}"
            )
        self.checkpoints.prune({*whole[-keep:], *needed})
        return True

    def save_last(self) -> int | None:
        """Write the last finished step if it is not on disk; returns the newest step that is.

        Only while the learner holds the weights of that step.

        Raises:
            UserError: the disk does not take it.
        """
        if self.last is not None and self.last["step"] not in self.checkpoints.whole_steps():
            self.checkpoints.write(self.last, self.save_learner)
        return max(self.checkpoints.whole_steps(), default=None)
