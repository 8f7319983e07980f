"""What changes with the step, as pure functions of it: the learning rate."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    peak: float,
    max_steps: int,
    warmup_steps: int = 0,
    schedule: Literal["constant", "linear", "cosine"] = "constant",
    final_share: float = 0.0,
) -> float:
    """Learning rate of update `step` (0-based): linear warm-up to `peak`, then the schedule.

    `linear` and `cosine` fall to `peak * final_share` at step `max_steps - 1` and stay there.
    The first warm-up step is `peak / warmup_steps`, so no step is wasted at 0.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    progress = min((step - warmup_steps) / max(max_steps - 1 - warmup_steps, 1), 1.0)
    falling = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (final_share + (1.0 - final_share) * falling)
