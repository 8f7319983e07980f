"""What the processes of a run were doing when one of them hung: their stacks, taken with py-spy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from grpo.tracking.folder import claimed


def stack_of(pid: int, *, children: bool = False) -> str:
    """What a process of this machine is doing, asked from outside: it may hang or be stopped.

    Args:
        pid: of the process.
        children: ask those that it has started too.
    """
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = subprocess.run(
            [*command, *(["--subprocesses"] if children else [])],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no stack: {error}"
    return done.stdout or done.stderr


def keep_stacks(stacks: Mapping[str, str], why: str) -> str:
    """Write stacks into `stacks/` in the folder of the run, one file each.

    Args:
        stacks: by name of the process.
        why: what has hung. Every file begins with it.

    Returns:
        Where they are, for a message. Empty without stacks, or without a folder to write into.
    """
    folders = claimed()
    if not stacks or not folders:
        return ""
    folder = folders[0] / "stacks"
    try:
        folder.mkdir(exist_ok=True)
        stamp = time.strftime("%Y%m%d_%H%M%S")
        for name, text in stacks.items():
            file = folder / f"{stamp}_{name.replace(' ', '_')}.txt"
            file.write_text(f"{why}\n\n{text}", encoding="utf-8")
    except OSError as error:  # a full disk must not hide what has hung
        return f" (stacks of the processes were not written: {error})"
    return f" (stacks of the processes: {folder})"
