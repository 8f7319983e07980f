"""Points at which a test may break the run: `fault("learner.optimise", rank=1)`.

They do nothing unless the environment has `CHAOS_PLAN`, the path of a JSON file with a list of
faults:

    {"point": "learner.optimise", "where": {"rank": 1, "step": 3}, "action": "kill"}

A fault strikes once, the first time that its point is reached with these values. `kill` and `stop`
are SIGKILL and SIGSTOP of the process that has reached it, `kill NAME` is SIGKILL of the oldest
process below it whose command begins with that name, `term` and `int` are the signals of a user,
`full` the error of a full disk and `raise` an error of the program. What struck is noted beside the
plan, so that a run that was started again is not struck again.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

_SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
}


def fault(point: str, **values: Any) -> None:
    """Break here if the plan says so.

    Args:
        point: name of the place.
        values: what a fault of the plan may ask for in its `where`.

    Raises:
        OSError: action `full`.
        RuntimeError: action `raise`.
    """
    if plan := os.environ.get("CHAOS_PLAN"):
        _strike(Path(plan), point, values)


def _strike(plan: Path, point: str, values: dict[str, Any]) -> None:
    for number, planned in enumerate(json.loads(plan.read_text(encoding="utf-8"))):
        where = planned.get("where", {})
        if planned["point"] != point or any(values.get(k) != v for k, v in where.items()):
            continue
        note = plan.with_name(f"{plan.name}.struck_{number}")
        try:
            handle = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if planned["action"] != "full":  # a disk stays full until somebody makes room
                continue
        else:
            told = {"time": time.time(), "pid": os.getpid(), "point": point, **values}
            os.write(handle, json.dumps(told).encode())
            os.close(handle)
        action = planned["action"]
        if action == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if action == "raise":
            raise RuntimeError(f"planned fault at {point}")
        verb, _, name = action.partition(" ")
        os.kill(_below(name) if name else os.getpid(), _SIGNALS[verb])


def _below(name: str) -> int:
    import psutil

    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[:1] and Path(process.cmdline()[0]).name.startswith(name):
            return int(process.pid)
    raise RuntimeError(f"planned fault: no process called {name} is below this one")
