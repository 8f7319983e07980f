"""Rewards that a user might write, with a fault each; workers import this module too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rewards import Reward, Sample, register


@register("faulty")
def faulty(sample: Sample) -> Any:
    """Returns or raises what the response names."""
    if sample.response == "raise":
        raise KeyError("no such thing")
    return {
        "reward": Reward(0.25, "ok"),
        "number": 0.5,
        "numpy": np.float32(0.5),
        "numpy score": Reward(np.float64(0.5), "ok", {"share": np.float32(0.5)}),
        "whole": np.int64(2),
        "true": True,
        "nan": math.nan,
        "nan score": Reward(math.inf, "ok"),
        "none": None,
        "text": "1.0",
        "array": np.ones(3),
        "beyond a float": 10**400,
    }[sample.response]


@register("unequal", group=True)
def unequal(samples: list[Sample]) -> list[Reward]:
    """One reward too few."""
    return [Reward(1.0, "ok") for _ in samples[1:]]
