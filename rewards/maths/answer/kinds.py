"""The kinds of answer: what a reader makes of a text, and what is compared."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from rewards.maths.expression.node import Node


class Unit(NamedTuple):
    """`known`: (canonical name, power) pairs, sorted; `square units` are ("unit", 2). `nouns`:
    other words that were counted, singular.
    """

    known: tuple[tuple[str, int], ...] = ()
    nouns: frozenset[str] = frozenset()


class Scalar(NamedTuple):
    """A number or an expression; `also` holds the other sides of `1/2 = 0.5`, which must be equal
    to it.
    """

    node: Node
    unit: Unit | None = None
    also: tuple[Node, ...] = ()


class Several(StrEnum):
    """How the items of a listing belong together."""

    LIST = "list"  # with multiplicity
    OR = "or"  # alternatives
    SET = "set"  # in braces


class Listing(NamedTuple):
    """Several answers in any order."""

    items: tuple[Answer, ...]
    kind: Several = Several.LIST


class Tuple(NamedTuple):
    """An ordered tuple, a point, or an interval: two items in brackets may be any of them."""

    opener: str
    items: tuple[Answer, ...]
    closer: str


class Piece(NamedTuple):
    """One interval of a region; an end that is None is infinite."""

    low: Node | None
    low_closed: bool
    high: Node | None
    high_closed: bool


class Region(NamedTuple):
    """A union of intervals, of real numbers or of those of a `domain` (ZZ, NN, QQ), with the
    variable it was written in, if any.
    """

    pieces: tuple[Piece, ...]
    variable: str = ""
    domain: str = ""


class Assign(NamedTuple):
    """`x = value`, `f(x) = value`, `(m, n) = value`."""

    name: str
    parameters: tuple[str, ...]
    value: Answer


class Equation(NamedTuple):
    """left = right, both with their variables; `unit` is that of a side."""

    left: Node
    right: Node
    unit: Unit | None = None


class Inequality(NamedTuple):
    """left < right, or left <= right when `closed`."""

    left: Node
    right: Node
    closed: bool


class Matrix(NamedTuple):
    """Rows of entries."""

    rows: tuple[tuple[Node, ...], ...]


class Ratio(NamedTuple):
    """a : b : c, or a time of day with its half (am, pm)."""

    parts: tuple[Node, ...]
    half: str = ""


class Congruence(NamedTuple):
    """name = residues modulo `modulus`; without a name, classes alone."""

    name: str
    residues: tuple[Answer, ...]
    modulus: Node


class Based(NamedTuple):
    """Digits in a base that was written as a subscript."""

    value: int
    base: int


class Words(NamedTuple):
    """What is not mathematics, or not understood: compared as normalised text."""

    text: str


Answer = (
    Scalar | Listing | Tuple | Region | Assign | Equation | Inequality | Matrix | Ratio | Congruence | Based | Words
)  # fmt: skip
