"""Errors that a person can mend. They are shown as one message without a traceback, and end with
exit code 78.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

# sysexits.h EX_CONFIG: configuration or data; trying again without a change is useless
EXIT_UNHEALTHY = 70  # sysexits.h EX_SOFTWARE: the numbers of training are no numbers any more
EXIT_CONFIG = 78
EXIT_SIGINT = 128 + signal.SIGINT
EXIT_SIGTERM = 128 + signal.SIGTERM


class UserError(Exception):
    """Something that the user can mend: the message names the setting, its value and the fix."""


class StalledError(RuntimeError):
    """A part of the run has not answered within its deadline. The message names the phase."""


class UnhealthyError(RuntimeError):
    """Training has gone wrong beyond repair, such as weights that are not finite. Exit code 70."""


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


def raise_on_sigterm() -> None:
    """Let SIGTERM end the run as Ctrl-C does: by an exception, so that everything is closed.

    Libraries that set a handler of their own (`ray.init` does) undo this. Call it again after them.
    """

    def handle(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handle)


def exit_on_user_error(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command and return its exit code.

    A `UserError` becomes a message on standard error and exit code 78. Ctrl-C and SIGTERM become
    one line and the exit codes of a shell, 130 and 143.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    raise_on_sigterm()
    try:
        return main(argv)
    except UserError as error:
        print(f"grpo: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except UnhealthyError as error:
        print(f"grpo: the run was stopped: {error}", file=sys.stderr)
        return EXIT_UNHEALTHY
    except KeyboardInterrupt:
        print("grpo: stopped by Ctrl-C", file=sys.stderr)
        return EXIT_SIGINT
    except Terminated:
        print("grpo: stopped by SIGTERM", file=sys.stderr)
        return EXIT_SIGTERM
    except SystemExit as error:
        if error.code != signal.SIGTERM:  # the handler that Ray sets exits with the signal's number
            raise
        print("grpo: stopped by SIGTERM", file=sys.stderr)
        return EXIT_SIGTERM
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
