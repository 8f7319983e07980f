"""One command line for all commands: `--key value` and `--key=value`, overrides anywhere, errors
with exit code 78.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from grpo.common.errors import UserError, exit_on_user_error


class Parser(argparse.ArgumentParser):
    """A wrong command line is an error of the user's, like a wrong recipe.

    Flags may stand before, between and behind the positional arguments. Abbreviations are refused,
    because a flag that is added later would change what they mean. A flag that takes several values
    may be repeated; use
    `action="extend"`, so that the values add up.
    """

    def __init__(self, prog: str, description: str = "", epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}\n{self.format_usage().rstrip()}")

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The arguments, or those of the process."""
        return self.parse_intermixed_args(sys.argv[1:] if arguments is None else list(arguments))


def file_path(text: str) -> Path:
    """A path of the command line. A shell expands `~` at the start of a word only, so not in
    `--output=~/x`.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user: then it is the name of a file
        return Path(text)


def add_recipe(parser: Parser, *, required: bool = True) -> None:
    """The arguments that name a recipe: `config_name`, `config_dir` and `overrides`."""
    parser.add_argument(
        "--config-name",
        required=required,
        metavar="RECIPE",
        help="a recipe in recipes/, without .yaml",
    )
    parser.add_argument(
        "--config-dir", type=file_path, metavar="FOLDER", help="another folder of recipes"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as Hydra writes them")


def run(
    command: Callable[[Sequence[str] | None], int], arguments: Sequence[str] | None = None
) -> int:
    """Run a command and return its exit code, as `errors.exit_on_user_error` does."""
    return exit_on_user_error(command, sys.argv[1:] if arguments is None else list(arguments))
