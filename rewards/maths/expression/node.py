"""The tree of an expression: a closed set of operations on exact numbers and symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple


class Node(NamedTuple):
    """One operation. `value` is the number of a `num`, or the name of a `sym`, a `call` or an
    `apply`.

    op: num, sym, add, mul, div, pow, call (a known function), apply (an unknown function), pm and
        mp (two
    values), sum and prod (args: body, first, last; value: the index).
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Fraction | str = ""


def num(value: int | Fraction) -> Node:
    """An exact number."""
    return Node("num", (), Fraction(value))


def sym(name: str) -> Node:
    """A variable or a named constant."""
    return Node("sym", (), name)


def call(name: str, *args: Node) -> Node:
    """A known function applied to its arguments."""
    return Node("call", args, name)


ONE, TWO, MINUS_ONE, HUNDRED = num(1), num(2), num(-1), num(100)
DEGREE = Node("div", (sym("pi"), num(180)))
CONSTANTS = frozenset({"pi", "e", "i"})


def neg(node: Node) -> Node:
    """The node with the other sign; numbers are folded."""
    if node.op == "num":
        return num(-node.value)  # type: ignore[operator]
    return Node("mul", (MINUS_ONE, node))


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes under it."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(top.args)


def variables(node: Node) -> frozenset[str]:
    """Names of the free symbols; indices of sums are bound, constants are not variables."""
    if node.op == "sym":
        return frozenset() if node.value in CONSTANTS else frozenset({str(node.value)})
    names: frozenset[str] = frozenset().union(*(variables(arg) for arg in node.args))
    return names - {str(node.value)} if node.op in ("sum", "prod") else names


def substitute(node: Node, values: Mapping[str, Node]) -> Node:
    """The same tree with values, or other names, in the place of symbols."""
    if node.op == "sym":
        return values.get(str(node.value), node)
    if not node.args:
        return node
    return node._replace(args=tuple(substitute(arg, values) for arg in node.args))


def signs(node: Node) -> list[Node]:
    """The values of an expression with plus-minus: independent signs, or tied ones where minus-plus
    occurs too.
    """
    found = [part for part in walk(node) if part.op in ("pm", "mp")]
    if not found:
        return [node]
    if len(found) > 3:
        return [node]  # a guess list in disguise; it has no value and is compared as it is written
    if any(part.op == "mp" for part in found):
        return [_choose(node, iter([sign] * len(found)), tied=True) for sign in (1, -1)]
    choices = range(2 ** len(found))
    return [
        _choose(node, iter([1 if bits >> k & 1 else -1 for k in range(len(found))]), tied=False)
        for bits in choices
    ]


def _choose(node: Node, picks: Iterator[int], *, tied: bool) -> Node:
    if node.op in ("pm", "mp"):
        sign = next(picks)
        inner = _choose(node.args[0], picks, tied=tied)
        return inner if (sign > 0) == (node.op == "pm" or not tied) else neg(inner)
    if not node.args:
        return node
    return node._replace(args=tuple(_choose(arg, picks, tied=tied) for arg in node.args))
