"""Errors that a person can mend. They are shown as one message without a traceback, and end with
exit code 78.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_CONFIG = (
    78  # sysexits.h EX_CONFIG: configuration or data; trying again without a change is useless
)


class UserError(Exception):
    """Something that the user can mend: the message names the setting, its value and the fix."""


class StalledError(RuntimeError):
    """A part of the run has not answered within its deadline. The message names the phase."""


class RecipeError(UserError):
    """All that is wrong with a recipe, one problem a line."""

    def __init__(self, recipe: str, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(
            "\n".join([f"recipe {recipe!r} has {count}:", *(f"  - {p}" for p in problems)])
        )


def exit_on_user_error(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command; a `UserError` becomes a message on stderr and exit code 78."""
    try:
        return main(argv)
    except UserError as error:
        print(f"grpo: {error}", file=sys.stderr)
        return EXIT_CONFIG
