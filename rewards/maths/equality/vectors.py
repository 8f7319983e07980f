r"""Vectors in unit vectors: `2\mathbf{i} - 3\mathbf{j}` is (2, -3). The other side tells that i is
no number.
"""

from __future__ import annotations
from rewards.maths.expression.node import Op

from rewards.maths.expression.identity import same_value
from rewards.maths.expression.node import Node, num, substitute, sym, walk
from rewards.maths.limits import Budget

_BASIS = ("i", "j", "k")
_HATS = {f"hat({letter})": sym(letter) for letter in _BASIS}
_AT = (num(2), num(3), num(5))  # a point at which a linear expression is checked


def plain_basis(node: Node) -> Node | None:
    """The expression with i for i with a hat, and so on; None where there is no hat."""
    return substitute(node, _HATS) if _symbols(node) & {*_HATS} else None


def components(node: Node, size: int, budget: Budget) -> tuple[Node, ...] | None:
    """[size] components of a linear combination of the unit vectors i, j, k; None where it is none.

    Raises:
        LimitError: too costly to tell.
    """
    node = substitute(node, _HATS)
    names = _symbols(node) & {*_BASIS}
    if not names or not names <= {*_BASIS[:size]}:
        return None
    found = tuple(_at(node, {name: num(1)}) for name in _BASIS[:size])
    combined = Node(Op("add"), tuple(Node(Op("mul"), pair) for pair in zip(_AT, found, strict=False)))
    at_zero, at_point = _at(node, {}), _at(node, dict(zip(_BASIS, _AT, strict=True)))
    is_linear = same_value(at_zero, num(0), budget) and same_value(at_point, combined, budget)
    return found if is_linear else None


def _symbols(node: Node) -> set[str]:
    return {str(part.value) for part in walk(node) if part.op == "sym"}


def _at(node: Node, point: dict[str, Node]) -> Node:
    return substitute(node, {**dict.fromkeys(_BASIS, num(0)), **point})
