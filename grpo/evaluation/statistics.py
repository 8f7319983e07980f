"""Estimates of an evaluation and how far they can be trusted. Pure functions of counts and rates.

Left out on purpose: the bootstrap. It has no width where all problems come out alike, which is what
happens on small and hard sets, and where a reader most needs to know how little was seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

import numpy as np
from numpy.typing import NDArray

_EXACT_FLIPS = 14  # problems that differ; with more, signs are drawn
_DRAWN_FLIPS = 50_000


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Difference of two results on the same problems."""

    difference: float  # mean over problems of second minus first
    interval: tuple[float, float] | None  # None where it cannot be told: no problem differs
    p_value: float  # two-sided, under "either could have been the other"
    better: int  # problems on which the second is better
    worse: int


def powers_up_to(n: int) -> list[int]:
    """1, 2, 4, ... and n itself: the k of pass@k and maj@k."""
    return sorted({*itertools.takewhile(lambda k: k < n, (2**i for i in itertools.count())), n})


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Chance that at least one of k responses is right, without bias from n >= k of them.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, equation 1). The naive 1 - (1 -
    c/n)^k is too low for every k > 1.
    """
    assert 0 <= num_right <= num_samples and 1 <= k <= num_samples
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def majority_at_k(right: int, wrong: Sequence[int], silent: int, k: int) -> float:
    """Chance that the vote of k responses elects the right answer (self-consistency,
    arXiv:2203.11171).

    It is the exact mean over all C(n, k) choices of k of the n responses. Where m answers share the
    lead, each of them wins with chance 1/m: the expected value of a tie broken at random. Which
    answer was seen first says nothing of the model. A vote without any answer is lost.

    Args:
        right: responses with the right answer.
        wrong: responses with each of the wrong answers, one number an answer.
        silent: responses without an answer. They are drawn, and vote for nothing.
        k: responses that vote, at most all of them.
    """
    total = right + sum(wrong) + silent
    assert 1 <= k <= total
    won = 0.0
    for votes in range(1, min(right, k) + 1):
        # ways[d, t]: choices of d other responses in which t wrong answers have `votes` votes as
        # well, and none has more.
        ways = np.zeros((k - votes + 1, (k - votes) // votes + 1))
        ways[0, 0] = 1.0
        for count in wrong:
            grown = np.zeros_like(ways)
            for taken in range(min(count, votes, k - votes) + 1):
                tied = int(taken == votes)
                rows, columns = ways.shape[0] - taken, ways.shape[1] - tied
                grown[taken:, tied:] += math.comb(count, taken) * ways[:rows, :columns]
            ways = grown
        for drawn, row in enumerate(ways):
            if (quiet := k - votes - drawn) <= silent:
                shares = row / np.arange(1, len(row) + 1)
                won += math.comb(right, votes) * math.comb(silent, quiet) * float(shares.sum())
    return won / math.comb(total, k)


def clustered_interval(
    rates: Sequence[float], num_samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a mean accuracy, with problems as clusters.

    The n responses to a problem share its difficulty, so they are not n independent observations.
    The variance of the mean is that of the problems' own rates: s^2 / P. It holds what varies
    between problems and what varies between samples (Miller 2024, arXiv:2411.00640, section 2.2).

    The shape is Wilson's score interval with m = p(1-p) / (s^2 / P) observations, the effective
    sample size of Korn and Graubard (1998), and Student's t with P - 1 degrees. So it stays within
    0 and 1, and has a width where all problems came out right or wrong: m is P there. More than the
    P n responses are never assumed.

    Args:
        rates: share of right answers of each problem.
        num_samples: n, responses to each problem.
        confidence: chance with which such intervals cover the true mean.

    Returns:
        Low and high. One problem says nothing of others: (0, 1).
    """
    count, mean = len(rates), fmean(rates)
    if count < 2:
        return 0.0, 1.0
    spread = variance(rates) / count
    effective = float(count)
    if 0 < mean < 1:
        most = float(count * num_samples)
        effective = min(most, mean * (1 - mean) / spread) if spread > 0 else most
    square = student_quantile((1 + confidence) / 2, count - 1) ** 2
    centre = mean + square / (2 * effective)
    half = math.sqrt(square * (mean * (1 - mean) + square / (4 * effective)) / effective)
    scale = 1 + square / effective
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_test(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> PairedTest:
    """Two results on the same problems, compared problem by problem.

    Difficulty is common to both and cancels, so the interval is far narrower than those of the two
    results. It is Student's, over the problems' differences. The test flips the sign of each
    difference at random: if the two were alike, either sign was as likely. With at most 14 problems
    that differ all 2^m signs are tried, else 50,000 are drawn.

    Args:
        first: rates of the problems; `second` has the same problems in the same order.
        confidence: of the interval.
        seed: of the drawn signs.
    """
    differences = np.array(second, float) - np.array(first, float)
    moved = differences[differences != 0]
    count, mean = len(differences), float(differences.mean())
    interval = None
    if count > 1 and len(moved):
        error = math.sqrt(float(differences.var(ddof=1)) / count)
        half = student_quantile((1 + confidence) / 2, count - 1) * error
        interval = (max(-1.0, mean - half), min(1.0, mean + half))
    return PairedTest(
        difference=mean,
        interval=interval,
        p_value=_sign_flips(moved, seed),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
    )


def _sign_flips(moved: NDArray[np.float64], seed: int) -> float:
    """Share of signs under which the sum is at least as far from 0 as it is."""
    seen = abs(float(moved.sum())) - 1e-12  # equal sums may differ in their last bit
    if len(moved) <= _EXACT_FLIPS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(moved))))
        return float((np.abs(signs @ moved) >= seen).mean())
    rng = np.random.default_rng(seed)
    beyond = 1  # what was seen is one of the possible outcomes, so p is never 0
    for _ in range(_DRAWN_FLIPS // 1000):
        signs = rng.choice((-1.0, 1.0), size=(1000, len(moved)))
        beyond += int((np.abs(signs @ moved) >= seen).sum())
    return beyond / (_DRAWN_FLIPS + 1)


def student_quantile(share: float, degrees: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees, else the expansion of Cornish and Fisher
    (Abramowitz and Stegun 26.7.5), which is 1% low for 3 degrees and within 0.1% from 6 on.
    """
    if degrees == 1:
        return math.tan(math.pi * (share - 0.5))
    if degrees == 2:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    z: float = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
