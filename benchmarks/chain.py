"""What a link of the hash chain costs: `python -m benchmarks.chain`.

Digests of the samples of a step of `recipes/tiny.yaml`, and the hash of its weights, each the
median of 21 calls on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from grpo.tracking.chain import Link, digests_of
from grpo.weights.hashes import content_hash

SAMPLES, TOKENS = 512, 40
ELEMENTS = {"recipes/tiny.yaml": 500_000, "16 times that": 8_000_000}


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = [
        {
            "problem_id": f"p{i}",
            "prompt": "User: 3+4*5\nAssistant:",
            "response": " <think>4*5=20</think> <answer>23</answer>",
            "gold": "23",
            "reward": i / 7,
            "components": {"accuracy": i / 7, "format": 1.0},
            "advantage": i / 11,
        }
        for i in range(SAMPLES)
    ]
    arrays = {
        "prompt_token_ids": [[1] * 12] * SAMPLES,
        "token_ids": [[2] * TOKENS] * SAMPLES,
        "logprobs": [[-0.1] * TOKENS] * SAMPLES,
        "versions": [[3] * TOKENS] * SAMPLES,
    }
    metrics = {f"metric_{i}": i / 3 for i in range(40)}

    def link() -> None:
        Link.made(1, "", digests_of(rows, arrays, metrics), {"layer": 1.0}, {"layer": 1})

    print(f"digests of {SAMPLES} samples of {TOKENS} tokens: {1e3 * seconds(link):.1f} ms")
    for name, count in ELEMENTS.items():
        weights = torch.randn(count)
        took = seconds(lambda weights=weights: content_hash(weights, exact=True))  # type: ignore[misc]
        print(f"hash of {count:,} weights ({name}): {1e3 * took:.1f} ms")
        squares = seconds(lambda weights=weights: weights.double().square().sum())  # type: ignore[misc]
        print(f"squares of their gradient: {1e3 * squares:.1f} ms")


def seconds(work: Callable[[], object]) -> float:
    """Median of the processor's time of 21 calls, after one."""
    work()
    times = []
    for _ in range(21):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


if __name__ == "__main__":
    main()
