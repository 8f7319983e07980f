"""Records shaped like the published run of DeepScaleR's first stage, made from a seed.

Length falls from 5,500 tokens to 3,500, and from step 850 on it grows by 3.5 tokens a step.
Truncation is 4.2% until step 850 and rises by 2.3 points in the 190 steps to 1040, where the
published run was stopped at 6.5%. The reward goes from 0.46 to 0.58 with a time constant of 250
steps and stands still.

The noise is that of a batch of 128 prompts x 8 samples. Three fifths of the variance of a length
(standard deviation 2,300) lie between prompts: 2300^2 x (0.6 / 128 + 0.4 / 1024) gives 164 tokens,
4.7%. The pass rates of prompts have a standard deviation of about 0.4: 0.036 for the mean reward.
Truncation has 0.009. Neighbouring steps are correlated with 0.2.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

NOISE = {"response_length": 164.0, "truncation_share": 0.009, "reward": 0.036}
AUTOCORRELATION = 0.2


def flat(seed: int, steps: int) -> Iterator[dict[str, float]]:
    """Nothing happens but noise."""
    level = {"response_length": 4500.0, "truncation_share": 0.045, "reward": 0.5}
    return _noisy(seed, [level] * steps)


def deepscaler(seed: int, steps: int, truncation: bool = True) -> Iterator[dict[str, float]]:
    """The published curve; `truncation=False` leaves the truncation where it began."""
    return _noisy(
        seed,
        [
            {
                "response_length": 3500 + 2000 * math.exp(-step / 200) + 3.5 * max(step - 850, 0),
                "truncation_share": 0.042 + truncation * 0.023 / 190 * max(step - 850, 0),
                "reward": 0.58 - 0.12 * math.exp(-step / 250),
            }
            for step in range(1, steps + 1)
        ],
    )


def _noisy(seed: int, levels: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    numbers = random.Random(seed)
    noise = {name: numbers.gauss(0, size) for name, size in NOISE.items()}
    fresh = math.sqrt(1 - AUTOCORRELATION**2)
    for level in levels:
        noise = {
            name: AUTOCORRELATION * noise[name] + fresh * numbers.gauss(0, size)
            for name, size in NOISE.items()
        }
        yield {name: max(value + noise[name], 0.0) for name, value in level.items()}
