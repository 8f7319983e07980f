"""Rewards that do what no reward should; the workers import this module, the tests do not call it
directly.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path

from rewards import Reward, Sample, register


@register("hostile")
def hostile(sample: Sample, marker: str = "") -> Reward:
    """Does what the response names, then scores 1."""
    ACTIONS.get(sample.response, lambda _: None)(marker)
    return Reward(1.0, "ok", {"response": sample.response})


def _spin(_: str) -> None:
    while True:
        pass


def _die_once(marker: str) -> None:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _raise(_: str) -> None:
    raise KeyError("boo")


ACTIONS = {
    "sleep": lambda _: time.sleep(60),
    "spin": _spin,
    "hold the lock": lambda _: re.match(r"(a+)+$", "a" * 40 + "b"),
    "segfault": lambda _: ctypes.string_at(0),
    "memory": lambda _: bytearray(8 * 2**30),
    "exit": lambda _: sys.exit(3),
    "hard exit": lambda _: os._exit(0),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _raise,
    "print": lambda _: print("x" * 100_000),
    "die once": _die_once,
}
