"""Sets of real numbers as unions of intervals: the normal form of intervals, inequalities and
finite sets.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Inequality,
    Listing,
    Piece,
    Region,
    Scalar,
    Several,
    Tuple,
)
from rewards.maths.expression.identity import same_value, sign
from rewards.maths.expression.node import (
    INFINITY,
    TWO,
    ZERO,
    Node,
    Op,
    add,
    call,
    minus,
    mul,
    neg,
    num,
    variables,
)
from rewards.maths.expression.numeric import Evaluator
from rewards.maths.limits import Budget, NotMathError, UndefinedError

_MAX_INTEGERS, _MAX_PIECES = 100, 400
EVERYTHING = Region((Piece(None, False, None, False),))
_POSITIVE, _NEGATIVE = Piece(ZERO, False, None, False), Piece(None, False, ZERO, False)
# By the word before `real numbers`.
SIGNED = {
    "": EVERYTHING,
    "positive": Region((_POSITIVE,)),
    "negative": Region((_NEGATIVE,)),
    "nonnegative": Region((_POSITIVE._replace(low_closed=True),)),
    "nonpositive": Region((_NEGATIVE._replace(high_closed=True),)),
    "nonzero": Region((_NEGATIVE, _POSITIVE)),
}


def interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Piece:
    """The interval between two ends, which may be infinite.

    Raises:
        NotMathError: it begins at plus infinity or ends at minus infinity.
    """
    if low == INFINITY or high == neg(INFINITY):
        raise NotMathError("an interval from the wrong infinity")
    left = None if low == neg(INFINITY) else low
    return Piece(left, low_closed, None if high == INFINITY else high, high_closed)


def as_region(answer: Answer) -> Region | None:
    """The answer as a set of reals, where it is one: an interval, a finite set, a single number."""
    match answer:
        case Region():
            return answer
        case Assign(name, (), value) if name != "!=":
            return as_region(value)
        case Tuple(opener, (Scalar(low), Scalar(high)), closer):
            try:
                return Region((interval(low, opener == "[", high, closer == "]"),))
            except NotMathError:
                return None
        case Scalar(node):
            return Region((Piece(node, True, node, True),))
        case Listing(items, kind):
            kinds = Scalar | Region | Tuple if kind is Several.OR else Scalar | Region
            regions = [as_region(item) for item in items if isinstance(item, kinds)]
            names = {region.variable for region in regions if region and region.variable}
            if len(regions) < len(items) or len(names) > 1:
                return None
            return Region(tuple(piece for region in regions if region for piece in region.pieces))
    return None


def half_lines(inequality: Inequality) -> list[Region]:
    """`x > a` as (a, infinity) in x, and as (-infinity, x) in a."""
    left, right, closed = inequality
    regions = []
    if right.op is Op.SYM and right.value not in variables(left):
        regions.append(Region((Piece(left, closed, None, False),), str(right.value)))
    if left.op is Op.SYM and left.value not in variables(right):
        regions.append(Region((Piece(None, False, right, closed),), str(left.value)))
    return regions


def intersection(first: Region, second: Region, budget: Budget) -> Region:
    """What two regions share; without pieces where that is nothing. From a to b is taken to be an
    interval.

    Raises:
        NotMathError: ends with variables cannot be ordered, or there are too many pieces.
        LimitError: an end is too costly to evaluate.
    """

    def order(left: Node, right: Node) -> int | None:
        return 0 if left == right else sign(minus(left, right), budget)

    def inner(
        a: Node | None, a_closed: bool, b: Node | None, b_closed: bool, wanted: int
    ) -> tuple[Node | None, bool]:
        """The end that cuts off more: the larger of two lower ends (`wanted` is 1), the smaller of
        two upper ones.
        """
        if a is None or b is None:
            return (b, b_closed) if a is None else (a, a_closed)
        found = order(a, b)
        if found is None:
            raise NotMathError("the order of two ends is not known")
        if found == 0:
            return a, a_closed and b_closed
        return (a, a_closed) if found == wanted else (b, b_closed)

    pieces = []
    if len(first.pieces) * len(second.pieces) > _MAX_PIECES:
        raise NotMathError("too many pieces")
    for a in first.pieces:
        for b in second.pieces:
            budget.spend(1)
            low, low_closed = inner(a.low, a.low_closed, b.low, b.low_closed, 1)
            high, high_closed = inner(a.high, a.high_closed, b.high, b.high_closed, -1)
            width = 1 if low is None or high is None else order(high, low)
            if width in (1, None) or (width == 0 and low_closed and high_closed):
                pieces.append(Piece(low, low_closed, high, high_closed))
    return Region(tuple(pieces), first.variable)


def without(region: Region, removed: Answer, budget: Budget) -> Region:
    """The region less another one.

    Raises:
        NotMathError: it is not known where what is removed lies.
        LimitError: an end is too costly to evaluate.
    """
    taken = as_region(removed)
    if taken is None or taken.domain:
        raise NotMathError("difference of sets")
    for low, low_closed, high, high_closed in taken.pieces:
        sides = [] if low is None else [Piece(None, False, low, not low_closed)]
        sides += [] if high is None else [Piece(high, not high_closed, None, False)]
        region = intersection(region, Region(tuple(sides)), budget)
    return region


def is_reversed(region: Region, budget: Budget) -> bool:
    """Does a piece end before it begins, as (5, 4) does?"""
    ends = [(piece.low, piece.high) for piece in region.pieces]
    return any(low and high and sign(minus(high, low), budget) == -1 for low, high in ends)


def solved(inequality: Inequality, budget: Budget) -> Region | None:
    """The region of a linear or quadratic inequality in one variable with rational coefficients, or
    of `|...| < 2` with a linear inside; None for any other.

    Raises:
        LimitError: a side is too costly to evaluate.
    """
    left, right, closed = inequality
    names = variables(left) | variables(right)
    if len(names) != 1:
        return None
    [name] = names
    for bars, bound in ((left, right), (right, left)):
        # |u| < c is u^2 < c^2, where c is a constant that is not negative.
        if bars.op is Op.CALL and bars.value == "abs":
            if sign(bound, budget) in (0, 1):
                inner = bars.args[0]
                squares = mul(inner, inner), mul(bound, bound)
                left, right = squares if bars is left else squares[::-1]
            break
    values = []  # of right - left, which is a x^2 + b x + c
    for at in (0, 1, 2, 5, -3):
        evaluator = Evaluator(budget, 30, {name: Fraction(at)}, allow_complex=False)
        try:
            value = evaluator.value(minus(right, left))
        except UndefinedError:
            return None
        if not isinstance(value, Fraction):
            return None
        values.append(value)
    c = values[0]
    a = (values[2] - 2 * values[1] + c) / 2
    b = values[1] - a - c
    if values[3:] != [25 * a + 5 * b + c, 9 * a - 3 * b + c] or a == b == 0:
        return None
    if a == 0:
        root = num(-c / b)
        above, below = Piece(root, closed, None, False), Piece(None, False, root, closed)
        return Region((above if b > 0 else below,), name)
    inside = b * b - 4 * a * c
    if inside < 0:
        return Region(EVERYTHING.pieces if a > 0 else (), name)
    width = call("root", num(inside / (4 * a * a)), TWO)  # half of the distance of the roots
    low, high = (add(num(-b / (2 * a)), end) for end in (neg(width), width))
    if a < 0:
        return Region((Piece(low, closed, high, closed),), name)
    return Region((Piece(None, False, low, closed), Piece(high, closed, None, False)), name)


def whole_numbers(region: Region) -> tuple[Region, list[int] | None]:
    """The whole numbers of a region, as one with closed whole ends where ends are plain numbers
    (n > 2 is n >= 3), and one by one; None where they are too many or not known.
    """
    pieces, numbers = [], set[int]()
    known = True
    for piece in region.pieces:
        low, high = (end.number if end else None for end in (piece.low, piece.high))
        first = last = None
        if low is not None:
            first = math.ceil(low) if piece.low_closed else math.floor(low) + 1
            piece = piece._replace(low=num(first), low_closed=True)
        if high is not None:
            last = math.floor(high) if piece.high_closed else math.ceil(high) - 1
            piece = piece._replace(high=num(last), high_closed=True)
        pieces.append(piece)
        known = known and first is not None and last is not None and last - first <= _MAX_INTEGERS
        if known and first is not None and last is not None:
            numbers.update(range(first, last + 1))
    return region._replace(pieces=tuple(pieces)), sorted(numbers) if known else None


# --- equality

_DIGITS = 60
_Ends = tuple[Any, bool, Any, bool]  # a piece with numbers of the evaluator's context


def same_region(left: Region, right: Region, budget: Budget) -> bool:
    """The same set of reals: touching pieces are joined first; with variables in an end, piece by
    piece.

    Raises:
        LimitError: an end is too costly to evaluate.
    """
    pieces = (*left.pieces, *right.pieces)
    if any(end and variables(end) for piece in pieces for end in (piece.low, piece.high)):
        return len(left.pieces) == len(right.pieces) and all(
            (a.low_closed, a.high_closed) == (b.low_closed, b.high_closed)
            and all(
                same_value(end, other, budget) if end and other else end is other
                for end, other in ((a.low, b.low), (a.high, b.high))
            )
            for a, b in zip(left.pieces, right.pieces, strict=True)
        )
    try:
        first, second = _joined(left, budget), _joined(right, budget)
    except UndefinedError:
        return False
    return len(first) == len(second) and all(
        _close(a[0], b[0]) and _close(a[2], b[2]) and (a[1], a[3]) == (b[1], b[3])
        for a, b in zip(first, second, strict=True)
    )


def _joined(region: Region, budget: Budget) -> list[_Ends]:
    """Sorted pieces without the empty ones, those that touch or overlap joined."""
    evaluator = Evaluator(budget, _DIGITS, {}, allow_complex=False)

    def number(end: Node | None, infinite: str) -> Any:
        return (
            evaluator.context.mpf(infinite)
            if end is None
            else evaluator.inexact(evaluator.value(end))
        )

    joined: list[_Ends] = []
    pieces = [
        (number(piece.low, "-inf"), piece.low_closed, number(piece.high, "inf"), piece.high_closed)
        for piece in region.pieces
    ]
    for low, low_closed, high, high_closed in sorted(pieces, key=lambda p: (p[0], not p[1])):
        is_point = _close(low, high)
        if (low > high and not is_point) or (is_point and not (low_closed and high_closed)):
            continue
        if not joined:
            joined.append((low, low_closed, high, high_closed))
            continue
        *start, end, end_closed = joined[-1]
        if not (end_closed or low_closed if _close(end, low) else low < end):
            joined.append((low, low_closed, high, high_closed))
        elif _close(end, high):
            joined[-1] = (*start, high, high_closed or end_closed)
        elif high > end:
            joined[-1] = (*start, high, high_closed)
    return joined


def _close(left: Any, right: Any) -> bool:
    if left == right:
        return True
    return bool(abs(left - right) < max(abs(left), abs(right), 1) * 10.0**-45)
