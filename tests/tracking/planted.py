"""A recorded run of three steps, made by hand through the functions that record, with a fault
planted where a test asks for one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from grpo.common.files import append_line
from grpo.tracking.chain import Link, append, digests_of
from grpo.tracking.record import write_rollouts


def run() -> list[dict[str, Any]]:
    """What each step makes; step 0 has weights only."""
    steps: list[dict[str, Any]] = [{"weights": {"embed": 7, "layers.0": 8}, "gradients": {}}]
    for step in (1, 2, 3):
        rows, arrays = [], {"prompt_token_ids": [], "token_ids": [], "logprobs": [], "versions": []}
        for i in range(4):
            rows.append(
                {
                    "step": step,
                    "problem_id": f"p{step}{i // 2}",
                    "prompt": f"{step}+{i // 2}=",
                    "response": "7",
                    "gold": "7",
                    "reward": float(i % 2),
                    "components": {"accuracy": float(i % 2)},
                    "advantage": float(i % 2) * 2 - 1,
                    "weight_version": step - 1,
                    "seed": 10 * step + i,
                }
            )
            arrays["prompt_token_ids"].append([step, 20, i // 2])
            arrays["token_ids"].append([5, 6 + i, 2])
            arrays["logprobs"].append([-0.5, -0.25 * (i + 1), -0.125])
            arrays["versions"].append([step - 1] * 3)
        steps.append(
            {
                "rows": rows,
                "arrays": arrays,
                "metrics": {
                    "step": step,
                    "lr": 1e-3,
                    "kl_coef": 0.1,
                    "reward": 0.5,
                    "weight_version": step - 1,
                    "seconds/sample": 1.0,
                },
                "gradients": {"embed": 0.5, "layers.0": 1.5 * step},
                "weights": {"embed": 100 * step, "layers.0": 100 * step + 1},
            }
        )
    return steps


def write(folder: Path, steps: list[dict[str, Any]], *, tokens: bool = True) -> Path:
    """Record the steps as the loop does."""
    chain = ""
    for step, made in enumerate(copy.deepcopy(steps)):
        digests = {}
        if step:
            write_rollouts(folder, step, made["rows"], made["arrays"] if tokens else None)
            append_line(folder / "metrics.jsonl", made["metrics"])
            digests = digests_of(made["rows"], made["arrays"], made["metrics"])
        folder.mkdir(exist_ok=True)
        link = Link.made(step, chain, digests, made["gradients"], made["weights"])
        append(folder, link)
        chain = link.chain
    return folder


def next_float32(value: float) -> float:
    """The closest larger float32."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
