"""Repetition: share of repeated n-grams, a detector of endings in a loop, and dense penalties per
token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.registry import register
from rewards.types import Reward, Sample

_TAIL = 4_000  # units at the end of a response that are searched for a loop


@register("repetition", bounded=True)
def repetition(sample: Sample, ngram: int = 20, max_penalty: float = -1.0) -> Reward:
    """`max_penalty` times the share of repeated word n-grams: 1 - distinct / all (Demystifying long
    CoT, sparse form).
    """
    return _penalised(sample, ngram, max_penalty)


@register("repetition_if_wrong", bounded=True)
def repetition_if_wrong(
    sample: Sample,
    earlier: Mapping[str, Reward],
    correct: str = "accuracy",
    ngram: int = 20,
    max_penalty: float = -1.0,
) -> Reward:
    """`repetition`, for wrong answers only: a right answer may repeat itself."""
    if earlier[correct].score > 0:
        return Reward(0.0, "right")
    return _penalised(sample, ngram, max_penalty)


@register("loop", bounded=True)
def loop(
    sample: Sample,
    penalty: float = -1.0,
    max_period: int = 200,
    min_repeats: int = 3,
    min_chars: int = 60,
) -> Reward:
    """`penalty` for a response whose end goes round in circles, else 0; units are characters."""
    period = loop_period(
        sample.response, max_period=max_period, min_repeats=min_repeats, min_length=min_chars
    )
    if period is None:
        return Reward(0.0, "no_loop")
    return Reward(penalty, "loop", {"period": period})


@register("token_repetition", bounded=True, per_token=True)
def token_repetition(sample: Sample, ngram: int = 40, penalty: float = -0.05) -> Reward:
    """`token_penalties` of the response, for token-level advantages; `score` is their sum."""
    penalties = token_penalties(sample.token_ids, ngram, penalty)
    share = sum(value != 0 for value in penalties) / max(1, len(penalties))
    reason = "repeats" if share else "none"
    return Reward(sum(penalties), reason, {"share": share}, token_scores=penalties)


def _penalised(sample: Sample, ngram: int, max_penalty: float) -> Reward:
    share = repeated_share(sample.response.split(), ngram)
    return Reward(share * max_penalty, "repeats" if share else "none", {"share": share})


def repeated_share(units: Sequence[Any], ngram: int) -> float:
    """1 - distinct n-grams / all n-grams; 0 where there are none."""
    total = len(units) - ngram + 1
    if total <= 0:
        return 0.0
    return 1 - len({tuple(units[i : i + ngram]) for i in range(total)}) / total


def loop_period(
    units: Sequence[Any], *, max_period: int = 200, min_repeats: int = 3, min_length: int = 0
) -> int | None:
    """The period with which `units` end, or None.

    A loop is an ending that is periodic with period at most `max_period`, at least `min_repeats`
    whole times, over at least `min_length` units. Only the last 4,000 units are looked at.
    """
    tail = units[-_TAIL:]
    for period in range(1, min(max_period, len(tail) // min_repeats) + 1):
        needed = max(period * min_repeats, min_length)
        if needed > len(tail):
            continue
        if all(tail[-1 - k] == tail[-1 - k - period] for k in range(needed - period)):
            return period
    return None


def token_penalties(
    token_ids: Sequence[int], ngram: int = 40, penalty: float = -0.05
) -> list[float]:
    """Dense form: `penalty` on every token of an n-gram that occurred before (Demystifying long
    CoT, section 5).

    Returns:
        One value per token, 0 or `penalty`; for estimators with token-level advantages.
    """
    penalties = [0.0] * len(token_ids)
    seen: set[tuple[int, ...]] = set()
    for start in range(len(token_ids) - ngram + 1):
        gram = tuple(token_ids[start : start + ngram])
        if gram in seen:
            penalties[start : start + ngram] = [penalty] * ngram
        seen.add(gram)
    return penalties
