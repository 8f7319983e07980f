"""Tokens -> an answer: lists, tuples, sets, intervals, relations, units; the leaves go to the expression parser."""

from __future__ import annotations

import re

from rewards.maths.answer import (
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
from rewards.maths.limits import Budget, Limits, NotMathError
from rewards.maths.measures import split_unit, with_commas
from rewards.maths.node import Node, neg, num, signs, sym, variables
from rewards.maths.parser import parse_expression
from rewards.maths.phrases import (
    DOMAINS,
    LABELS,
    RELATIONS,
    choice_letter,
    domain_of,
    half_of_day,
    hour_of_day,
    number_set,
    numbered_statements,
    point_name,
    split_modulus,
    takes_back,
    with_comma,
    without_lead_in,
    without_quantifier,
    without_transpose,
)
from rewards.maths.reals import EVERYTHING, as_region, integers_in, intersection, interval, is_reversed, solved, without
from rewards.maths.stretches import Tokens, closing, is_tuple, plain_text, split_at, strip, top_level, usual_brackets
from rewards.maths.tokens import clean, tokenize
from rewards.maths.units import NUMBER_WORDS, Unit

_ORDER = frozenset({"<", ">", "<=", ">="})
_CONJUNCTIONS = {"and": "and", "or": "or", "land": "and", "lor": "or"}
_MATRICES = frozenset({"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"})
_ROWS_ONLY = frozenset({"cases", "aligned", "align", "gathered", "split", "rcases"})
_EMPTY = frozenset(
    {
        "no solution",
        "no solutions",
        "no real solution",
        "no real solutions",
        "empty",
        "empty set",
        "the empty set",
    }
)
_REALS = {
    "RR": EVERYTHING,
    "RR+": Region((interval(num(0), False, sym("oo"), False),)),
    "RR-": Region((interval(neg(sym("oo")), False, num(0), False),)),
}
_GAPPY = frozenset({"ZZ", "NN", "QQ"})  # subsets of the reals that are no intervals
_SHORT_WORDS = frozenset({"yes", "no", "odd"})
_WHEN = frozenset({"if", "for", "when", "where", "whenever", "is"})
_ARTICLES = frozenset({"a", "an", "the"})
_ALL_REALS = frozenset({"all real numbers", "all reals", "all real number", "set of all real numbers"})
MAX_ITEMS = 200


def read(text: str, limits: Limits, *, comma_lists: bool = False) -> tuple[Answer, Tokens]:
    """The answer in a text, and its tokens.

    Raises:
        LimitError: too long, too deep, or numbers with too many digits.
    """
    tokens = strip(tokenize(clean(text, comma_lists=comma_lists), limits))
    return read_tokens(tokens, limits), tokens


def read_tokens(tokens: Tokens, limits: Limits) -> Answer:
    """The answer in tokens; what is not understood becomes `Words`.

    Raises:
        LimitError: as `read`.
    """
    try:
        return _Reader(limits).answer(tokens)
    except NotMathError:
        return Words(plain_text(tokens))


class _Reader:
    """Reads one answer; its methods go from the loosest binding (lists) to the tightest (one expression)."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.depth = 0

    def answer(self, tokens: Tokens) -> Answer:
        tokens = strip(with_comma(without_quantifier(without_lead_in(strip(usual_brackets(tokens))))))
        if not tokens:
            raise NotMathError("empty")
        self.depth += 1
        if self.depth > 12:
            raise NotMathError("too deep for an answer")
        try:
            return self.words(tokens) or self.listing(tokens)
        finally:
            self.depth -= 1

    # --- words

    def words(self, tokens: Tokens) -> Answer | None:
        """An answer that is nothing but words, or a choice letter."""
        if letter := choice_letter(tokens):
            return Scalar(sym(letter))
        if any(token.kind not in ("word", "run", "sym") and token.text not in ("-", "'", ".") for token in tokens):
            return None
        if any(token.kind == "sym" for token in tokens) and tokens[0].text.lower() not in LABELS | _ARTICLES:
            return None
        if len(tokens) == 1 and tokens[0].text.lower() in NUMBER_WORDS:
            return Scalar(num(NUMBER_WORDS[tokens[0].text.lower()]))
        if len(tokens) == 1 and tokens[0].kind == "run" and len(tokens[0].text) < 4:
            return Words(text) if (text := tokens[0].text.lower()) in _SHORT_WORDS else None  # xy is a product
        if len(tokens) == 1 and tokens[0].text.lower() == "infinity":
            return Scalar(sym("oo"))
        if len(tokens) > 1 and tokens[0].kind == "word" and tokens[0].text.lower() in _ARTICLES:
            tokens = tokens[1:]
        if any(token.text.lower() in ("and", "or") for token in tokens) or len(tokens[0].text) == 1:
            return None
        if tokens[0].text.lower() in _ARTICLES and len(tokens) > 1:
            tokens = tokens[1:]
        text = plain_text(tokens).removeprefix("there are ").removeprefix("there is ")
        if text in _EMPTY:
            return Listing((), "set")
        return EVERYTHING if text in _ALL_REALS else Words(text)

    # --- lists

    def listing(self, tokens: Tokens) -> Answer:
        if statements := numbered_statements(tokens):
            return Listing(tuple(Scalar(num(number)) for number in statements))
        tokens, cuts, kind = with_commas(tokens), [], "list"
        for index in top_level(tokens):
            token = tokens[index]
            if token.kind == "op" and token.text in (",", ";", "row"):
                cuts.append(index)
            elif token.kind in ("word", "run", "op") and token.text.lower() in _CONJUNCTIONS:
                cuts.append(index)
                kind = _CONJUNCTIONS[token.text.lower()] if kind != "or" else kind
        if not cuts or (tokens[cuts[0]].text != "or" and split_modulus(tokens, bare=False)[1]):
            return self.union(tokens)  # the residues of n = 1, 5 (mod 6) share their modulus
        if kind == "or" and (points := self.points(tokens, cuts)):
            return Listing(tuple(points), "or")
        parts = _share_unequal([part for part in split_at(tokens, cuts) if part])
        if len(parts) > MAX_ITEMS:
            raise NotMathError("too many items")
        items = [self.answer(part) for part in parts if not domain_of(part) or len(parts) == 1]
        if any(tokens[i].text in ("land", "lor") and tokens[i].kind == "op" for i in cuts) and any(
            isinstance(item, Scalar) for item in items
        ):
            raise NotMathError("propositional logic")
        domains = "".join(domain_of(part) for part in parts)
        return self.within(self.combine(items, kind, parts), domains)

    def points(self, tokens: Tokens, cuts: list[int]) -> list[Answer]:
        """`x = 1, y = 2 or x = 3, y = 4` as two points; nothing where it is not that."""
        groups = split_at(tokens, [i for i in cuts if tokens[i].text.lower() in ("or", "lor")])
        if any(sum(token.text == "=" for token in group) < 2 for group in groups):
            return []
        items = [self.answer(group) for group in groups]
        are_points = all(isinstance(item, Listing) and is_point(item) for item in items)
        return items if are_points else []

    def within(self, answer: Answer, domain: str) -> Answer:
        """`x > 2, x \\in \\mathbb{Z}`: not all real numbers, and a set of single ones where both ends are known."""
        if isinstance(answer, Assign) and isinstance(answer.value, Tuple) and domain in _GAPPY:
            answer = as_region(answer) or answer
        if not isinstance(answer, Region) or domain not in _GAPPY:
            return answer
        numbers = integers_in(answer) if domain != "QQ" else None
        if numbers is None:
            return answer._replace(domain=domain)
        return Listing(tuple(Scalar(num(number)) for number in numbers if number >= 0 or domain == "ZZ"), "set")

    def combine(self, items: list[Answer], kind: str, parts: list[Tokens]) -> Answer:
        """One answer out of several: a region, a common `x =`, or a list."""
        if len(items) == 1:
            return items[0]
        if not items or any(isinstance(item, Words) for item in items):
            if items and all(_is_plain_words(part) for part in parts):
                return Listing(tuple(items), kind)
            raise NotMathError("words in a list")
        if kind != "or" and (between := _between(items)) is not None:
            return between
        if kind == "or":
            items = _values_as_regions(items)
        regions = [item for item in items if isinstance(item, Region)]
        if len(regions) == len(items) and len({region.variable for region in regions}) == 1:
            return self.joined(regions, kind)
        kind = "list" if kind == "and" else kind
        shared = _flatten(_share_name(items, kind))
        return shared[0] if len(shared) == 1 else Listing(tuple(shared), kind)

    def joined(self, regions: list[Region], kind: str) -> Region:
        """`x > 0 and x <= 2` is what they share, `x < 1 or x > 2` a union, and so is a bare comma list of what
        shares nothing.
        """
        union = Region(tuple(piece for region in regions for piece in region.pieces), regions[0].variable)
        if kind == "or":
            return union
        shared = regions[0]
        for region in regions[1:]:
            shared = intersection(shared, region, Budget(self.limits))
        return union if kind == "list" and not shared.pieces else shared

    # --- unions, relations

    def union(self, tokens: Tokens) -> Answer:
        level = top_level(tokens)
        if [tokens[i].text for i in level[1:2]] == ["|"] and tokens[0].kind == "sym" and len(level) > 2:
            return self.braces(tokens)  # {x | x > 1}, where the braces were not escaped
        cups = [i for i in level if tokens[i].kind == "op" and tokens[i].text == "cup"]
        if any(tokens[i].kind == "op" and tokens[i].text in RELATIONS for i in level):
            orders = [part for part in split_at(tokens, cups) if any(t.text in _ORDER for t in part)]
            if not cups or len(orders) <= len(cups):
                return self.relation(tokens, level)  # `x < 1 cup x > 2` is a union of relations
        if operations := [i for i in level if self.is_set_operation(tokens, i)]:
            return self.sets(split_at(tokens, operations), [tokens[i].text for i in operations])
        return self.bracketed(tokens)

    def is_set_operation(self, tokens: Tokens, index: int) -> bool:
        """`\\cup`, `\\cap`, `\\setminus`, and the minus of `R - {1}`."""
        token = tokens[index]
        if token.kind != "op" or token.text not in ("cup", "cap", "setminus", "-"):
            return False
        return token.text != "-" or (
            tokens[index - 1].text == "RR"
            and tokens[index + 1 : index + 2] != []
            and (tokens[index + 1].kind == "open" and tokens[index + 1].text == "{")
        )

    def sets(self, parts: list[Tokens], operations: list[str]) -> Answer:
        """Unions, intersections and differences, from left to right."""
        budget = Budget(self.limits)
        region = self.region(parts[0])
        for operation, part in zip(operations, parts[1:], strict=True):
            if operation == "cap" and part and part[0].text in DOMAINS and len(part) == 1:
                return self.within(region, part[0].text)
            other = self.region(part)
            names = {side.variable for side in (region, other) if side.variable}
            if len(names) > 1 or region.domain or other.domain:
                raise NotMathError("sets over several variables")
            if operation == "cup":
                region = region._replace(pieces=region.pieces + other.pieces)
            elif operation == "cap":
                region = intersection(region, other, budget)
            else:
                region = without(region, other, budget)
            region = region._replace(variable="".join(names))
        return region

    def region(self, tokens: Tokens) -> Region:
        region = as_region(self.answer(tokens))
        if region is None or is_reversed(region, Budget(self.limits)):
            raise NotMathError("not a set of reals")
        return region

    def relation(self, tokens: Tokens, level: list[int]) -> Answer:
        cuts = [i for i in level if tokens[i].kind == "op" and tokens[i].text in RELATIONS]
        signs_found = [tokens[i].text for i in cuts]
        parts = split_at(tokens, cuts)
        if any(not part for part in parts):
            raise NotMathError("a relation without a side")
        if "equiv" in signs_found:
            return self.congruence(parts, signs_found)
        if "~~" in signs_found:
            return self.approximation(parts, signs_found)
        if set(signs_found) == {"="}:
            return self.equality(parts)
        if set(signs_found) <= _ORDER:
            return self.order(parts, signs_found)
        if signs_found == ["in"] and (name := self.name(parts[0])[0]):
            return Assign(name, (), self.answer(parts[1]))
        if signs_found == ["!="]:
            return self.unequal(parts)
        raise NotMathError("relation")

    def approximation(self, parts: list[Tokens], signs_found: list[str]) -> Answer:
        r"""`x \approx 2.5` names a value; what follows `\frac{5}{2} \approx` is only a decimal of it."""
        first = signs_found.index("~~")
        if first == 0 and len(parts) == 2 and (name := self.name(parts[0])[0]):
            return Assign(name, (), self.answer(parts[1]))
        if not set(signs_found[:first]) <= {"="}:
            raise NotMathError("an approximation in a condition")
        return self.equality(parts[: first + 1]) if first else self.answer(parts[0])

    def congruence(self, parts: list[Tokens], signs_found: list[str]) -> Answer:
        r"""`x \equiv 3 \pmod 7`; without a modulus, `f(x) \equiv 0` is `f(x) = 0`."""
        residues, modulus = split_modulus(parts[-1], bare=True)
        if not modulus:
            return self.equality(parts) if set(signs_found) <= {"=", "equiv"} else self.unequal(parts)
        if len(parts) != 2:
            raise NotMathError("a chain of congruences")
        found = self.answer(residues)
        items = found.items if isinstance(found, Listing) else (found,)
        return Congruence(plain_text(parts[0]), tuple(items), self.end(modulus))

    def equality(self, parts: list[Tokens]) -> Answer:
        """`x = 5`, `f(x) = ...`, an equation, or a chain of equal values."""
        named = self.name(parts[0])
        if named[0]:
            value = self.answer(parts[1]) if len(parts) == 2 else self.chain(parts[1:])
            if not (isinstance(value, Scalar) and named[0] in variables(value.node)):
                return Assign(named[0], named[1], value)
        if len(parts) > 2:
            return self.chain(parts)
        back = self.name(parts[1])
        if back[0] and not back[1]:
            value = self.answer(parts[0])
            if not (isinstance(value, Scalar) and back[0] in variables(value.node)):
                return Assign(back[0], (), value)
        left, right = self.scalar(parts[0]), self.scalar(parts[1])
        if not variables(left.node) and not variables(right.node):
            return right._replace(also=(left.node,), unit=right.unit or left.unit)
        return Equation(left.node, right.node, right.unit or left.unit)

    def chain(self, parts: list[Tokens]) -> Answer:
        """`2/4 = 1/2`: the last, provided the others are equal to it (checked when it is compared)."""
        scalars = [self.scalar(part) for part in parts]
        last = scalars[-1]
        units = [scalar.unit for scalar in scalars if scalar.unit is not None]
        return last._replace(also=tuple(s.node for s in scalars[:-1]), unit=units[-1] if units else None)

    def name(self, tokens: Tokens) -> tuple[str, tuple[str, ...]]:
        """The name and parameters on the left of `=`: a symbol, `f(x)`, a tuple of symbols, or words; else ''."""
        tokens = strip(tokens)
        if takes_back(tokens):
            raise NotMathError("a label that takes the value back")
        if [token.text for token in tokens[1:6]] == ["^", "G", "-", "1", "G"] and tokens[0].kind == "sym":
            name, parameters = self.name([tokens[0], *tokens[6:]])  # f^{-1}(x)
            return (f"{name}^-1", parameters) if parameters else ("", ())
        if len(tokens) > 1 and tokens[0].text in ("angle", "triangle"):
            tokens = tokens[1:]
        if tokens and all(token.kind == "word" for token in tokens) and len(plain_text(tokens)) > 1:
            return plain_text(tokens), ()
        if tokens and all(token.kind == "run" for token in tokens) and len(tokens[0].text) > 3:
            return plain_text(tokens), ()
        if any(token.kind == "op" and token.text == ":" for token in tokens):
            return plain_text(tokens), ()
        if tokens and tokens[0].text == "(" and closing(tokens, 0) == len(tokens) - 1:
            inner = tokens[1:-1]
            if inner and all(t.kind == "sym" or t.text in (",", "_") or t.kind == "num" for t in inner):
                return "(" + "".join(token.text for token in inner) + ")", ()
        try:
            node, _ = parse_expression(tokens, self.limits)
        except NotMathError:
            return "", ()
        if node.op == "sym" and node.value not in ("pi", "i", "oo"):
            return str(node.value), ()
        if node.op == "apply" and all(arg.op == "sym" for arg in node.args):
            return str(node.value), tuple(str(arg.value) for arg in node.args)
        if node.op == "mul" and tokens[-1].text == ")" and tokens[-2].text.isupper():
            return plain_text(tokens), ()  # P(A): A is no parameter
        if node.op == "mul" and [arg.op for arg in node.args] == ["sym", "sym"] and tokens[-1].text == ")":
            return str(node.args[0].value), (str(node.args[1].value),)  # h(x), N(n)
        if node.op in ("apply", "mul") and tokens[-1].text == ")" and all(_is_name_part(arg) for arg in node.args):
            return plain_text(tokens), ()  # f(2), f(f(2)), S_1(101)
        return "", ()

    def order(self, parts: list[Tokens], relations: list[str]) -> Answer:
        """An inequality, as a region where one plain variable is compared with constants."""
        if relations[0] in (">", ">="):
            parts, relations = parts[::-1], [sign.replace(">", "<") for sign in reversed(relations)]
        if any(sign not in ("<", "<=") for sign in relations):
            raise NotMathError("mixed inequality")
        closed = [sign == "<=" for sign in relations]
        nodes = [self.end(part) for part in parts]
        names = [self.name(part)[0] for part in parts]
        if len(parts) == 3 and names[1] and names[1] not in variables(nodes[0]) | variables(nodes[2]):
            return Region((interval(nodes[0], closed[0], nodes[2], closed[1]),), _variable(parts[1]))
        if len(parts) == 2 and names[0] and not variables(nodes[1]):
            return Region((interval(neg(sym("oo")), False, nodes[1], closed[0]),), _variable(parts[0]))
        if len(parts) == 2 and names[1] and not variables(nodes[0]):
            return Region((interval(nodes[0], closed[0], sym("oo"), False),), _variable(parts[1]))
        if len(parts) == 2:
            inequality = Inequality(nodes[0], nodes[1], closed[0])
            return solved(inequality, Budget(self.limits)) or inequality
        pairs = zip(nodes, nodes[1:], closed, strict=False)
        return Listing(tuple(Inequality(a, b, c) for a, b, c in pairs))

    def end(self, tokens: Tokens) -> Node:
        return self.scalar(tokens).node

    def unequal(self, parts: list[Tokens]) -> Answer:
        for variable, other in ((0, 1), (1, 0)):
            if self.name(parts[variable])[0] and not variables(self.end(parts[other])):
                points = tuple(Scalar(node) for node in signs(self.end(parts[other])))
                region = without(EVERYTHING, Listing(points), Budget(self.limits))
                return region._replace(variable=_variable(parts[variable]))
        left, right = self.end(parts[0]), self.end(parts[1])
        return Assign("!=", (), Equation(left, right))

    # --- brackets

    def bracketed(self, tokens: Tokens) -> Answer:
        first = tokens[0]
        if first.kind == "op" and first.text in ("pm", "-") and is_tuple(tokens[1:]):
            point = self.bracketed(tokens[1:])
            assert isinstance(point, Tuple)
            opposite = point._replace(items=tuple(_opposite(item) for item in point.items))
            return opposite if first.text == "-" else Listing((point, opposite))
        if (length := point_name(tokens)) and is_tuple(tokens[length:]):
            return Assign(plain_text(tokens[:length]), (), self.bracketed(tokens[length:]))  # A(1, 2)
        if transposed := without_transpose(tokens):
            return _transposed(self.bracketed(transposed))
        if first.kind == "cmd" and first.text == "begin" and closing(tokens, 0) == len(tokens) - 2:
            return self.environment(tokens)
        if first.kind == "open" and first.text in "([{<" and closing(tokens, 0) == len(tokens) - 1:
            inner, closer = tokens[1:-1], tokens[-1].text
            if first.text == "{":
                return self.braces(inner)
            level = top_level(inner)
            if any(inner[i].kind == "op" and inner[i].text in (",", ";") for i in level):
                return self.tuple_of(first.text, inner, closer)
            if inner and inner[0].text == "begin" and inner[-2].text == "end":
                return self.environment(inner)
            operations = ("cup", "cap", "setminus", "=")
            if is_tuple(inner) or any(inner[i].text in operations or inner[i].kind in ("word", "run") for i in level):
                return self.answer(inner)
        return self.ratio(tokens)

    def tuple_of(self, opener: str, inner: Tokens, closer: str) -> Answer:
        cuts = [i for i in top_level(inner) if inner[i].kind == "op" and inner[i].text in (",", ";")]
        parts = split_at(inner, cuts)
        if any(not part for part in parts) or len(parts) > MAX_ITEMS:
            raise NotMathError("an empty place in a tuple")
        if closer == "}" or closer == "G":
            raise NotMathError("brackets")
        items = [self.answer(part) for part in parts]
        if any(isinstance(item, Words) and not _is_plain_words(part) for item, part in zip(items, parts, strict=True)):
            raise NotMathError("words in a tuple")
        opener, closer = "(" if opener == "<" else opener, ")" if closer == ">" else closer
        return _each_sign(opener, items, closer, parts)

    def braces(self, inner: Tokens) -> Answer:
        """A set: its elements, or `{x | condition}`."""
        if not inner:
            return Listing((), "set")
        bar = next((i for i in top_level(inner) if inner[i].text in ("mid", "|", ":")), None)
        if bar and any(token.text in RELATIONS for token in inner[bar:]):
            return self.comprehension(inner[:bar], inner[bar + 1 :])
        answer = self.answer(inner)
        if isinstance(answer, Assign) and isinstance(answer.value, Listing):
            return answer._replace(value=answer.value._replace(kind="set"))
        if isinstance(answer, Listing) and answer.kind != "set":
            return answer._replace(kind="set")
        if isinstance(answer, Words):
            raise NotMathError("words in a set")
        return Listing((answer,), "set")

    def comprehension(self, head: Tokens, condition: Tokens) -> Answer:
        r"""`{x | x > 2}` is a region; `{2k | k \in Z}` is known by its term and its condition."""
        name, domain = head, domain_of(head)
        if [token.text for token in head[1:2]] == ["in"] and (domain or head[2:3] == []):
            name = head[:1]
        if len(name) == 1 and name[0].kind == "sym":
            region = as_region(self.answer(condition))
            if region is not None:
                return self.within(region._replace(variable=""), domain or region.domain)
        return Tuple("{|", (self.answer(head), read_tokens(condition, self.limits)), "}")

    def environment(self, tokens: Tokens) -> Answer:
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
        """The (value, condition) pairs of a function by cases; nothing for a system of equations, aligned or not."""
        lines = [line for line in split_at(inner, [i for i in top_level(inner) if inner[i].text == "row"]) if line]
        pairs: list[Answer] = []
        for line in lines:
            marks = [i for i in top_level(line) if line[i].text == "&"] or [
                i for i in top_level(line) if line[i].kind == "op" and line[i].text == ","
            ]
            cells = split_at(line, marks[:1])
            if len(cells) != 2 or not cells[0] or not cells[1] or cells[1][0].text in RELATIONS:
                return []
            condition = [token for token in strip(cells[1]) if token.kind != "word" or token.text not in _WHEN]
            if any(token.text in RELATIONS for token in cells[0]) or not condition:
                return []
            pairs.append(Tuple("(", (self.answer(cells[0]), read_tokens(condition, self.limits)), ")"))
        return pairs

    def rows(self, inner: Tokens) -> tuple[tuple[Node, ...], ...]:
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

    # --- ratios, bases, numbers with units

    def classes(self, tokens: Tokens) -> Congruence | None:
        """`3 (mod 7)`, a class of residues."""
        residues, modulus = split_modulus(tokens, bare=False)
        return Congruence("", (self.answer(residues),), self.end(modulus)) if modulus else None

    def ratio(self, tokens: Tokens) -> Answer:
        cuts = [
            i
            for i in top_level(tokens)
            if (tokens[i].kind == "op" and tokens[i].text == ":")
            or (tokens[i].text == "to" and 0 < i < len(tokens) - 1)
        ]
        if not cuts and (hour := hour_of_day(tokens)) is not None:
            return Ratio((num(hour), num(0)), half_of_day(tokens)[1])
        if not cuts:
            return self.based(tokens) or self.matrices(tokens) or self.classes(tokens) or self.values(tokens)
        if all(token.kind in ("word", "run") for token in tokens[: cuts[0]]):
            if takes_back(tokens[: cuts[0]]):
                raise NotMathError("a label that takes the value back")
            return Assign(plain_text(tokens[: cuts[0]]) + ":", (), self.answer(tokens[cuts[0] + 1 :]))  # Total: 42
        tokens, half = half_of_day(tokens)
        return Ratio(tuple(self.end(part) for part in split_at(tokens, cuts)), half)

    def based(self, tokens: Tokens) -> Answer | None:
        """`52_8`, `(52)_8`, `1A_{16}`."""
        cut = next((i for i in range(1, len(tokens)) if tokens[i].kind == "op" and tokens[i].text == "_"), None)
        if cut is None:
            return None
        negative = tokens[0].text == "-"
        digits = "".join(token.text for token in tokens[negative:cut] if token.text not in ("(", ")", "G"))
        base = "".join(token.text for token in tokens[cut + 1 :] if token.text not in ("(", ")", "G"))
        base = str(NUMBER_WORDS.get(base.lower(), base))
        if not re.fullmatch(r"[0-9][0-9A-Z]*|[A-F][0-9A-F]+", digits) or not re.fullmatch(r"[0-9]{1,2}", base):
            return None
        if base == "10":
            return Scalar(num(int(digits) * (-1 if negative else 1))) if digits.isdigit() else None
        try:
            return Based(int(digits, int(base)) * (-1 if negative else 1), int(base))
        except ValueError:  # a digit that the base does not have
            raise NotMathError("digit") from None

    def matrices(self, tokens: Tokens) -> Answer | None:
        """A multiple of a matrix, or a sum of such: a line is a point and multiples of a direction."""
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
        begin = next((i for i in range(len(tokens)) if tokens[i].kind == "cmd" and tokens[i].text == "begin"), None)
        if begin is None:
            raise NotMathError("a number beside a matrix")
        matrix = self.bracketed(tokens[begin:])
        if not isinstance(matrix, Matrix):
            raise NotMathError("matrix")
        front = tokens[:begin]
        if front and front[-1].text == "*":
            front = front[:-1]
        return _scaled(self.end(front), matrix) if front else matrix

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

    def scalar(self, tokens: Tokens) -> Scalar:
        tokens, unit, factor = split_unit(strip(tokens))
        node, degrees = parse_expression(tokens, self.limits)
        if factor != 1:
            node = Node("mul", (node, num(factor)))
        if degrees and unit is None:
            unit = Unit((("degree", 1),))
        return Scalar(node, unit)


def _each_sign(opener: str, items: list[Answer], closer: str, parts: list[Tokens]) -> Answer:
    r"""The tuple; `(\pm 1, 0)` as the two that it stands for. With more signs it is not said which go together."""
    found = [k for k, part in enumerate(parts) if any(t.kind == "op" and t.text in ("pm", "mp") for t in part)]
    both = items[found[0]] if len(found) == 1 else None
    if not isinstance(both, Listing) or both.kind != "list":
        return Tuple(opener, tuple(items), closer)
    at = found[0]
    return Listing(tuple(Tuple(opener, (*items[:at], value, *items[at + 1 :]), closer) for value in both.items))


def _is_column_of_statements(tokens: Tokens) -> bool:
    level = [tokens[i].text for i in top_level(tokens)]
    return "&" not in level and ("row" not in level or any(text in RELATIONS for text in level))


def _opposite(answer: Answer) -> Answer:
    if not isinstance(answer, Scalar):
        raise NotMathError("the opposite of no number")
    return answer._replace(node=neg(answer.node))


def _scaled(scale: Node, matrix: Matrix) -> Matrix:
    return Matrix(tuple(tuple(Node("mul", (scale, entry)) for entry in row) for row in matrix.rows))


def _sum(left: Matrix, right: Matrix) -> Matrix:
    if [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        raise NotMathError("matrices of two shapes")
    pairs = zip(left.rows, right.rows, strict=True)
    return Matrix(tuple(tuple(Node("add", both) for both in zip(*rows, strict=True)) for rows in pairs))


def _transposed(answer: Answer) -> Answer:
    return Matrix(tuple(zip(*answer.rows, strict=True))) if isinstance(answer, Matrix) else answer


def _is_name_part(node: Node) -> bool:
    return node.op in ("num", "sym") or (node.op == "apply" and all(_is_name_part(arg) for arg in node.args))


def is_point(listing: Listing) -> bool:
    """`x = 1, y = 2`: values of different names that hold together."""
    names = {item.name for item in listing.items if isinstance(item, Assign) and not item.parameters}
    return listing.kind != "or" and len(names) == len(listing.items) > 1


def _variable(tokens: Tokens) -> str:
    return plain_text(strip(tokens))


def _share_unequal(parts: list[Tokens]) -> list[Tokens]:
    """`x \\neq 2, 3` as `x \\neq 2, x \\neq 3`."""
    first = [token.text if token.kind == "op" else "" for token in parts[0]] if parts else []
    if "!=" not in first or any(token.text in RELATIONS for part in parts[1:] for token in part):
        return parts
    front = parts[0][: first.index("!=") + 1]
    return [parts[0], *([*front, *part] for part in parts[1:])]


def _is_plain_words(tokens: Tokens) -> bool:
    return all(token.kind in ("word", "run") or (token.kind == "sym" and len(token.text) == 1) for token in tokens)


def _between(items: list[Answer]) -> Region | None:
    """`a < x, x < b` as `a < x < b`."""
    if len(items) != 2 or not all(isinstance(item, Inequality) for item in items):
        return None
    for low, high in (items, items[::-1]):
        assert isinstance(low, Inequality) and isinstance(high, Inequality)
        middle = low.right
        if (
            middle == high.left
            and middle.op == "sym"
            and middle.value not in variables(low.left) | variables(high.right)
        ):
            return Region((interval(low.left, low.closed, high.right, high.closed),), str(middle.value))
    return None


def _values_as_regions(items: list[Answer]) -> list[Answer]:
    """`x = 0 or x >= 1` as two regions of x."""
    names = {item.variable for item in items if isinstance(item, Region)}
    if len(names) != 1 or not all(
        isinstance(item, Region) or (isinstance(item, Assign) and item.name in names and not item.parameters)
        for item in items
    ):
        return items
    regions = [as_region(item) for item in items]
    return [region._replace(variable=max(names)) for region in regions if region is not None]


def _share_name(items: list[Answer], kind: str) -> list[Answer]:
    """`x = 1, 2` and `x = 1, x = 2` become `x = {1, 2}`; different names stay as they are."""
    names = [item.name for item in items if isinstance(item, Assign) and not item.parameters]
    first = items[0]
    if not isinstance(first, Assign) or first.parameters or len(set(names)) != 1:
        return items
    if not all(
        isinstance(item, Assign | Scalar | Listing) or (kind == "or" and isinstance(item, Tuple)) for item in items
    ):
        return items
    values = [item.value if isinstance(item, Assign) else item for item in items]
    return [Assign(first.name, (), Listing(tuple(_flatten(values)), kind))]


def _flatten(items: list[Answer]) -> list[Answer]:
    """Plus-minus pairs become items of the list around them."""
    flat: list[Answer] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Listing) and item.kind == "list" else [item])
    return flat
