"""The tightest bindings of an answer: numbers with units, ratios, numbers in a base, matrices and
systems.
"""

from __future__ import annotations
from rewards.maths.expression.node import Op
from rewards.maths.text.tokens import Kind

import re
from abc import ABC, abstractmethod

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Based,
    Congruence,
    Listing,
    Matrix,
    Ratio,
    Region,
    Scalar,
    Tuple,
    Words,
)
from rewards.maths.answer.measures import split_unit
from rewards.maths.answer.phrases import (
    RELATIONS,
    half_of_day,
    hour_of_day,
    number_set,
    split_modulus,
    takes_back,
)
from rewards.maths.answer.reals import EVERYTHING, interval
from rewards.maths.answer.units import NUMBER_WORDS, Unit
from rewards.maths.expression.node import Node, neg, num, signs, sym
from rewards.maths.expression.parser import parse_expression
from rewards.maths.limits import Budget, Limits, NotMathError
from rewards.maths.text.tokens import Tokens, closing, plain_text, split_at, strip, top_level
from rewards.maths.text.tokens import Token

_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"})
_ROWS_ONLY = frozenset({"cases", "aligned", "align", "gathered", "split", "rcases"})
_REALS = {
    "RR": EVERYTHING,
    "RR+": Region((interval(num(0), False, sym("oo"), False),)),
    "RR-": Region((interval(neg(sym("oo")), False, num(0), False),)),
}
_OTHERWISE = Token(Kind.WORD, "otherwise")
_WHEN = frozenset({"if", "for", "when", "where", "whenever", "is"})
MAX_ITEMS = 200


class Leaves(ABC):
    """What holds no list, set or relation. `answer` reads those, for the entries that may be
    anything.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits)

    @abstractmethod
    def answer(self, tokens: Tokens) -> Answer:
        """Any answer."""

    @abstractmethod
    def bracketed(self, tokens: Tokens) -> Answer:
        """An answer in brackets, or a leaf."""

    def or_words(self, tokens: Tokens) -> Answer:
        """The answer, or its words where it is not understood."""
        try:
            return self.answer(tokens)
        except NotMathError:
            return Words(plain_text(tokens))

    def scalar(self, tokens: Tokens) -> Scalar:
        """One value with its unit."""
        tokens, unit, factor = split_unit(strip(tokens))
        node, degrees = parse_expression(tokens, self.limits)
        if factor != 1:
            node = Node(Op("mul"), (node, num(factor)))
        if degrees and unit is None:
            unit = Unit((("degree", 1),))
        return Scalar(node, unit)

    def end(self, tokens: Tokens) -> Node:
        """One end of an interval or relation: a value without its unit."""
        return self.scalar(tokens).node

    def values(self, tokens: Tokens) -> Answer:
        """A scalar, two or more of them with a plus-minus sign, or a named set."""
        if len(tokens) == 1 and tokens[0].text == "emptyset":
            return Listing((), "set")
        if tokens[0].text == "RR" and (name := number_set(tokens)) in _REALS:
            return _REALS[name]
        scalar = self.scalar(tokens)
        both = signs(scalar.node)
        if len(both) == 1:
            return scalar
        return Listing(tuple(scalar._replace(node=node) for node in both))

    def classes(self, tokens: Tokens) -> Congruence | None:
        """`3 (mod 7)`, a class of residues."""
        residues, modulus = split_modulus(tokens, bare=False)
        return Congruence("", (self.answer(residues),), self.end(modulus)) if modulus else None

    def ratio(self, tokens: Tokens) -> Answer:
        """Parts of a ratio, such as `2:3` or `2 to 3`."""
        cuts = [
            i
            for i in top_level(tokens)
            if (tokens[i].kind == "op" and tokens[i].text == ":")
            or (tokens[i].text == "to" and 0 < i < len(tokens) - 1)
        ]
        if not cuts and (hour := hour_of_day(tokens)) is not None:
            return Ratio((num(hour), num(0)), half_of_day(tokens)[1])
        if not cuts:
            return (
                self.based(tokens)
                or self.matrices(tokens)
                or self.classes(tokens)
                or self.values(tokens)
            )
        if tokens[cuts[0]].text == ":" and all(
            token.kind in ("word", "run") for token in tokens[: cuts[0]]
        ):
            if takes_back(tokens[: cuts[0]]):
                raise NotMathError("a label that takes the value back")
            return Assign(
                plain_text(tokens[: cuts[0]]) + ":", (), self.answer(tokens[cuts[0] + 1 :])
            )  # Total: 42
        tokens, half = half_of_day(tokens)
        return Ratio(tuple(self.end(part) for part in split_at(tokens, cuts)), half)

    def based(self, tokens: Tokens) -> Answer | None:
        """`52_8`, `(52)_8`, `1A_{16}`."""
        cut = next(
            (i for i in range(1, len(tokens)) if tokens[i].kind == "op" and tokens[i].text == "_"),
            None,
        )
        if cut is None:
            return None
        negative = tokens[0].text == "-"
        digits = "".join(
            token.text for token in tokens[negative:cut] if token.text not in ("(", ")", "G")
        )
        base = "".join(
            token.text for token in tokens[cut + 1 :] if token.text not in ("(", ")", "G")
        )
        base = str(NUMBER_WORDS.get(base.lower(), base))
        if not re.fullmatch(r"[0-9][0-9A-Z]*|[A-F][0-9A-F]+", digits) or not re.fullmatch(
            r"[0-9]{1,2}", base
        ):
            return None
        if base == "10":
            return Scalar(num(int(digits) * (-1 if negative else 1))) if digits.isdigit() else None
        try:
            return Based(int(digits, int(base)) * (-1 if negative else 1), int(base))
        except ValueError:  # a digit that the base does not have
            raise NotMathError("digit") from None

    def matrices(self, tokens: Tokens) -> Answer | None:
        """A multiple of a matrix, or a sum of such: a line is a point and multiples of a
        direction.
        """
        if not any(token.kind == "cmd" and token.text == "begin" for token in tokens):
            return None
        cuts = [i for i in top_level(tokens) if tokens[i].kind == "op" and tokens[i].text in "+-"]
        signs_found = [tokens[i].text for i in cuts]
        parts = split_at(tokens, cuts)
        if not parts[0]:
            parts = parts[1:]
        else:
            signs_found = ["+", *signs_found]
        found = [self.scaled_matrix(part) for part in parts]
        total = _scaled(num(-1), found[0]) if signs_found[0] == "-" else found[0]
        for sign, matrix in zip(signs_found[1:], found[1:], strict=True):
            total = _sum(total, matrix if sign == "+" else _scaled(num(-1), matrix))
        return total

    def scaled_matrix(self, tokens: Tokens) -> Matrix:
        """A matrix with a factor before or behind it."""
        begin = next(
            (
                i
                for i in range(len(tokens))
                if tokens[i].kind == "cmd" and tokens[i].text == "begin"
            ),
            None,
        )
        if begin is None:
            raise NotMathError("a number beside a matrix")
        matrix = self.environment(tokens[begin:])
        if not isinstance(matrix, Matrix):
            raise NotMathError("matrix")
        front = tokens[:begin]
        if front and front[-1].text == "*":
            front = front[:-1]
        return _scaled(self.end(front), matrix) if front else matrix

    def environment(self, tokens: Tokens) -> Answer:
        """What stands between `\\begin` and `\\end`: a matrix or cases."""
        kind, end = tokens[1].text, closing(tokens, 0)
        if end is None or end != len(tokens) - 2:
            raise NotMathError("environment")
        inner = tokens[2:end]
        if kind in ("cases", "rcases") and (pieces := self.cases(inner)):
            return Listing(tuple(pieces), "set")
        if kind in _ROWS_ONLY or (kind == "array" and _is_column_of_statements(inner)):
            return self.answer([token for token in inner if token.text != "&"])
        if kind not in _MATRICES:
            raise NotMathError(kind)
        return Matrix(self.rows(inner))

    def cases(self, inner: Tokens) -> list[Answer]:
        """The (value, condition) pairs of a function by cases; nothing for a system of equations,
        aligned or not.
        """
        lines = [
            line
            for line in split_at(inner, [i for i in top_level(inner) if inner[i].text == "row"])
            if line
        ]
        pairs: list[Answer] = []
        for line in lines:
            marks = [i for i in top_level(line) if line[i].text == "&"] or [
                i for i in top_level(line) if line[i].kind == "op" and line[i].text == ","
            ]
            cells = split_at(line, marks[:1])
            if len(cells) != 2 or not cells[0] or not cells[1] or cells[1][0].text in RELATIONS:
                return []
            condition = [_OTHERWISE if token.text == "else" else token for token in strip(cells[1])]
            condition = [
                token for token in condition if token.kind != "word" or token.text not in _WHEN
            ]
            if any(token.text in RELATIONS for token in cells[0]) or not condition:
                return []
            pairs.append(Tuple("(", (self.answer(cells[0]), self.or_words(condition)), ")"))
        return pairs

    def rows(self, inner: Tokens) -> tuple[tuple[Node, ...], ...]:
        """Rows of a matrix, all of one length."""
        level = top_level(inner)
        lines = split_at(inner, [i for i in level if inner[i].text == "row"])
        rows = []
        for line in lines:
            if not line:
                continue
            cells = split_at(line, [i for i in top_level(line) if line[i].text == "&"])
            rows.append(tuple(self.end(cell) for cell in cells))
        if not rows or len(rows) * len(rows[0]) > MAX_ITEMS or len({len(row) for row in rows}) > 1:
            raise NotMathError("rows")
        return tuple(rows)


def _is_column_of_statements(tokens: Tokens) -> bool:
    level = [tokens[i].text for i in top_level(tokens)]
    return "&" not in level and ("row" not in level or any(text in RELATIONS for text in level))


def _scaled(scale: Node, matrix: Matrix) -> Matrix:
    return Matrix(tuple(tuple(Node(Op("mul"), (scale, entry)) for entry in row) for row in matrix.rows))


def _sum(left: Matrix, right: Matrix) -> Matrix:
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        raise NotMathError("matrices of two shapes")
    pairs = zip(left.rows, right.rows, strict=True)
    return Matrix(
        tuple(tuple(Node(Op("add"), both) for both in zip(*rows, strict=True)) for rows in pairs)
    )
