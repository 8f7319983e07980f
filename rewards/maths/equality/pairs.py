"""Equality of two answers that were read: one method per pair of kinds, in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Congruence,
    Equation,
    Inequality,
    Listing,
    Matrix,
    Ratio,
    Region,
    Scalar,
    Several,
    Tuple,
    Words,
)
from rewards.maths.answer.reader import is_point
from rewards.maths.answer.regions import as_region, half_lines, same_region
from rewards.maths.answer.units import compatible, normal_unit
from rewards.maths.expression.identity import INTEGER_LETTERS, constant_ratio, same_value
from rewards.maths.expression.node import (
    HUNDRED,
    ZERO,
    Node,
    Op,
    div,
    minus,
    mul,
    num,
    substitute,
    sym,
    variables,
)
from rewards.maths.limits import Budget


def is_letter(text: str) -> bool:
    """Is this a letter that labels a choice?"""
    return len(text) == 1 and "A" <= text <= "J"


def is_choice(answer: Answer) -> bool:
    """Is this answer the letter of a choice?"""
    is_symbol = isinstance(answer, Scalar) and answer.node.op is Op.SYM
    return is_symbol and is_letter(str(answer.node.value))  # type: ignore[union-attr]


class Comparison:
    """Compares one pair of answers within a budget; numbers may differ by a share of the gold."""

    def __init__(self, budget: Budget, rel_tol: float = 0.0) -> None:
        self.budget = budget
        self.rel_tol = rel_tol

    def same(self, answer: Answer, gold: Answer) -> bool:
        """Equality of two read answers; symmetric without a tolerance.

        Raises:
            LimitError: too large or too costly to tell.
        """
        match answer, gold:
            case (Words(text), Words(other)):
                return text == other != ""
            case (Words(), _) | (_, Words()):
                return False
            case _ if answer == gold:
                return True
            case (Assign(), Assign()):
                return self._named(answer, gold)
            case (Assign(), _):
                return self._named_and_bare(answer, gold)
            case (_, Assign()):
                return self._named_and_bare(gold, answer)
            case (Scalar(), Scalar()):
                return self._scalars(answer, gold)
            case (Equation(), Equation()):
                return self._equations(answer, gold)
            case (Listing(), Listing()):
                return self._listings(answer, gold)
            case (Listing(), _):
                return self._listing_and_other(answer, gold)
            case (_, Listing()):
                return self._listing_and_other(gold, answer)
            case (Region(), _) | (_, Region()):
                return self._regions(answer, gold)
            case (Tuple() | Matrix(), Tuple() | Matrix()):
                return self._tuples(answer, gold)
            case (Inequality(), Inequality()):
                ratio = constant_ratio(minus(*answer[:2]), minus(*gold[:2]), self.budget)
                return answer.closed == gold.closed and ratio == 1
            case (Inequality() | Tuple(), Inequality() | Tuple()):
                return self._regions(answer, gold)  # x > a and (a, \infty)
            case (Ratio(), Ratio()):
                return self._ratios(answer, gold)
            case (Ratio(parts, half), Scalar(node, None)) | (
                Scalar(node, None),
                Ratio(parts, half),
            ):
                if half:  # 6 PM, where 6 is asked for
                    return self._equal(parts[-1], ZERO) and self._equal(parts[0], node)
                return len(parts) == 2 and self._equal(div(*parts), node)
            case (Congruence(), Congruence()):
                return self._classes(answer, gold)
        return False

    def _equal(self, left: Node, right: Node) -> bool:
        """Exact equality of expressions."""
        return same_value(left, right, self.budget)

    def _scalars(self, answer: Scalar, gold: Scalar) -> bool:
        """Equal values, units included; all sides of a chain must agree, perhaps as percentages."""
        if answer.unit and gold.unit and not compatible(answer.unit, gold.unit):
            (size, unit), (gold_size, gold_unit) = map(normal_unit, (answer.unit, gold.unit))
            if unit != gold_unit:
                return False
            left, right = (
                mul(num(size), answer.node),
                mul(num(gold_size), gold.node),
            )  # 35 mm, 3.5 cm
            answer, gold = Scalar(left), Scalar(right)
        return same_value(answer.node, gold.node, self.budget, self.rel_tol) and all(
            self._equal(other, side.node) or self._equal(other, div(side.node, HUNDRED))
            for side in (answer, gold)
            for other in side.also
        )

    def _equations(self, answer: Equation, gold: Equation) -> bool:
        """Equal up to a factor."""
        return constant_ratio(minus(*answer[:2]), minus(*gold[:2]), self.budget) != 0

    def _classes(self, answer: Congruence, gold: Congruence) -> bool:
        """The same residues, up to multiples of the same modulus; a class may be given without its
        variable.
        """
        other_name = answer.name and gold.name and answer.name != gold.name
        if other_name or not self._equal(answer.modulus, gold.modulus):
            return False
        least = []
        for residues in (answer.residues, gold.residues):
            numbers = [item.node.number for item in residues if isinstance(item, Scalar)]
            modulus = gold.modulus.number or 0
            plain = [number % modulus for number in numbers if number is not None and modulus > 0]
            least.append({*plain} if len(plain) == len(residues) else None)
        if None not in least:
            return least[0] == least[1]
        return self._covered(answer.residues, gold.residues)

    # --- named values

    def _named_and_bare(self, named: Assign, bare: Answer) -> bool:
        value = named.value
        if isinstance(bare, Equation):
            is_equation = isinstance(value, Scalar)
            return is_equation and self._equations(Equation(sym(named.name), value.node), bare)  # type: ignore[union-attr]
        if isinstance(bare, Region) and bare.variable not in ("", named.name):
            return False
        if is_choice(bare) and is_letter(named.name):
            return False  # `A = D` is no choice of D
        if isinstance(bare, Listing) and is_point(bare):  # `(x, y) = (1, 2)` and `y = 2, x = 1`
            mapping, names = _mapping(bare), named.name.strip("()").split(",")
            if not isinstance(value, Tuple) or sorted(mapping) != sorted(names):
                return False
            return self._in_order([mapping[name] for name in names], value.items)
        if isinstance(value, Listing) and len(value.items) == 1:
            value = value.items[0]
        return self.same(value, bare)

    def _named(self, answer: Assign, gold: Assign) -> bool:
        if answer.parameters and gold.parameters and answer.parameters != gold.parameters:
            # The same function in other parameters; but f(y) = 2 x is no function 2 x of x.
            value, new = answer.value, gold.parameters
            if len(new) != len(answer.parameters) or not isinstance(value, Scalar):
                return False
            if (variables(value.node) - {*answer.parameters}) & {*new}:
                return False
            names = {old: sym(name) for old, name in zip(answer.parameters, new, strict=True)}
            value = value._replace(node=substitute(value.node, names))
            answer = answer._replace(parameters=new, value=value)
        # Names without blanks and braces, the colon of a label, and the `min` of an extremal value.
        plain = [re.sub(r"[\s{}]|:$|_G?(?:min|max)G?$", "", side.name) for side in (answer, gold)]
        if plain[0] == plain[1]:
            return self.same(answer.value, gold.value)
        # A label such as `total area` is no variable.
        wordy = [bool(re.fullmatch(r"[a-z]+ [a-z ]+", side.name)) for side in (answer, gold)]
        if wordy[0] != wordy[1]:
            return self.same(answer.value, gold.value)
        if any(wordy) or answer.parameters or gold.parameters:
            return False
        if not isinstance(answer.value, Scalar) or not isinstance(gold.value, Scalar):
            return False
        left, right = (
            Equation(sym(n), v.node)
            for n, v in ((answer.name, answer.value), (gold.name, gold.value))
        )
        return self._equations(left, right)

    # --- lists and sets

    def _listings(self, answer: Listing, gold: Listing) -> bool:
        if _holds_sets(answer) != _holds_sets(gold):
            return False
        either = [side.kind is Several.OR for side in (answer, gold)]
        if either[0] != either[1] and (_are_conditions(answer) or _are_conditions(gold)):
            return False
        if is_point(answer) != is_point(gold):  # names on one side only: the order decides
            left, right = (
                [*_mapping(side).values()] if is_point(side) else side.items
                for side in (answer, gold)
            )
            return self._in_order(left, right)
        if answer.kind is not Several.LIST or gold.kind is not Several.LIST:
            return self._covered(answer.items, gold.items)
        # One to one, in any order; equality is transitive, so the first match is as good as any.
        left = list(gold.items)
        for item in answer.items if len(answer.items) == len(left) else ():
            found = next((k for k, other in enumerate(left) if self.same(item, other)), None)
            if found is None:
                return False
            del left[found]
        return not left

    def _listing_and_other(self, listing: Listing, other: Answer) -> bool:
        if isinstance(other, Region):
            region = as_region(listing) if listing.items else None
            return region is not None and same_region(region, other, self.budget)
        is_set = listing.kind is Several.SET
        if isinstance(other, Tuple):
            if is_point(listing):  # x = 1, y = 2 is the point (1, 2)
                mapping = _mapping(listing)
                return [*mapping] == sorted(mapping) and self._in_order(
                    [*mapping.values()], other.items
                )
            if is_set and (len(listing.items) != 1 or other.opener == "["):
                return False
        if _are_conditions(listing):
            return False  # 0 is not `m = 0 or n = 0`
        if listing.kind is Several.LIST or not listing.items or (is_set and _holds_sets(listing)):
            return False
        return all(self.same(item, other) for item in listing.items)

    def _covered(self, items: Iterable[Answer], others: Iterable[Answer]) -> bool:
        """Is each equal to one of the other side?"""
        return all(
            any(self.same(item, other) for other in right)
            for left, right in ((items, others), (others, items))
            for item in left
        )

    def _in_order(self, answers: Iterable[Answer], golds: Iterable[Answer]) -> bool:
        left, right = [*answers], [*golds]
        return len(left) == len(right) and all(map(self.same, left, right))

    # --- tuples, regions, ratios

    def _tuples(self, answer: Tuple | Matrix, gold: Tuple | Matrix) -> bool:
        match answer, gold:
            case (Tuple(opener, items, closer), Tuple(gold_opener, gold_items, gold_closer)):
                brackets = opener + closer, gold_opener + gold_closer
                alike = len(gold_items) != 2 and {*brackets} == {"()", "[]"}
                return (brackets[0] == brackets[1] or alike) and self._in_order(items, gold_items)
            case (Matrix(rows), Matrix(gold_rows)):
                return [len(row) for row in rows] == [len(row) for row in gold_rows] and all(
                    same_value(entry, other, self.budget, self.rel_tol)
                    for row, gold_row in zip(rows, gold_rows, strict=True)
                    for entry, other in zip(row, gold_row, strict=True)
                )
            case (Matrix(rows), Tuple(_, items)) | (Tuple(_, items), Matrix(rows)):
                # A column or row of numbers, or rows where the tuple is nested.
                entries: list[Answer] = []
                if all(isinstance(item, Tuple) for item in items):
                    entries = [Tuple("[", tuple(map(Scalar, row)), "]") for row in rows]
                elif len(rows) == 1 or len(rows[0]) == 1:
                    entries = [Scalar(entry) for row in rows for entry in row]
                return self._in_order(entries, items)
        return False

    def _regions(self, answer: Answer, gold: Answer) -> bool:
        if isinstance(answer, Inequality):
            return any(self._regions(region, gold) for region in half_lines(answer))
        if isinstance(gold, Inequality):
            return any(self._regions(answer, region) for region in half_lines(gold))
        left, right = as_region(answer), as_region(gold)
        if left is None or right is None:
            return False
        if left.variable and right.variable and left.variable != right.variable:
            return False
        if left.domain != right.domain:
            # `n > 2` of a whole number, which the other side says too
            said, silent = (left, right) if left.domain else (right, left)
            by_custom = silent.variable and silent.variable[0] in INTEGER_LETTERS
            if silent.domain or said.domain == "QQ" or not by_custom:
                return False
        return same_region(left, right, self.budget)

    def _ratios(self, answer: Ratio, gold: Ratio) -> bool:
        """Equal up to a factor; times of day do not reduce, and 5:25 PM is 17:25."""
        if bool(answer.half) != bool(gold.half) and len(answer.parts) == len(gold.parts) == 2:
            told, bare = (answer, gold) if answer.half else (gold, answer)
            hour = told.parts[0].number
            if hour is not None and 0 < hour <= 12:
                day_hour = num(hour % 12 + (12 if told.half == "pm" else 0))
                if self._equal(bare.parts[0], day_hour):
                    return self._equal(told.parts[1], bare.parts[1])
        other_half = answer.half and gold.half and answer.half != gold.half
        if other_half or len(answer.parts) != len(gold.parts):
            return False
        pairs = [*zip(answer.parts, gold.parts, strict=True)]
        if all(same_value(a, g, self.budget, self.rel_tol) for a, g in pairs):
            return True
        if (
            answer.half
            or gold.half
            or any(self._equal(part, ZERO) for pair in pairs for part in pair)
        ):
            return False
        first, gold_first = pairs[0]
        return all(self._equal(mul(a, gold_first), mul(g, first)) for a, g in pairs[1:])


def _mapping(point: Listing) -> dict[str, Answer]:
    """`x = 1, y = 2` by name."""
    return {item.name: item.value for item in point.items if isinstance(item, Assign)}


def _holds_sets(listing: Listing) -> bool:
    return any(
        isinstance(item, Region) or (isinstance(item, Listing) and item.kind is Several.SET)
        for item in listing.items
    )


def _are_conditions(listing: Listing) -> bool:
    """Conditions on several things, which may hold together or not: `x > 0, y > 0`; `x_1 = 1, x_2 =
    2` are two values of one x.
    """
    names = set()
    for item in listing.items:
        if isinstance(item, Inequality) or (isinstance(item, Region) and item.variable):
            return True
        if isinstance(item, Assign) and not item.parameters:
            names.add(item.name.partition("_")[0])
    return len(names) > 1
