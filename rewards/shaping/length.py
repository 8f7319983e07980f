"""Rewards of length: cosine and linear (Demystifying long CoT), Kimi k1.5, DAPO's soft overlong
punishment.

Lengths are tokens of the response. What is right is what another component says (`correct`, a
component's name).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rewards.registry import register
from rewards.types import Reward, Sample


@register("length_cosine", bounded=True)
def length_cosine(
    sample: Sample,
    earlier: Mapping[str, Reward],
    correct: str = "accuracy",
    right_short: float = 2.0,
    right_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    exceeded: float = -10.0,
    margin_tokens: int = 16,
    max_tokens: int = 0,
) -> Reward:
    """Cosine length reward (Demystifying long CoT, section 3): b + (a - b) (1 + cos(pi t / T)) / 2.

    From a at t = 0 to b at t = T: (right_short, right_long) for right answers, (wrong_short,
    wrong_long) for wrong ones. A response within `margin_tokens` of T gets `exceeded`, right or
    wrong.

    Args:
        max_tokens: T; 0 takes the limit under which the sample was generated.
    """
    length, limit = _lengths(sample, max_tokens, "length_cosine")
    if length + margin_tokens >= limit:
        return Reward(exceeded, "exceeded", {"tokens": length})
    right = earlier[correct].score > 0
    start, end = (right_short, right_long) if right else (wrong_short, wrong_long)
    score = end + 0.5 * (start - end) * (1 + math.cos(math.pi * length / limit))
    return Reward(score, "right" if right else "wrong", {"tokens": length})


@register("length_linear", bounded=True)
def length_linear(
    sample: Sample,
    earlier: Mapping[str, Reward],
    correct: str = "accuracy",
    floor: float = 0.5,
    max_tokens: int = 0,
) -> Reward:
    """Linear variant of the cosine reward: with c = t / T, right (k + (1 - k) c) (1 - c), wrong c -
    1.

    Args:
        floor: k, what a right answer of length 0 is worth.
        max_tokens: T; 0 takes the limit under which the sample was generated.
    """
    length, limit = _lengths(sample, max_tokens, "length_linear")
    share = min(length / limit, 1.0)
    right = earlier[correct].score > 0
    score = (floor + (1 - floor) * share) * (1 - share) if right else share - 1
    return Reward(score, "right" if right else "wrong", {"tokens": length})


@register("length_kimi", bounded=True, group=True)
def length_kimi(
    samples: Sequence[Sample], earlier: Sequence[Mapping[str, Reward]], correct: str = "accuracy"
) -> list[Reward]:
    """Length reward of Kimi k1.5 (section 2.3.3): lambda = 1/2 - (len - min) / (max - min) for
    right answers.

    Wrong answers get min(0, lambda); min and max are over all samples of the group, right and
    wrong; equal lengths give 0 to all. Kimi adds it only after a while: start with weight 0.
    """
    lengths = [sample.num_tokens for sample in samples]
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    if shortest == longest:
        return [Reward(0.0, "equal_lengths") for _ in samples]
    rewards = []
    for length, others in zip(lengths, earlier, strict=True):
        share = 0.5 - (length - shortest) / (longest - shortest)
        right = others[correct].score > 0
        rewards.append(
            Reward(
                share if right else min(0.0, share),
                "right" if right else "wrong",
                {"tokens": length},
            )
        )
    return rewards


@register("soft_overlong", bounded=True)
def soft_overlong(sample: Sample, cache_tokens: int = 4096, max_tokens: int = 0) -> Reward:
    """Soft overlong punishment of DAPO (equation 13): 0 up to L - C, then falling linearly to -1 at
    L.

    Args:
        cache_tokens: C, the last stretch before the limit.
        max_tokens: L; 0 takes the limit under which the sample was generated.
    """
    length, limit = _lengths(sample, max_tokens, "soft_overlong")
    if not 0 < cache_tokens <= limit:
        raise ValueError(
            f"rewards.components.soft_overlong.cache_tokens={cache_tokens}: "
            f"use 1 to {limit}, the limit"
        )
    expected = limit - cache_tokens
    if length <= expected:
        return Reward(0.0, "short_enough", {"tokens": length})
    if length > limit:
        return Reward(-1.0, "over_limit", {"tokens": length})
    return Reward((expected - length) / cache_tokens, "in_cache", {"tokens": length})


@register("truncation", bounded=True)
def truncation(sample: Sample, penalty: float = -1.0) -> Reward:
    """`penalty` for a response that was cut at its limit, else 0."""
    return Reward(penalty, "truncated") if sample.truncated else Reward(0.0, "complete")


def _lengths(sample: Sample, max_tokens: int, name: str) -> tuple[int, int]:
    """Length and limit in tokens.

    Raises:
        ValueError: no limit is known.
    """
    limit = max_tokens or sample.max_tokens
    if limit <= 0:
        raise ValueError(
            f"rewards.components.{name}.max_tokens: set it, the samples carry no limit"
        )
    return sample.num_tokens, limit
