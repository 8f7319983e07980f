"""The slope and the mean of a short noisy series, each with a standard error that can be believed.

Metrics of neighbouring steps resemble each other, because the policy moves slowly and the data
order has its own waves. An ordinary standard error counts such values as independent and finds
trends in noise. Here the values count as fewer: n (1 - r) / (1 + r) with the autocorrelation r of
neighbours (Santer et al. 2000, doi:10.1029/1999JD901105, section 3).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIN_FREEDOM = 4.0  # below this, Student's t is so wide that nothing can be said
CLIP = 3.5  # robust standard deviations from the resistant line at which a value is held


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error and the degrees of freedom of that error."""

    value: float
    error: float
    freedom: float

    def below(self, confidence: float) -> float:
        """The number is above this with that confidence (one-sided)."""
        return self.value - self.error * student_t(confidence, self.freedom)

    def above(self, confidence: float) -> float:
        """The number is below this with that confidence (one-sided)."""
        return self.value + self.error * student_t(confidence, self.freedom)


def slope(points: Sequence[tuple[float, float]]) -> tuple[Estimate, float] | None:
    """Change per step of (step, value) points, and the level: their mean.

    A resistant line (Tukey: the medians of the outer thirds) says where values should lie. Those
    further away than `CLIP` robust standard deviations are moved to that distance, so that one
    broken step cannot make a trend. Then least squares.

    Returns:
        None where the points are too few or too much alike for a standard error.
    """
    n = len(points)
    if n < 3:
        return None
    steps = [float(step) for step, _ in points]
    values = _held_in([value for _, value in points], steps)
    middle, level = statistics.fmean(steps), statistics.fmean(values)
    spread = sum((step - middle) ** 2 for step in steps)
    change = sum((s - middle) * (v - level) for s, v in zip(steps, values, strict=True)) / spread
    rest = [v - level - change * (s - middle) for s, v in zip(steps, values, strict=True)]
    freedom = effective_size(rest) - 2
    if freedom < MIN_FREEDOM:
        return None
    error = math.sqrt(sum(r * r for r in rest) / freedom / spread)
    return Estimate(change, error, freedom), level


def mean(values: Sequence[float]) -> Estimate | None:
    """The mean of values in the order of their steps; None where they are too few."""
    if len(values) < 2:
        return None
    centre = statistics.fmean(values)
    rest = [value - centre for value in values]
    size = effective_size(rest)
    if size - 1 < MIN_FREEDOM:
        return None
    error = math.sqrt(sum(r * r for r in rest) / (size - 1) / size)
    return Estimate(centre, error, size - 1)


def effective_size(rest: Sequence[float]) -> float:
    """As how many independent values these residuals count.

    A negative autocorrelation would make them more than they are, so it counts as none.
    """
    total = sum(r * r for r in rest)
    if total == 0:
        return float(len(rest))
    r = sum(a * b for a, b in itertools.pairwise(rest)) / total
    return len(rest) * (1 - max(r, 0.0)) / (1 + max(r, 0.0))


def student_t(confidence: float, freedom: float) -> float:
    """The one-sided quantile of Student's t.

    Expanded around the normal quantile (Abramowitz and Stegun 26.7.5). From 4 degrees of freedom
    on it is within 4% up to a confidence of 0.999.
    """
    z = statistics.NormalDist().inv_cdf(confidence)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _held_in(values: list[float], steps: list[float]) -> list[float]:
    """The values, with those far from a resistant line moved to its neighbourhood."""
    third = max(len(values) // 3, 1)
    left, right = statistics.median(values[:third]), statistics.median(values[-third:])
    run = statistics.median(steps[-third:]) - statistics.median(steps[:third])
    tilt = (right - left) / run
    rest = [value - tilt * step for value, step in zip(values, steps, strict=True)]
    base = statistics.median(rest)
    # 1.4826 makes the median distance of a normal distribution its standard deviation.
    reach = CLIP * 1.4826 * statistics.median(abs(r - base) for r in rest)
    if reach == 0:  # most values lie on the line: then the others are not noise
        return values
    return [
        tilt * step + min(max(r, base - reach), base + reach)
        for r, step in zip(rest, steps, strict=True)
    ]
