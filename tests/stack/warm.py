"""Runs modules as `python -m` does, each in a fork of one process that has imported the stack.

The imports cost seven to ten seconds of a core, which is more than most cases cost. A fork has them
at once, and is otherwise a process of its own: arguments, environment, output, exit code and the end
of the interpreter are its own. Tests of what a user starts in a fresh process are not for this.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

MODULES = ("deepspeed", "vllm.v1.engine.async_llm", "grpo.learner.worker")
SECONDS = 600  # a fork that takes longer is ended by SIGALRM


def run(module: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """One module to its end; the exit code is below 0 where a signal ended it."""
    return run_together(module, [arguments], environment)[0]


def run_together(
    module: str, calls: Sequence[Sequence[object]], environment: Mapping[str, str] = {}
) -> list[subprocess.CompletedProcess[str]]:
    """One module with each of these arguments, side by side, as ranks need it."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        lines = [[module, *map(str, arguments)] for arguments in calls]
        server.stdin.write(json.dumps([lines, dict(environment), folder]) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the warm process has died; its errors are above"
        return [
            subprocess.CompletedProcess(
                line,
                code,
                *((Path(folder) / f"{i}.{stream}").read_text() for stream in ("out", "err")),
            )
            for i, (line, code) in enumerate(zip(lines, json.loads(answer), strict=True))
        ]


@cache
def _server() -> subprocess.Popen[str]:
    """Started by the first call; it ends when the test process does and its input closes."""
    # Libraries read these when they are imported. One thread is what engines and ranks have.
    settings = {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stack.warm"],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _serve() -> list[str] | None:
    """Forks for every line of the input. Returns in a fork, with the command that it is to run."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints while it is imported must not answer for us
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # forks share these pages as long as the collector does not write to them
    while line := sys.stdin.readline():
        calls, environment, folder = json.loads(line)
        children = []
        for i, command in enumerate(calls):
            child = os.fork()
            if child == 0:
                answers.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                for stream, number in (("out", 1), ("err", 2)):
                    os.dup2(os.open(f"{folder}/{i}.{stream}", os.O_WRONLY | os.O_CREAT), number)
                os.environ.update(environment)
                signal.alarm(SECONDS)
                return command
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), file=answers, flush=True)
    return None


if __name__ == "__main__" and (command := _serve()) is not None:
    sys.argv = command
    # The last thing here: what the module raises, and how the interpreter ends, is as without us.
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
