"""The tree of an expression: a closed set of operations on exact numbers and symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple


class Op(StrEnum):
    """What a node does."""

    NUM = "num"
    SYM = "sym"
    ADD = "add"
    MUL = "mul"
    DIV = "div"
    POW = "pow"
    CALL = "call"  # a known function
    APPLY = "apply"  # an unknown function
    PM = "pm"  # two values
    MP = "mp"
    SUM = "sum"  # of body, first, last
    PROD = "prod"


class Node(NamedTuple):
    """One operation. `value` is the number of a NUM, the name of a SYM, a CALL or an APPLY, or the
    index of a SUM or PROD.
    """

    op: Op
    args: tuple[Node, ...] = ()
    value: Fraction | str = ""

    @property
    def number(self) -> Fraction | None:
        """The number of a NUM."""
        return self.value if isinstance(self.value, Fraction) else None


def num(value: int | Fraction) -> Node:
    """An exact number."""
    return Node(Op.NUM, (), Fraction(value))


def sym(name: str) -> Node:
    """A variable or a named constant."""
    return Node(Op.SYM, (), name)


def call(name: str, *args: Node) -> Node:
    """A known function applied to its arguments."""
    return Node(Op.CALL, args, name)


def add(*terms: Node) -> Node:
    """A sum."""
    return terms[0] if len(terms) == 1 else Node(Op.ADD, terms)


def mul(left: Node, right: Node) -> Node:
    """A product."""
    return Node(Op.MUL, (left, right))


def div(top: Node, bottom: Node) -> Node:
    """A quotient."""
    return Node(Op.DIV, (top, bottom))


def power(base: Node, exponent: Node) -> Node:
    """A power."""
    return Node(Op.POW, (base, exponent))


def neg(node: Node) -> Node:
    """The node with the other sign; numbers are folded."""
    return num(-node.value) if isinstance(node.value, Fraction) else mul(MINUS_ONE, node)


def minus(left: Node, right: Node) -> Node:
    """The difference."""
    return add(left, mul(MINUS_ONE, right))


ZERO, ONE, TWO, MINUS_ONE, HUNDRED = num(0), num(1), num(2), num(-1), num(100)
DEGREE = div(sym("pi"), num(180))
INFINITY = sym("oo")
_CONSTANTS = ("pi", "e", "i")


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes under it."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(top.args)


def variables(node: Node) -> frozenset[str]:
    """Names of the free symbols; indices of sums are bound, constants are not variables."""
    if node.op is Op.SYM:
        return frozenset() if node.value in _CONSTANTS else frozenset({str(node.value)})
    names: frozenset[str] = frozenset().union(*(variables(arg) for arg in node.args))
    return names - {str(node.value)} if node.op in (Op.SUM, Op.PROD) else names


def substitute(node: Node, values: Mapping[str, Node]) -> Node:
    """The same tree with values, or other names, in the place of symbols."""
    if node.op is Op.SYM:
        return values.get(str(node.value), node)
    return node._replace(args=tuple(substitute(arg, values) for arg in node.args))


def signs(node: Node) -> list[Node]:
    """The values of an expression with plus-minus: independent signs, or tied ones where minus-plus
    occurs too.
    """
    found = [part for part in walk(node) if part.op in (Op.PM, Op.MP)]
    if not 1 <= len(found) <= 3:
        return [node]  # more are a guess list in disguise, compared as it is written
    tied = any(part.op is Op.MP for part in found)
    picks = [[True] * len(found), [False] * len(found)]
    if not tied:
        picks = [[not bits >> k & 1 for k in range(len(found))] for bits in range(2 ** len(found))]

    def chosen(part: Node, plus: Iterator[bool]) -> Node:
        if part.op in (Op.PM, Op.MP):
            upper = next(plus)
            inner = chosen(part.args[0], plus)
            return inner if upper == (part.op is Op.PM or not tied) else neg(inner)
        return part._replace(args=tuple(chosen(arg, plus) for arg in part.args))

    return [chosen(node, iter(pick)) for pick in picks]
