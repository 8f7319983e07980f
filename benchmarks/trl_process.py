"""TRL's trainer as processes that train a step on demand, and the memory of processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.config import TrainConfig
from grpo.runtime.environment import MALLOC

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-trl/bin/python"


def checked(python: Path) -> Path:
    """The Python of TRL's environment.

    Raises:
        UserError: it is not there.
    """
    if not python.exists():
        raise UserError(f"--trl-python={python} is not there; `make trl-venv` makes {PYTHON}")
    return python


class Trl:
    """TRL's trainer in processes of its own, which wait on a pipe between their steps."""

    def __init__(
        self,
        config: TrainConfig,
        inputs: Any,
        python: Path,
        choice: dict[str, Any],
        folder: Path,
    ) -> None:
        work = folder / "work.json"
        prompts = inputs.prompts[: config.batch.num_prompts]
        fixed = {
            "model": inputs.model_folder,
            "prompts": [prompt.text for prompt in prompts],
            "num_samples": config.batch.num_samples,
            "max_tokens": config.sampling.max_response_tokens,
            "temperature": config.sampling.temperature,
        }
        work.write_text(json.dumps(fixed))
        environment = {
            **os.environ,
            **(MALLOC if choice["malloc"] else {}),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(choice["threads"]),
            "HF_HUB_OFFLINE": "1",
        }
        world = choice["processes"]
        if world > 1:
            with socket.socket() as probe:
                probe.bind(("", 0))
                port = str(probe.getsockname()[1])
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        self.log = folder / "trl.log"
        command = [str(python), "-m", "benchmarks.trl_side", "steps", str(work), json.dumps(choice)]
        self.processes = []
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
            self.processes.append(
                subprocess.Popen(
                    command,
                    env={**environment, **own},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self.log.open("a"),
                    text=True,
                )
            )

    def step(self) -> tuple[float, int]:
        """Seconds of the slowest process and sampled tokens of all."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        done = []
        for process in self.processes:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith('{"seconds"')), None)
            if line is None:
                raise RuntimeError(f"TRL ended:\n{self.log.read_text()[-3000:]}")
            done.append(json.loads(line))
        return max(one["seconds"] for one in done), sum(one["tokens"] for one in done)

    def memory(self) -> int:
        """PSS of all processes, in bytes."""
        return sum(pss(process.pid) for process in self.processes)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.communicate("stop\n")


def pss(root: int) -> int:
    """Bytes of a process and all below it; pages that several share count in parts."""
    total = 0
    with suppress(OSError):  # a process may end at any time
        rollup = Path(f"/proc/{root}/smaps_rollup").read_text()
        total = next(int(x.split()[1]) * 1024 for x in rollup.splitlines() if x.startswith("Pss:"))
        for thread in Path(f"/proc/{root}/task").iterdir():
            total += sum(pss(int(pid)) for pid in (thread / "children").read_text().split())
    return total
