"""Answers as sets of real numbers, where they are such sets."""

from __future__ import annotations

from fractions import Fraction

from rewards.maths.answer import Answer, Assign, Inequality, Listing, Piece, Region, Scalar, Tuple
from rewards.maths.identity import sign
from rewards.maths.limits import Budget, NotMathError, UndefinedError
from rewards.maths.node import MINUS_ONE, Node, neg, num, sym, variables
from rewards.maths.numeric import Evaluator

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
                return Region((interval(low.node, answer.opener == "[", high.node, answer.closer == "]"),))
            except NotMathError:
                return None
    if isinstance(answer, Scalar):
        return Region((Piece(answer.node, True, answer.node, True),))
    kinds = Scalar | Region | Tuple if isinstance(answer, Listing) and answer.kind == "or" else Scalar | Region
    if isinstance(answer, Listing) and all(isinstance(item, kinds) for item in answer.items):
        regions = [as_region(item) for item in answer.items]
        if len({region.variable for region in regions if region is not None and region.variable}) > 1:
            return None
        return Region(tuple(piece for region in regions if region for piece in region.pieces))
    return None


def interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Piece:
    """The interval between two ends, which may be infinite.

    Raises:
        NotMathError: it begins at plus infinity or ends at minus infinity.
    """
    infinity, minus_infinity = sym("oo"), neg(sym("oo"))
    if low == infinity or high == minus_infinity:
        raise NotMathError("an interval from the wrong infinity")
    return Piece(None if low == minus_infinity else low, low_closed, None if high == infinity else high, high_closed)


def intersection(first: Region, second: Region, budget: Budget) -> Region:
    """What two regions share; without pieces where that is nothing. From a to b is taken to be an interval.

    Raises:
        NotMathError: ends with variables cannot be ordered.
        LimitError: an end is too costly to evaluate.
    """
    pieces = []
    for a in first.pieces:
        for b in second.pieces:
            low, low_closed = _inner(a.low, a.low_closed, b.low, b.low_closed, budget, larger=True)
            high, high_closed = _inner(a.high, a.high_closed, b.high, b.high_closed, budget, larger=False)
            width = 1 if low is None or high is None else _order(high, low, budget)
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
    return sign(Node("add", (left, Node("mul", (MINUS_ONE, right)))), budget)


def solved(inequality: Inequality, budget: Budget) -> Region | None:
    """The region of a linear inequality in one variable with rational coefficients; None for any other.

    Raises:
        LimitError: a side is too costly to evaluate.
    """
    names = variables(inequality.left) | variables(inequality.right)
    if len(names) != 1:
        return None
    [name] = names
    values = []
    for at in (0, 1, 2, 5):
        evaluator = Evaluator(budget, 30, {name: Fraction(at)}, allow_complex=False)
        try:
            left, right = evaluator.value(inequality.left), evaluator.value(inequality.right)
        except UndefinedError:
            return None
        if not isinstance(left, Fraction) or not isinstance(right, Fraction):
            return None
        values.append(right - left)
    start, slope = values[0], values[1] - values[0]
    if slope == 0 or values[2] != start + 2 * slope or values[3] != start + 5 * slope:
        return None
    root = num(-start / slope)
    if slope > 0:
        return Region((Piece(root, inequality.closed, None, False),), name)
    return Region((Piece(None, False, root, inequality.closed),), name)


def without(region: Region, removed: Answer, budget: Budget) -> Region:
    """The region less finitely many points.

    Raises:
        NotMathError: more than points shall be removed, or it is not known where they lie.
        LimitError: an end is too costly to evaluate.
    """
    points = as_region(removed)
    if points is None or any(piece.low != piece.high or piece.low is None for piece in points.pieces):
        raise NotMathError("difference of sets")
    for point in points.pieces:
        around = Region((Piece(None, False, point.low, False), Piece(point.low, False, None, False)))
        region = intersection(region, around, budget)
    return region
