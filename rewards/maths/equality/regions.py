"""Equality of sets of real numbers given as unions of intervals."""

from __future__ import annotations

from typing import Any

from rewards.maths.answer.kinds import Piece, Region
from rewards.maths.expression.identity import same_value
from rewards.maths.expression.node import Node, variables
from rewards.maths.expression.numeric import Evaluator
from rewards.maths.limits import Budget, UndefinedError

_DIGITS = 60
_INFINITY = float("inf")
# low, low_closed, high, high_closed; an end is a number of the evaluator's context or an infinity
Interval = tuple[Any, bool, Any, bool]


def same_region(left: Region, right: Region, budget: Budget) -> bool:
    """The same set of reals: touching pieces are joined first; with variables in an end, piece by
    piece.

    Raises:
        LimitError: an end is too costly to evaluate.
    """
    if _has_variables(left) or _has_variables(right):
        return len(left.pieces) == len(right.pieces) and all(
            _same_piece(a, b, budget) for a, b in zip(left.pieces, right.pieces, strict=True)
        )
    try:
        first, second = _joined(left, budget), _joined(right, budget)
    except UndefinedError:
        return False
    return len(first) == len(second) and all(
        _close(a[0], b[0]) and _close(a[2], b[2]) and a[1] == b[1] and a[3] == b[3]
        for a, b in zip(first, second, strict=True)
    )


def _has_variables(region: Region) -> bool:
    return any(
        end is not None and variables(end)
        for piece in region.pieces
        for end in (piece.low, piece.high)
    )


def _same_piece(left: Piece, right: Piece, budget: Budget) -> bool:
    if (left.low_closed, left.high_closed) != (right.low_closed, right.high_closed):
        return False
    return _same_end(left.low, right.low, budget) and _same_end(left.high, right.high, budget)


def _same_end(left: Node | None, right: Node | None, budget: Budget) -> bool:
    if left is None or right is None:
        return left is right
    return same_value(left, right, budget)


def _joined(region: Region, budget: Budget) -> list[Interval]:
    """Sorted pieces without the empty ones, those that touch or overlap joined."""
    evaluator = Evaluator(budget, _DIGITS, {}, allow_complex=False)

    def end(node: Node | None, infinite: float) -> Any:
        return (
            evaluator.context.mpf(infinite)
            if node is None
            else evaluator.inexact(evaluator.value(node))
        )

    pieces = [
        (
            end(piece.low, -_INFINITY),
            piece.low_closed,
            end(piece.high, _INFINITY),
            piece.high_closed,
        )
        for piece in region.pieces
    ]
    pieces = [
        p
        for p in pieces
        if (p[0] < p[2] and not _close(p[0], p[2])) or (_close(p[0], p[2]) and p[1] and p[3])
    ]
    joined: list[Interval] = []
    for low, low_closed, high, high_closed in sorted(pieces, key=lambda p: (p[0], not p[1])):
        if joined and _touches(joined[-1], low, low_closed):
            joined[-1] = _extended(joined[-1], high, high_closed)
        else:
            joined.append((low, low_closed, high, high_closed))
    return joined


def _touches(last: Interval, low: Any, low_closed: bool) -> bool:
    if _close(last[2], low):
        return last[3] or low_closed
    return bool(low < last[2])


def _extended(last: Interval, high: Any, high_closed: bool) -> Interval:
    if _close(last[2], high):
        return (*last[:2], high, high_closed or last[3])
    return (*last[:2], high, high_closed) if high > last[2] else last


def _close(left: Any, right: Any) -> bool:
    if left == right:
        return True
    gap = abs(left - right)
    return bool(gap < max(abs(left), abs(right), 1) * 10.0**-45)
