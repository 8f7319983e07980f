"""Equality of two answers that were read. One function per pair of kinds, in both directions."""

from __future__ import annotations
from rewards.maths.expression.node import Op

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Based,
    Congruence,
    Equation,
    Inequality,
    Listing,
    Matrix,
    Ratio,
    Region,
    Scalar,
    Tuple,
    Words,
)
from rewards.maths.answer.reader import is_point
from rewards.maths.answer.reals import as_region, half_lines
from rewards.maths.answer.units import compatible
from rewards.maths.equality.regions import same_region
from rewards.maths.expression.identity import INTEGER_LETTERS, constant_ratio, same_value
from rewards.maths.expression.node import HUNDRED, MINUS_ONE, Node, num, substitute, sym, variables
from rewards.maths.limits import Budget


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one pair of answers is compared with."""

    budget: Budget
    rel_tol: float


def same(answer: Answer, gold: Answer, c: Comparison) -> bool:
    """Equality of two read answers; symmetric.

    Raises:
        LimitError: too large or too costly to tell.
    """
    if answer == gold and not isinstance(answer, Words):
        return True
    if isinstance(answer, Words) or isinstance(gold, Words):
        return (
            isinstance(answer, Words) and isinstance(gold, Words) and answer.text == gold.text != ""
        )
    if isinstance(answer, Assign) or isinstance(gold, Assign):
        return _same_assign(answer, gold, c)
    if isinstance(answer, Scalar) and isinstance(gold, Scalar):
        return same_scalar(answer, gold, c)
    if isinstance(answer, Equation) and isinstance(gold, Equation):
        return _same_equation(answer, gold, c)
    if isinstance(answer, Listing) or isinstance(gold, Listing):
        return _same_listing(answer, gold, c)
    if isinstance(answer, Region) or isinstance(gold, Region):
        return _same_regions(answer, gold, c)
    if isinstance(answer, Tuple | Matrix) and isinstance(gold, Tuple | Matrix):
        return _same_tuple(answer, gold, c)
    if isinstance(answer, Inequality) and isinstance(gold, Inequality):
        return _same_inequality(answer, gold, c)
    if isinstance(answer, Inequality | Tuple) and isinstance(gold, Inequality | Tuple):
        return _same_regions(answer, gold, c)  # x > a and (a, \infty)
    if isinstance(answer, Ratio) or isinstance(gold, Ratio):
        return _same_ratio(answer, gold, c)
    if isinstance(answer, Congruence) and isinstance(gold, Congruence):
        return _same_classes(answer, gold, c)
    return isinstance(answer, Based) and answer == gold


def _same_classes(answer: Congruence, gold: Congruence, c: Comparison) -> bool:
    """The same residues, up to multiples of the same modulus; a class may be given without its
    variable.
    """
    if answer.name and gold.name and answer.name != gold.name:
        return False
    if not _equal(answer.modulus, gold.modulus, c):
        return False
    reduced = [_reduced(side) for side in (answer, gold)]
    if None not in reduced:
        return reduced[0] == reduced[1]
    return _covered(answer.residues, gold.residues, c) and _covered(
        gold.residues, answer.residues, c
    )


def _reduced(classes: Congruence) -> set[Fraction] | None:
    """Least residues that are not negative, where all is in plain numbers."""
    values = [
        item.node.value if isinstance(item, Scalar) and item.node.op == "num" else None
        for item in classes.residues
    ]
    modulus = classes.modulus.value if classes.modulus.op == "num" else None
    if not isinstance(modulus, Fraction) or modulus <= 0:
        return None
    found = {value % modulus for value in values if isinstance(value, Fraction)}
    return found if all(isinstance(value, Fraction) for value in values) else None


def _equal(left: Node, right: Node, c: Comparison) -> bool:
    return same_value(left, right, c.budget, c.rel_tol)


def same_scalar(answer: Scalar, gold: Scalar, c: Comparison) -> bool:
    """Are two values equal, units included?"""
    if not compatible(answer.unit, gold.unit):
        return False
    if not _equal(answer.node, gold.node, c):
        return False
    chains = [(other, side.node) for side in (answer, gold) for other in side.also]
    return all(
        same_value(other, node, c.budget) or _percent_of(other, node, c) for other, node in chains
    )


def _percent_of(left: Node, right: Node, c: Comparison) -> bool:
    return same_value(left, Node(Op("div"), (right, HUNDRED)), c.budget)


def _difference(equation: Equation | Inequality) -> Node:
    return Node(Op("add"), (equation.left, Node(Op("mul"), (MINUS_ONE, equation.right))))


def _same_equation(answer: Equation, gold: Equation, c: Comparison) -> bool:
    return constant_ratio(_difference(answer), _difference(gold), c.budget) != 0


def _same_inequality(answer: Inequality, gold: Inequality, c: Comparison) -> bool:
    same_kind = answer.closed == gold.closed
    return same_kind and constant_ratio(_difference(answer), _difference(gold), c.budget) == 1


# --- named values


def _same_assign(answer: Answer, gold: Answer, c: Comparison) -> bool:
    if isinstance(answer, Assign) and isinstance(gold, Assign):
        return _same_named(answer, gold, c)
    if isinstance(gold, Assign):
        return _named_and_bare(gold, answer, c)
    assert isinstance(answer, Assign)
    return _named_and_bare(answer, gold, c)


def _named_and_bare(named: Assign, bare: Answer, c: Comparison) -> bool:
    if isinstance(bare, Equation):
        return isinstance(named.value, Scalar) and _same_equation(_as_equation(named), bare, c)
    if isinstance(bare, Region) and bare.variable and bare.variable != named.name:
        return False
    if is_choice(bare) and is_letter(named.name):
        return False  # `A = D` is no choice of D
    if isinstance(bare, Listing) and _points(bare) is not None:
        return _same_points(named, bare, c)
    if isinstance(named.value, Listing) and len(named.value.items) == 1:
        named = named._replace(value=named.value.items[0])
    return same(named.value, bare, c)


def _same_named(answer: Assign, gold: Assign, c: Comparison) -> bool:
    if answer.parameters and gold.parameters and answer.parameters != gold.parameters:
        answer = _renamed(answer, gold.parameters)
        if answer.parameters != gold.parameters:
            return False
    if _plain_name(answer.name) == _plain_name(gold.name):
        return same(answer.value, gold.value, c)
    simple = isinstance(answer.value, Scalar) and isinstance(gold.value, Scalar)
    if (
        simple
        and not answer.parameters
        and not gold.parameters
        and not _is_wordy(answer)
        and not _is_wordy(gold)
    ):
        return _same_equation(_as_equation(answer), _as_equation(gold), c)
    one_in_words = _is_wordy(answer) != _is_wordy(gold)
    return one_in_words and same(answer.value, gold.value, c)


def _is_wordy(named: Assign) -> bool:
    """A label such as `total area`, which is no variable."""
    return re.fullmatch(r"[a-z]+ [a-z ]+", named.name) is not None


def _plain_name(name: str) -> str:
    """Without blanks and braces, the colon of a label, and the `min` of an extremal value."""
    return re.sub(r"[\s{}]|:$|_G?(?:min|max)G?$", "", name)


def _as_equation(named: Assign) -> Equation:
    assert isinstance(named.value, Scalar)
    return Equation(sym(named.name), named.value.node)


def _renamed(named: Assign, parameters: tuple[str, ...]) -> Assign:
    """The same function in other parameters."""
    if len(parameters) != len(named.parameters) or not isinstance(named.value, Scalar):
        return named
    if (variables(named.value.node) - {*named.parameters}) & {*parameters}:
        return named  # f(y) = 2 x is no function 2 x of x
    names = {old: sym(new) for old, new in zip(named.parameters, parameters, strict=True)}
    node = substitute(named.value.node, names)
    return named._replace(parameters=parameters, value=named.value._replace(node=node))


def _points(listing: Listing) -> dict[str, Answer] | None:
    """`x = 1, y = 2` as a mapping; None when it is not that."""
    if not is_point(listing):
        return None
    return {item.name: item.value for item in listing.items if isinstance(item, Assign)}


def _same_points(named: Assign, listing: Listing, c: Comparison) -> bool:
    """`(x, y) = (1, 2)` and `y = 2, x = 1`."""
    mapping, names = _points(listing), named.name.strip("()").split(",")
    if mapping is None or not isinstance(named.value, Tuple) or sorted(mapping) != sorted(names):
        return False
    return len(names) == len(named.value.items) and all(
        same(value, mapping[name], c) for name, value in zip(names, named.value.items, strict=True)
    )


# --- lists and sets


def _same_listing(answer: Answer, gold: Answer, c: Comparison) -> bool:
    if isinstance(answer, Listing) and isinstance(gold, Listing):
        return _same_items(answer, gold, c)
    listing, other = (answer, gold) if isinstance(answer, Listing) else (gold, answer)
    assert isinstance(listing, Listing)
    if isinstance(other, Region):
        region = as_region(listing) if listing.items else None
        return region is not None and same_region(region, other, c.budget)
    mapping = _points(listing)
    if mapping is not None and isinstance(other, Tuple):  # x = 1, y = 2 is the point (1, 2)
        named = [mapping[name] for name in mapping]
        return list(mapping) == sorted(mapping) and _same_in_order(tuple(named), other.items, c)
    if isinstance(other, Tuple) and listing.kind == "set" and len(listing.items) != 1:
        return False
    if _are_conditions(listing):
        return False  # 0 is not `m = 0 or n = 0`
    if listing.kind == "set" and (
        (isinstance(other, Tuple) and other.opener == "[") or _holds_sets(listing)
    ):
        return False  # the set of an interval or of a set is not that
    return (
        listing.kind != "list"
        and bool(listing.items)
        and all(same(item, other, c) for item in listing.items)
    )


def _same_items(answer: Listing, gold: Listing, c: Comparison) -> bool:
    if _holds_sets(answer) != _holds_sets(gold):
        return False
    if (answer.kind == "or") != (gold.kind == "or") and (
        _are_conditions(answer) or _are_conditions(gold)
    ):
        return False
    mappings = _points(answer), _points(gold)
    if (mappings[0] is None) != (mappings[1] is None):  # names on one side only: the order decides
        values = [
            tuple(m.values()) if m is not None else side.items
            for m, side in zip(mappings, (answer, gold), strict=True)
        ]
        return _same_in_order(values[0], values[1], c)
    if answer.kind == gold.kind == "list":
        return len(answer.items) == len(gold.items) and _matched(answer.items, gold.items, c)
    return _covered(answer.items, gold.items, c) and _covered(gold.items, answer.items, c)


def _holds_sets(listing: Listing) -> bool:
    return any(
        isinstance(item, Region) or (isinstance(item, Listing) and item.kind == "set")
        for item in listing.items
    )


def _are_conditions(listing: Listing) -> bool:
    """Conditions on several things, which may hold together or not: `x > 0, y > 0`; `x_1 = 1, x_2 =
    2` are two values of one x.
    """
    if any(
        isinstance(item, Inequality) or (isinstance(item, Region) and item.variable)
        for item in listing.items
    ):
        return True
    names = {
        item.name.partition("_")[0]
        for item in listing.items
        if isinstance(item, Assign) and not item.parameters
    }
    return len(names) > 1


def _matched(answers: tuple[Answer, ...], golds: tuple[Answer, ...], c: Comparison) -> bool:
    """One to one, in any order; equality is transitive, so the first match is as good as any."""
    left = list(golds)
    for answer in answers:
        found = next((k for k, gold in enumerate(left) if same(answer, gold, c)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _covered(items: tuple[Answer, ...], others: tuple[Answer, ...], c: Comparison) -> bool:
    return all(any(same(item, other, c) for other in others) for item in items)


def _same_in_order(answers: tuple[Answer, ...], golds: tuple[Answer, ...], c: Comparison) -> bool:
    return len(answers) == len(golds) and all(
        same(a, g, c) for a, g in zip(answers, golds, strict=True)
    )


# --- tuples, matrices, regions, ratios


def _same_tuple(answer: Tuple | Matrix, gold: Tuple | Matrix, c: Comparison) -> bool:
    if isinstance(answer, Matrix) and isinstance(gold, Matrix):
        same_shape = [len(row) for row in answer.rows] == [len(row) for row in gold.rows]
        return same_shape and all(
            _equal(a, g, c)
            for row, gold_row in zip(answer.rows, gold.rows, strict=True)
            for a, g in zip(row, gold_row, strict=True)
        )
    if isinstance(answer, Tuple) and isinstance(gold, Tuple):
        brackets = answer.opener + answer.closer, gold.opener + gold.closer
        if brackets[0] != brackets[1] and (len(gold.items) == 2 or {*brackets} != {"()", "[]"}):
            return False
        return _same_in_order(answer.items, gold.items, c)
    matrix, point = (answer, gold) if isinstance(answer, Matrix) else (gold, answer)
    assert isinstance(matrix, Matrix) and isinstance(point, Tuple)
    return _same_in_order(_entries(matrix, point), point.items, c)


def _entries(matrix: Matrix, point: Tuple) -> tuple[Answer, ...]:
    """The matrix as a tuple: a column or row of numbers, or rows where the tuple is nested."""
    if all(isinstance(item, Tuple) for item in point.items):
        return tuple(Tuple("[", tuple(Scalar(entry) for entry in row), "]") for row in matrix.rows)
    if len(matrix.rows) == 1 or len(matrix.rows[0]) == 1:
        return tuple(Scalar(entry) for row in matrix.rows for entry in row)
    return ()


def _same_regions(answer: Answer, gold: Answer, c: Comparison) -> bool:
    if isinstance(answer, Inequality):
        return any(_same_regions(region, gold, c) for region in half_lines(answer))
    if isinstance(gold, Inequality):
        return any(_same_regions(answer, region, c) for region in half_lines(gold))
    left, right = as_region(answer), as_region(gold)
    if left is None or right is None:
        return False
    if left.variable and right.variable and left.variable != right.variable:
        return False
    if left.domain != right.domain and not _is_whole_by_custom(left, right):
        return False
    return same_region(left, right, c.budget)


def _is_whole_by_custom(left: Region, right: Region) -> bool:
    """`n > 2` of a whole number, which the other side says too."""
    said = {region.domain for region in (left, right) if region.domain}
    silent = [region for region in (left, right) if not region.domain]
    return (
        len(said) == 1
        and said <= {"ZZ", "NN"}
        and all(r.variable[:1] in INTEGER_LETTERS and r.variable for r in silent)
    )


def _same_ratio(answer: Answer, gold: Answer, c: Comparison) -> bool:
    if isinstance(answer, Ratio) and isinstance(gold, Ratio):
        if answer.half and gold.half and answer.half != gold.half:
            return False
        if len(answer.parts) != len(gold.parts):
            return False
        if all(_equal(a, g, c) for a, g in zip(answer.parts, gold.parts, strict=True)):
            return True
        if (
            answer.half
            or gold.half
            or any(_is_zero(part, c) for part in (*answer.parts, *gold.parts))
        ):
            return False  # times of day do not reduce
        crossed = [
            (Node(Op("mul"), (a, gold.parts[0])), Node(Op("mul"), (g, answer.parts[0])))
            for a, g in zip(answer.parts[1:], gold.parts[1:], strict=True)
        ]
        return all(same_value(left, right, c.budget) for left, right in crossed)
    ratio, other = (answer, gold) if isinstance(answer, Ratio) else (gold, answer)
    assert isinstance(ratio, Ratio)
    if (
        ratio.half and isinstance(other, Scalar) and other.unit is None
    ):  # 6 PM, where 6 is asked for
        return _is_zero(ratio.parts[-1], c) and same_value(ratio.parts[0], other.node, c.budget)
    if (
        len(ratio.parts) != 2
        or ratio.half
        or not isinstance(other, Scalar)
        or other.unit is not None
    ):
        return False
    return same_value(Node(Op("div"), ratio.parts), other.node, c.budget)


def _is_zero(node: Node, c: Comparison) -> bool:
    return same_value(node, num(0), c.budget)


def is_letter(text: str) -> bool:
    """Is this a letter that labels a choice?"""
    return len(text) == 1 and "A" <= text <= "J"


def is_choice(answer: Answer) -> bool:
    """Is this answer the letter of a choice?"""
    return (
        isinstance(answer, Scalar) and answer.node.op == "sym" and is_letter(str(answer.node.value))
    )
