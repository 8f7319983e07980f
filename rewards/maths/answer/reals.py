"""Answers as sets of real numbers, where they are such sets."""

from __future__ import annotations
from rewards.maths.expression.node import Op

import math
from fractions import Fraction

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Inequality,
    Listing,
    Piece,
    Region,
    Scalar,
    Tuple,
)
from rewards.maths.expression.identity import sign
from rewards.maths.expression.node import MINUS_ONE, TWO, Node, call, neg, num, sym, variables
from rewards.maths.expression.numeric import Evaluator
from rewards.maths.limits import Budget, NotMathError, UndefinedError

_MAX_INTEGERS, _MAX_PIECES = 100, 400
EVERYTHING = Region((Piece(None, False, None, False),))


def as_region(answer: Answer) -> Region | None:
    """The answer as a set of reals, where it is one: an interval, a finite set, a single number."""
    if isinstance(answer, Region):
        return answer
    if isinstance(answer, Assign) and not answer.parameters and answer.name != "!=":
        return as_region(answer.value)
    if isinstance(answer, Tuple) and len(answer.items) == 2:
        low, high = answer.items
        if isinstance(low, Scalar) and isinstance(high, Scalar):
            try:
                return Region(
                    (interval(low.node, answer.opener == "[", high.node, answer.closer == "]"),)
                )
            except NotMathError:
                return None
    if isinstance(answer, Scalar):
        return Region((Piece(answer.node, True, answer.node, True),))
    kinds = (
        Scalar | Region | Tuple
        if isinstance(answer, Listing) and answer.kind == "or"
        else Scalar | Region
    )
    if isinstance(answer, Listing) and all(isinstance(item, kinds) for item in answer.items):
        regions = [as_region(item) for item in answer.items]
        if (
            len({region.variable for region in regions if region is not None and region.variable})
            > 1
        ):
            return None
        return Region(tuple(piece for region in regions if region for piece in region.pieces))
    return None


def half_lines(inequality: Inequality) -> list[Region]:
    """`x > a` as (a, infinity) in x, and as (-infinity, x) in a."""
    left, right, closed = inequality
    regions = []
    if right.op == "sym" and right.value not in variables(left):
        regions.append(Region((Piece(left, closed, None, False),), str(right.value)))
    if left.op == "sym" and left.value not in variables(right):
        regions.append(Region((Piece(None, False, right, closed),), str(left.value)))
    return regions


def interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Piece:
    """The interval between two ends, which may be infinite.

    Raises:
        NotMathError: it begins at plus infinity or ends at minus infinity.
    """
    infinity, minus_infinity = sym("oo"), neg(sym("oo"))
    if low == infinity or high == minus_infinity:
        raise NotMathError("an interval from the wrong infinity")
    return Piece(
        None if low == minus_infinity else low,
        low_closed,
        None if high == infinity else high,
        high_closed,
    )


def intersection(first: Region, second: Region, budget: Budget) -> Region:
    """What two regions share; without pieces where that is nothing. From a to b is taken to be an
    interval.

    Raises:
        NotMathError: ends with variables cannot be ordered, or there are too many pieces.
        LimitError: an end is too costly to evaluate.
    """
    pieces = []
    if len(first.pieces) * len(second.pieces) > _MAX_PIECES:
        raise NotMathError("too many pieces")
    for a in first.pieces:
        for b in second.pieces:
            budget.spend(1)
            low, low_closed = _inner(a.low, a.low_closed, b.low, b.low_closed, budget, larger=True)
            high, high_closed = _inner(
                a.high, a.high_closed, b.high, b.high_closed, budget, larger=False
            )
            width = (
                1
                if low is None or high is None
                else 0
                if low == high
                else _order(high, low, budget)
            )
            if width in (1, None) or (width == 0 and low_closed and high_closed):
                pieces.append(Piece(low, low_closed, high, high_closed))
    return Region(tuple(pieces), first.variable)


def _inner(
    a: Node | None, a_closed: bool, b: Node | None, b_closed: bool, budget: Budget, *, larger: bool
) -> tuple[Node | None, bool]:
    """The end that cuts off more: the larger of two lower ends, the smaller of two upper ones."""
    if a is None or b is None:
        return (b, b_closed) if a is None else (a, a_closed)
    order = 0 if a == b else _order(a, b, budget)
    if order is None:
        raise NotMathError("the order of two ends is not known")
    if order == 0:
        return a, a_closed and b_closed
    return (a, a_closed) if (order == 1) == larger else (b, b_closed)


def _order(left: Node, right: Node, budget: Budget) -> int | None:
    return sign(Node(Op("add"), (left, Node(Op("mul"), (MINUS_ONE, right)))), budget)


def solved(inequality: Inequality, budget: Budget) -> Region | None:
    """The region of a linear or quadratic inequality in one variable with rational coefficients, or
    of `|...| < 2` with a linear inside; None for any other.

    Raises:
        LimitError: a side is too costly to evaluate.
    """
    names = variables(inequality.left) | variables(inequality.right)
    if len(names) != 1:
        return None
    [name] = names
    coefficients = _quadratic(_without_bars(inequality, budget), name, budget)
    if coefficients is None:
        return None
    pieces = _positive(*coefficients, closed=inequality.closed)
    return None if pieces is None else Region(pieces, name)


def _without_bars(inequality: Inequality, budget: Budget) -> Inequality:
    """|u| < c as u^2 < c^2, where c is a constant that is not negative."""
    left, right = inequality.left, inequality.right
    bars, bound = (left, right) if left.op == "call" and left.value == "abs" else (right, left)
    if bars.op != "call" or bars.value != "abs" or sign(bound, budget) not in (0, 1):
        return inequality
    inner = bars.args[0]
    if bars is left:
        return inequality._replace(
            left=Node(Op("mul"), (inner, inner)), right=Node(Op("mul"), (bound, bound))
        )
    return inequality._replace(left=Node(Op("mul"), (bound, bound)), right=Node(Op("mul"), (inner, inner)))


def _quadratic(
    inequality: Inequality, name: str, budget: Budget
) -> tuple[Fraction, Fraction, Fraction] | None:
    """a, b, c where the inequality says 0 < a x^2 + b x + c; None where it says something else."""
    values = []
    for at in (0, 1, 2, 5, -3):
        evaluator = Evaluator(budget, 30, {name: Fraction(at)}, allow_complex=False)
        try:
            left, right = evaluator.value(inequality.left), evaluator.value(inequality.right)
        except UndefinedError:
            return None
        if not isinstance(left, Fraction) or not isinstance(right, Fraction):
            return None
        values.append(right - left)
    c = values[0]
    a = (values[2] - 2 * values[1] + c) / 2
    b = values[1] - a - c
    return (a, b, c) if values[3] == 25 * a + 5 * b + c and values[4] == 9 * a - 3 * b + c else None


def _positive(a: Fraction, b: Fraction, c: Fraction, *, closed: bool) -> tuple[Piece, ...] | None:
    """Where a x^2 + b x + c is positive, or not negative when `closed`; None for a constant."""
    if a == 0:
        if b == 0:
            return None
        root = num(-c / b)
        return (Piece(root, closed, None, False),) if b > 0 else (Piece(None, False, root, closed),)
    inside = b * b - 4 * a * c
    if inside < 0:
        return EVERYTHING.pieces if a > 0 else ()
    width = call("root", num(inside / (4 * a * a)), TWO)  # half of the distance of the roots
    low, high = (Node(Op("add"), (num(-b / (2 * a)), end)) for end in (neg(width), width))
    if a < 0:
        return (Piece(low, closed, high, closed),)
    return Piece(None, False, low, closed), Piece(high, closed, None, False)


def without(region: Region, removed: Answer, budget: Budget) -> Region:
    """The region less another one.

    Raises:
        NotMathError: it is not known where what is removed lies.
        LimitError: an end is too costly to evaluate.
    """
    taken = as_region(removed)
    if taken is None or taken.domain:
        raise NotMathError("difference of sets")
    for piece in taken.pieces:
        below = Piece(None, False, piece.low, not piece.low_closed)
        above = Piece(piece.high, not piece.high_closed, None, False)
        sides = [side for side, end in ((below, piece.low), (above, piece.high)) if end is not None]
        region = intersection(region, Region(tuple(sides)), budget)
    return region


def is_reversed(region: Region, budget: Budget) -> bool:
    """Does a piece end before it begins, as (5, 4) does?"""
    return any(
        piece.low is not None
        and piece.high is not None
        and _order(piece.high, piece.low, budget) == -1
        for piece in region.pieces
    )


def whole_ends(region: Region) -> Region:
    """The same whole numbers with closed ends that are whole, where the ends are plain numbers: n >
    2 is n >= 3.
    """
    pieces = []
    for piece in region.pieces:
        low, high = _plain(piece.low), _plain(piece.high)
        if low is not None:
            first = math.floor(low) + 1 if not piece.low_closed else math.ceil(low)
            piece = piece._replace(low=num(first), low_closed=True)
        if high is not None:
            last = math.ceil(high) - 1 if not piece.high_closed else math.floor(high)
            piece = piece._replace(high=num(last), high_closed=True)
        pieces.append(piece)
    return region._replace(pieces=tuple(pieces))


def integers_in(region: Region) -> list[int] | None:
    """The numbers in a region with `whole_ends`, the smallest first; None where they are too many
    or not known.
    """
    numbers: set[int] = set()
    for piece in region.pieces:
        low, high = _plain(piece.low), _plain(piece.high)
        if low is None or high is None or high - low > _MAX_INTEGERS:
            return None
        numbers.update(range(int(low), int(high) + 1))
    return sorted(numbers)


def _plain(end: Node | None) -> Fraction | None:
    return end.value if end is not None and isinstance(end.value, Fraction) else None
