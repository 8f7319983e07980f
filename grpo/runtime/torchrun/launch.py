"""The front door: each of torchrun's processes comes here with the same command."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import torch

from grpo.common.command_line import run, say
from grpo.common.errors import EXIT_RETRY, LostError, Terminated, UserError
from grpo.config.schema import RunConfig
from grpo.runtime.torchrun.group import Group, place_of
from grpo.runtime.torchrun.ranks import Rank

_leading: tuple[Group, Rank] | None = None  # in rank 0, while it runs the command


def take_part(config: RunConfig, command: Callable[[], object]) -> NoReturn:
    """Run a command on rank 0, with all ranks behind it, and end this process. All end with the
    exit code of rank 0.

    Args:
        config: of the run; the same in all processes.
        command: trains. A whole number that it returns is the exit code.

    Raises:
        UserError: this process was not started by torchrun, or not as the recipe says.
    """
    global _leading
    place = place_of(config, os.environ, torch.cuda.device_count())
    if place.learner_gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.learner_gpu
    # DeepSpeed's calls of collectives under their old names; Ray's actors say it in their logs.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    group, rank = Group.join(place, config.cluster.learn_timeout_seconds), Rank(place)
    if place.rank != 0:
        try:
            code = group.follow(rank)
        except LostError as error:
            say(f"grpo: rank {place.rank}: {error}", everywhere=True)
            code = EXIT_RETRY
        finally:
            rank.close()
        _end(code)

    def lead(arguments: object) -> int:
        try:
            found = command()
        except (KeyboardInterrupt, Terminated):
            # torchrun sends a signal to all that are left when a rank has died.
            if group.lost is not None:
                raise LostError(group.lost) from None
            raise
        return found if isinstance(found, int) else 0

    _leading = group, rank
    try:
        code = run(lead)
    finally:
        _leading = None
    group.leave(code)
    rank.close()
    _end(code)


def _end(code: int) -> NoReturn:
    """End this process without taking the interpreter down.

    Threads of torch and gloo that ask for Python's lock meanwhile are ended in the middle of C++
    code, which may abort the process: torchrun would call a run failed that is done and written.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def leading() -> tuple[Group, Rank]:
    """The ranks that this process leads, and its own.

    Raises:
        UserError: it leads none.
    """
    if _leading is None:
        raise UserError(
            "runtime=torchrun: this command does not run under torchrun; use runtime=ray"
        )
    return _leading
