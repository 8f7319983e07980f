"""A long run with a random fault each 20 steps, and what its processes grow by meanwhile.

    python -m benchmarks.soak [--steps 400] [--seed 7] [--output FOLDER]

The recipe, the faults and the account of steps and samples are those of `benchmarks.chaos`. Nothing
runs beside it without faults, so that losses are not compared; the gap between the log-probs of
engine and learner tells whether engines have the weights that they should have.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos import (
    Chaos,
    Result,
    account,
    adopt_orphans,
    card,
    count_told,
    kill,
    left_over,
)
from grpo.common.command_line import Parser, run
from grpo.tracking.record import read_metrics

VICTIMS = (
    ("engine.submit", "kill"),
    ("engine.finished", "kill"),
    ("engine.update", "kill"),
    ("learner.forward", "kill"),
    ("learner.step", "kill"),
    ("driver.learn", "kill"),
    ("driver.record", "kill"),
    ("save.learner", "kill"),
)


def soak(chaos: Chaos, steps: int, seed: int) -> Result:
    """S1: many short steps with a random fault each 20, and what leaks meanwhile."""
    rng, result, began = random.Random(seed), Result("S1", f"{steps} steps"), time.monotonic()
    output, plan = chaos.folder / "soak", chaos.folder / "soak.plan.json"
    shutil.rmtree(output, ignore_errors=True)
    for old in chaos.folder.glob(f"{plan.name}*"):
        old.unlink()
    plan.write_text("[]", encoding="utf-8")
    overrides = [
        *(f"trainer.max_steps={steps}", "supervise=true", "checkpoint.every=5"),
        *("health.max_logprob_gap=1e-4",),
    ]
    faults: list[dict[str, Any]] = []
    before = adopt_orphans()
    lives: dict[tuple[str, int], list[Usage]] = {}  # by kind and number of the process
    with (chaos.folder / "soak.log").open("w", encoding="utf-8") as told:
        child = subprocess.Popen(
            chaos.command(output, overrides),
            env={**os.environ, "CHAOS_PLAN": str(plan)},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        while child.poll() is None:
            time.sleep(1)
            step = _step_of(output)
            if step >= 20 * (len(faults) + 1) and step < steps - 10:
                point, action = rng.choice(VICTIMS)
                faults.append(kill(point, action))
                partial = plan.with_suffix(".partial")
                partial.write_text(json.dumps(faults), encoding="utf-8")
                partial.rename(plan)
            for pid in _descendants(child.pid):
                if (seen := _usage(pid, child.pid, step)) is not None:
                    lives.setdefault((seen[0], pid), []).append(seen[1])
    result.planned = len(faults)
    result.faults = len(list(chaos.folder.glob(f"{plan.name}.struck_*")))
    if child.returncode:
        result.problems.append(f"exit code {child.returncode}")
    if result.faults != len(faults):
        result.problems.append(f"{result.faults} of {len(faults)} faults have struck")
    if orphans := left_over(before):
        result.problems.append(f"processes are left: {orphans}")
    result.orphans = len(orphans)
    count_told(result, chaos.folder / "soak.log")
    result.account = account(output, steps)
    result.problems += result.account.problems
    rows = [row for row in read_metrics(output) if "grad_norm" in row]
    if [row["step"] for row in rows] != list(range(1, steps + 1)):
        result.problems.append("steps are missing or twice in the record")
    gap = max(row["logprob_gap_mean"] for row in rows)
    result.says += f", largest mean log-prob gap {gap:.1e}{slopes(lives)}"
    result.seconds = time.monotonic() - began
    return result


@dataclass
class Usage:
    """What a process holds at a step."""

    step: int
    mib: float
    descriptors: int


def slopes(lives: dict[tuple[str, int], list[Usage]]) -> str:
    """Memory and descriptors of each kind of process: what they hold, and by how much that grows.

    A process that has just started still fills its caches, so the first 20 steps of a life and
    lives with less than 20 after them do not count.
    """
    lines = []
    for kind in sorted({kind for kind, _ in lives}):
        own = [life for (of, _), life in lives.items() if of == kind]
        steady = [[one for one in life if one.step >= life[0].step + 20] for life in own]
        steady = [life for life in steady if life and life[-1].step - life[0].step >= 20]
        text = f"{len(own)} lives, at most {max(u.mib for life in own for u in life):.0f} MiB and "
        text += f"{max(u.descriptors for life in own for u in life)} descriptors"
        if steady:
            grown = sum(life[-1].step - life[0].step for life in steady)
            mib = sum(life[-1].mib - life[0].mib for life in steady)
            more = sum(life[-1].descriptors - life[0].descriptors for life in steady)
            text += f"; in {grown} steady steps {mib:+.0f} MiB and {more:+d} descriptors"
        lines.append(f"\n{'':13}{kind}: {text}")
    return "".join(lines)


def _step_of(output: Path) -> int:
    try:
        return max((int(row["step"]) for row in read_metrics(output)), default=0)
    except (FileNotFoundError, ValueError):
        return 0


def _descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *_descendants(child))]


def _usage(pid: int, supervisor: int, step: int) -> tuple[str, Usage] | None:
    """The kind of a process and what it holds; None for those that only serve Ray or grade."""
    folder = Path(f"/proc/{pid}")
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = (folder / "status").read_text()
        descriptors = len(list((folder / "fd").iterdir()))
    except OSError:
        return None
    kinds = {"RolloutWorker": "engines", "LearnerWorker": "ranks"}
    kind = next((kind for text, kind in kinds.items() if text in command), None)
    if f"PPid:\t{supervisor}\n" in status:
        kind = "driver"
    rss = [line for line in status.splitlines() if line.startswith("VmRSS")]
    if kind is None or not rss:
        return None
    return kind, Usage(step, int(rss[0].split()[1]) / 1024, descriptors)


def main(arguments: Sequence[str] | None) -> int:
    """Soak, and print the scorecard; exit code 1 when it was not survived."""
    parser = Parser("benchmarks.soak", "A long run with random faults.")
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/chaos"), help="folder of the run")
    add("--steps", type=int, default=400)
    add("--seed", type=int, default=7)
    options = parser.parse(arguments)
    from tests.models import SMALL_MODEL

    folder = options.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    result = soak(Chaos(folder, SMALL_MODEL, keeps_bases=True), options.steps, options.seed)
    print(card([result]))
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(run(main))
