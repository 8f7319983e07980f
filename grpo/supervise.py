"""`supervise=true`: a run in a process of its own, which is started again when it ends too early.

What the user can mend (exit code 78) and numbers that went wrong (76) end it: a new start would end
the same way. So does a step that fails three times in a row. A signal to the supervisor goes to the
run, and both end. What a run leaves that could not end by itself (engines, Ray's own processes) is
killed before the next one starts, so that it holds no memory of a GPU.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from grpo.common.command_line import say
from grpo.common.errors import EXIT_CONFIG, EXIT_UNHEALTHY, Terminated, UserError
from grpo.common.recipes import hydra_text
from grpo.config.schema import RunConfig
from grpo.tracking.folder import last_step, new_run_folder, read_state, run_path

SAME_STEP = 3  # failures of one step that end the supervision
FINAL = (0, EXIT_CONFIG, EXIT_UNHEALTHY)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def supervise(
    module: str,
    recipe: str,
    overrides: Sequence[str],
    config_dir: Path | None,
    config: RunConfig,
    pause_seconds: float = 1.0,
) -> int:
    """Run `python -m MODULE` with this recipe until it is done; returns the exit code.

    Args:
        module: of the command.
        recipe: its name.
        overrides: of the command line.
        config_dir: another folder of recipes.
        config: what they come to, checked.
        pause_seconds: before a new start, and twice that where the step has failed before.
    """
    if config.resume == "fresh":
        raise UserError(
            "supervise=true: resume=fresh would begin anew after every crash; move the old run "
            "away, or name a new output_dir"
        )
    folder = new_run_folder(recipe) if config.output_dir is None else run_path(config.output_dir)
    command = [sys.executable, "-m", module, "--config-name", recipe]
    if config_dir is not None:
        command += ["--config-dir", str(config_dir)]
    command += [*overrides, f"output_dir={hydra_text(str(folder))}", "supervise=false"]
    failures: list[str] = []  # of one step, how each ended
    failed_at = -1
    while (code := _run(command)) not in FINAL:
        step = last_step(folder)
        if step != failed_at:
            failed_at, failures = step, []
        failures.append(f"{_told(code)}: {read_state(folder).get('reason') or 'no reason given'}")
        if len(failures) >= SAME_STEP:
            say(
                f"grpo: step {step + 1} has failed {SAME_STEP} times, and is not tried again:\n"
                + "\n".join(f"  - {failure}" for failure in failures)
                + f"\nThe record is in {folder}, and docs/operations.md says what to look at"
            )
            return code if code > 0 else 128 - code
        pause = pause_seconds * len(failures)
        say(f"grpo: the run ended after step {step} ({failures[-1]}); again in {pause:g} s")
        time.sleep(pause)
    return code


def _run(command: Sequence[str]) -> int:
    """Run a process to its end, and end what it leaves. A signal that comes meanwhile goes to it,
    and ends this process after it.
    """
    # Orphans below this process become its children: a worker of Ray changes its name and its
    # environment, and is known by nothing but its descent.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    others = psutil.Process().children()
    child = subprocess.Popen(command, process_group=0, preexec_fn=_die_with_parent)
    try:
        return child.wait()
    except (KeyboardInterrupt, Terminated) as error:
        stop = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        os.kill(child.pid, stop)
        sys.exit(child.wait())
    finally:
        for _ in range(4):  # the children of one that ended come to this process, and are next
            left = [one for one in psutil.Process().children() if one not in others]
            left = [one for one in left if one.pid != child.pid]
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(left, timeout=10)


def _die_with_parent() -> None:
    """A supervisor that was killed leaves no run behind that nobody watches."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
