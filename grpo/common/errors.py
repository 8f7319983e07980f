"""Errors that decide how a command ends, and its exit codes. docs/operations.md says what each
code asks of the user.
"""

from __future__ import annotations

import signal

# The numbers are those of sysexits.h where it has the meaning.
EXIT_INTERNAL = 70  # EX_SOFTWARE: a fault of this program
EXIT_RETRY = 75  # EX_TEMPFAIL: the same command goes on where this one stopped
EXIT_UNHEALTHY = 76  # the numbers of training are no numbers any more
EXIT_CONFIG = 78  # EX_CONFIG: configuration or data; trying again without a change is useless
EXIT_SIGINT = 128 + signal.SIGINT
EXIT_SIGTERM = 128 + signal.SIGTERM


class UserError(Exception):
    """Something that the user can mend: the message names the setting, its value and the fix."""


class LostError(RuntimeError):
    """A process of the run has died or does not answer. Nothing that was committed is lost."""


class StalledError(LostError):
    """A part of the run has not answered within its deadline. The message names the phase, the
    processes that are late, and the folder with their stacks.
    """


class StorageError(RuntimeError):
    """The disk does not take what the run has to write before it can go on or end. The processes
    are well, so starting them again would mend nothing. Exit code 75: with room on the disk the
    same command goes on from the last checkpoint.
    """


class UnhealthyError(RuntimeError):
    """Training has gone wrong beyond repair, such as weights that are not finite. Exit code 76."""


class RecipeError(UserError):
    """All that is wrong with a recipe, one problem a line."""

    def __init__(self, recipe: str, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(
            "\n".join([f"recipe {recipe!r} has {count}:", *(f"  - {p}" for p in problems)])
        )


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt it passes by every `except Exception`."""


class OutOfTime(BaseException):
    """The time is over that a signal left for finishing and saving."""


class Stopped(BaseException):
    """A signal, called `by`, ended a run that can go on: its state is on disk. Exit code 75."""

    def __init__(self, by: str, message: str) -> None:
        super().__init__(message)
        self.by = by
