"""One command line for all commands: `--key value` and `--key=value`, overrides anywhere, errors
with exit code 78.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from grpo.common.errors import (
    EXIT_CONFIG,
    EXIT_INTERNAL,
    EXIT_RETRY,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    EXIT_UNHEALTHY,
    LostError,
    OutOfTime,
    Stopped,
    StorageError,
    Terminated,
    UnhealthyError,
    UserError,
)
from grpo.common.signals import signals_raise


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


def say(text: str, *, everywhere: bool = False) -> None:
    """A line about what is going on, before there is a run that could show it.

    Processes that torchrun has started as copies of one another all come by here. The first one of
    a machine speaks for them, unless a line is `everywhere` another one.
    """
    if everywhere or not _is_copy():
        print(text, file=sys.stderr, flush=True)


def _is_copy() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


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
    """Run a command and return its exit code.

    A `UserError` becomes a message on standard error and exit code 78. Ctrl-C and SIGTERM become
    one line, and 75 where the same command goes on from there, otherwise the exit codes of a shell,
    130 and 143. What nobody expected is shown with its traceback, and is exit code 70.
    """
    with signals_raise():
        try:
            return command(sys.argv[1:] if arguments is None else list(arguments))
        except UserError as error:
            say(f"grpo: {error}")
            if (
                _is_copy()
            ):  # torchrun ends all as soon as one ends: let the one that speaks be first
                with suppress(KeyboardInterrupt, Terminated):
                    time.sleep(10)
            return EXIT_CONFIG
        except UnhealthyError as error:
            say(f"grpo: the run was stopped: {error}")
            return EXIT_UNHEALTHY
        except (LostError, StorageError) as error:
            say(f"grpo: {error}. The same command goes on from what is on disk")
            return EXIT_RETRY
        except Stopped as stopped:
            say(f"grpo: {stopped}")
            return EXIT_RETRY
        except KeyboardInterrupt:
            say("grpo: stopped by Ctrl-C")
            return EXIT_SIGINT
        except (Terminated, OutOfTime):
            say("grpo: stopped by SIGTERM")
            return EXIT_SIGTERM
        except SystemExit as error:
            # the handler that Ray sets exits with the signal's number
            if error.code != signal.SIGTERM:
                raise
            say("grpo: stopped by SIGTERM")
            return EXIT_SIGTERM
        except Exception:
            traceback.print_exc()
            return EXIT_INTERNAL
