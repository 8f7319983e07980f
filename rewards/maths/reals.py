"""Answers as sets of real numbers, where they are such sets."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from rewards.maths.answer import Answer, Assign, Listing, Piece, Region, Scalar, Tuple
from rewards.maths.limits import NotMathError
from rewards.maths.node import Node, neg, sym

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
            if low.node == sym("oo") or high.node == neg(sym("oo")):
                return None
            piece = Piece(finite(low.node), answer.opener == "[", finite(high.node), answer.closer == "]")
            return Region((piece,))
    if isinstance(answer, Scalar):
        return Region((Piece(answer.node, True, answer.node, True),))
    kinds = (
        Scalar | Region | Tuple if isinstance(answer, Listing) and answer.kind == "or" else Scalar | Region
    )
    if isinstance(answer, Listing) and all(isinstance(item, kinds) for item in answer.items):
        regions = [as_region(item) for item in answer.items]
        if len({region.variable for region in regions if region is not None and region.variable}) > 1:
            return None
        return Region(tuple(piece for region in regions if region for piece in region.pieces))
    return None


def finite(node: Node) -> Node | None:
    """The end of an interval; None for plus or minus infinity."""
    return None if node == sym("oo") or node == neg(sym("oo")) else node


def without(region: Region, removed: Answer) -> Region:
    """The region less finitely many points, for the whole line only."""
    points = as_region(removed)
    if region.pieces != EVERYTHING.pieces or points is None or any(p.low != p.high for p in points.pieces):
        raise NotMathError("difference of sets")
    ends = sorted((piece.low for piece in points.pieces if piece.low is not None), key=_order_key)
    edges: list[Node | None] = [None, *ends, None]
    return Region(tuple(Piece(a, False, b, False) for a, b in pairwise(edges)))


def _order_key(node: Node) -> Fraction:
    if node.op == "num":
        return Fraction(node.value)
    if node.op == "mul" and node.args[0].op == node.args[1].op == "num":
        return Fraction(node.args[0].value) * Fraction(node.args[1].value)
    if node.op == "div" and node.args[0].op == node.args[1].op == "num" and node.args[1].value:
        return Fraction(node.args[0].value) / Fraction(node.args[1].value)
    raise NotMathError("order of removed points")
