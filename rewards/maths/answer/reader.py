"""Tokens -> an answer: lists, tuples, sets, intervals, relations, units; the leaves go to the
expression parser.
"""

from __future__ import annotations

import re

from rewards.maths.answer import phrases
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
    Several,
    Tuple,
    Unit,
    Words,
)
from rewards.maths.answer.phrases import DOMAINS, ORDER, RELATIONS, domain_of, takes_back
from rewards.maths.answer.regions import (
    EVERYTHING,
    SIGNED,
    as_region,
    intersection,
    interval,
    is_reversed,
    solved,
    whole_numbers,
    without,
)
from rewards.maths.answer.units import normal_unit, split_unit, with_commas
from rewards.maths.expression.node import (
    INFINITY,
    ZERO,
    Node,
    Op,
    add,
    mul,
    neg,
    num,
    signs,
    sym,
    variables,
)
from rewards.maths.expression.parser import parse_expression
from rewards.maths.limits import Budget, LimitError, Limits, NotMathError
from rewards.maths.text import vocabulary as known
from rewards.maths.text.notation import clean
from rewards.maths.text.tokens import (
    LETTERS,
    Kind,
    Token,
    Tokens,
    closing,
    is_enclosed,
    is_tuple,
    plain_text,
    split_at,
    strip,
    texts,
    tokenize,
    top_level,
    top_ops,
    usual_brackets,
)

_MATRICES = ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array")
_ROWS_ONLY = ("cases", "aligned", "align", "gathered", "split", "rcases")
_REALS = {
    "RR": EVERYTHING,
    "RR+": SIGNED["positive"],
    "RR-": SIGNED["negative"],
    "RR*": SIGNED["nonzero"],
}
_WHEN = ("if", "for", "when", "where", "whenever", "is")
_GAPPY = ("ZZ", "NN", "QQ")  # subsets of the reals that are no intervals
_MAX_ITEMS, _MAX_NESTING = 200, 12


def read(text: str, limits: Limits, *, comma_lists: bool = False) -> tuple[Answer, Tokens]:
    """The answer in a text, and its tokens.

    Raises:
        LimitError: too long, too deep, or numbers with too many digits.
    """
    tokens = strip(usual_brackets(tokenize(clean(text, comma_lists=comma_lists), limits)))
    return read_tokens(tokens, limits), tokens


def read_tokens(tokens: Tokens, limits: Limits) -> Answer:
    """The answer in tokens; what is not understood becomes `Words`.

    Raises:
        LimitError: as `read`.
    """
    return _Reader(limits).or_words(tokens)


def is_set_of_numbers(text: str, limits: Limits) -> bool:
    """Is the text read as a set of numbers, as `all real numbers except 3` and `no solutions` are?"""
    try:
        answer, _ = read(text, limits)
    except LimitError:
        return False
    return isinstance(answer, Region) or (isinstance(answer, Listing) and not answer.items)


def is_point(listing: Listing) -> bool:
    """`x = 1, y = 2`: values of different names that hold together."""
    names = {
        item.name for item in listing.items if isinstance(item, Assign) and not item.parameters
    }
    return listing.kind is not Several.OR and len(names) == len(listing.items) > 1


class _Reader:
    """Reads one answer; methods go from the loosest binding to the tightest."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits)
        self.depth = 0

    def or_words(self, tokens: Tokens) -> Answer:
        """The answer, or its words where it is not understood."""
        try:
            return self.answer(tokens)
        except NotMathError:
            return Words(plain_text(tokens))

    def answer(self, tokens: Tokens) -> Answer:
        tokens = strip(phrases.with_comma(phrases.without_lead_in(strip(tokens))))
        self.depth += 1
        if not tokens or self.depth > _MAX_NESTING:
            raise NotMathError("empty, or too deep for an answer")
        try:
            if described := phrases.described_set(tokens):  # `all real numbers except 3`
                sign, domain, left_out = described
                region = SIGNED[sign]
                if left_out:
                    region = without(region, self.answer(left_out), self.budget)
                return self.within(region, domain)
            return self.words(tokens) or self.listing(tokens)
        finally:
            self.depth -= 1

    def words(self, tokens: Tokens) -> Answer | None:
        """An answer that is nothing but words, a number in words, or a choice letter; not `x` or
        `xy`, which are mathematics.
        """
        if letter := phrases.choice_letter(tokens):
            return Scalar(sym(letter))
        first = tokens[0]
        kinds = (*LETTERS, Kind.SYM)
        if any(t.kind not in kinds and t.text not in ("-", "'", ".") for t in tokens):
            return None
        begins = first.text.lower() in known.CHOICE_WORDS | known.ARTICLES
        if any(token.kind is Kind.SYM for token in tokens) and not begins:
            return None
        if len(tokens) == 1:
            text = first.text.lower()
            if text in known.NUMBER_WORDS:
                return Scalar(num(known.NUMBER_WORDS[text]))
            if text == "infinity":
                return Scalar(INFINITY)
            is_name = first.text.istitle() and not known.VOWELS.isdisjoint(
                text[1:]
            )  # Bob, no product
            is_product = len(text) == 1 or (
                first.kind is Kind.RUN and len(text) < 4 and not is_name
            )
            if text not in known.PLAIN_WORDS and (is_product or text in ("and", "or")):
                return None
        else:
            letters = [token for token in tokens if token.text != "-"]
            if len(letters) < len(tokens) and all(  # `ad - bc`, unlike `tic-tac` and `twenty-one`
                t.kind in (Kind.RUN, Kind.SYM)
                and (len(t.text) < 3 or (len(t.text) == 3 and list(t.text) == sorted(t.text)))
                for t in letters
            ):
                return None
            tokens = tokens[1:] if first.text.lower() in known.ARTICLES else tokens
            joined = any(token.text.lower() in ("and", "or") for token in tokens)
            if joined or len(tokens[0].text) == 1:
                return None
            text = plain_text(tokens).removeprefix("there are ").removeprefix("there is ")
            text = re.sub(r"\b([a-z]+?)s? numbers\b", r"\1s", text)  # prime numbers are primes
        return Listing((), Several.SET) if text in known.EMPTY_SETS else Words(text)

    # --- lists

    def listing(self, tokens: Tokens) -> Answer:
        if statements := phrases.numbered_statements(tokens):
            return Listing(tuple(Scalar(num(number)) for number in statements))
        tokens, cuts, kind = with_commas(tokens), [], Several.LIST
        joined = False  # by `and` or a logical sign
        for index in top_level(tokens):
            token = tokens[index]
            if token.kind not in (*LETTERS, Kind.OP):
                continue
            conjunction = known.CONJUNCTIONS.get(token.text.lower(), "")
            if token.text in (",", ";", "row"):
                cuts.append(index)
            elif conjunction:
                cuts.append(index)
                joined = joined or conjunction == "and"
                kind = Several.OR if conjunction == "or" else kind
        is_class = bool(cuts) and bool(phrases.split_modulus(tokens, bare=False)[1])
        said = sum(token.text in RELATIONS for token in tokens) if is_class else 0
        if not cuts or (is_class and (said == 1 or tokens[cuts[0]].text != "or")):
            return self.union(tokens)  # the residues of n = 1, 5 (mod 6) share their modulus
        if kind is Several.OR and (points := self.points(tokens, cuts)):
            return Listing(tuple(points), kind)
        if tokens[cuts[-1]].kind in LETTERS and cuts[-1] == len(tokens) - 1:
            raise NotMathError("a conjunction without an end")
        parts = [part for part in split_at(tokens, cuts) if part]
        unequal = (
            next((i for i, t in enumerate(parts[0]) if t.is_op("!=")), None) if parts else None
        )
        if unequal is not None and not any(t.text in RELATIONS for part in parts[1:] for t in part):
            parts[1:] = [[*parts[0][: unequal + 1], *part] for part in parts[1:]]  # `x \neq 2, 3`
        if len(parts) > _MAX_ITEMS:
            raise NotMathError("too many items")
        items = [self.answer(part) for part in parts if not domain_of(part) or len(parts) == 1]
        is_logic = any(tokens[i].is_op("land", "lor") for i in cuts)
        if is_logic and any(isinstance(item, Scalar) for item in items):
            raise NotMathError("propositional logic")
        answer = self.combine(items, kind, parts, joined=joined)
        return self.within(answer, "".join(domain_of(part) for part in parts))

    def points(self, tokens: Tokens, cuts: list[int]) -> list[Answer]:
        """`x = 1, y = 2 or x = 3, y = 4` as two points; nothing where it is not that."""
        groups = split_at(tokens, [i for i in cuts if tokens[i].text.lower() in ("or", "lor")])
        if any(sum(token.text == "=" for token in group) < 2 for group in groups):
            return []
        items = [self.answer(group) for group in groups]
        return items if all(isinstance(item, Listing) and is_point(item) for item in items) else []

    def combine(
        self, items: list[Answer], kind: Several, parts: list[Tokens], *, joined: bool
    ) -> Answer:
        """One answer out of several: a region, a common `x =`, or a list."""
        if len(items) == 1:
            return items[0]
        if not items or any(isinstance(item, Words) for item in items):
            if items and all(_is_plain_words(part) for part in parts):
                return Listing(tuple(items), kind)
            raise NotMathError("words in a list")
        either = kind is Several.OR
        if not either and (total := _total(items)):
            return total
        names = [item.name for item in items if isinstance(item, Assign) and not item.parameters]
        variables_of = {item.variable for item in items if isinstance(item, Region)}
        if not either and len(items) == 2:
            for low, high in (items, items[::-1]):  # `a < x, x < b` as `a < x < b`
                if not isinstance(low, Inequality) or not isinstance(high, Inequality):
                    break
                middle, others = low.right, variables(low.left) | variables(high.right)
                is_name = middle.op is Op.SYM and middle.value not in others
                if middle == high.left and is_name:
                    piece = interval(low.left, low.closed, high.right, high.closed)
                    return Region((piece,), str(middle.value))
        if either and len(variables_of) == 1 and variables_of.issuperset(names):
            plain = all(isinstance(item, Region | Assign) for item in items)
            if plain and not any(isinstance(i, Assign) and i.parameters for i in items):
                # `x = 0 or x >= 1` as two regions of x
                found = [region for region in map(as_region, items) if region is not None]
                items = [region._replace(variable=max(variables_of)) for region in found]
        regions = [item for item in items if isinstance(item, Region)]
        if len(regions) == len(items) and len({region.variable for region in regions}) == 1:
            # `x > 0 and x <= 2` is what they share, `x < 1 or x > 2` a union, and so is a bare comma
            # list of what shares nothing.
            pieces = tuple(piece for region in regions for piece in region.pieces)
            union = Region(pieces, regions[0].variable)
            if either:
                return union
            shared = regions[0]
            for region in regions[1:]:
                shared = intersection(shared, region, self.budget)
            return union if not joined and not shared.pieces else shared
        first = items[0]
        kinds = Assign | Scalar | Listing | Tuple if either else Assign | Scalar | Listing
        shares_name = len(set(names)) == 1 and all(isinstance(item, kinds) for item in items)
        if isinstance(first, Assign) and not first.parameters and shares_name:
            # `x = 1, 2` and `x = 1, x = 2` are x = {1, 2}; different names stay as they are
            bare = [item.value if isinstance(item, Assign) else item for item in items]
            total = None if either else _total(bare)
            return Assign(first.name, (), total or Listing(_flat(bare), kind))
        flat = _flat(items)
        return flat[0] if len(flat) == 1 else Listing(flat, kind)

    def within(self, answer: Answer, domain: str) -> Answer:
        """`x > 2, x \\in \\mathbb{Z}`: not all real numbers, and a set of single ones where both
        ends are known.
        """
        if domain not in _GAPPY:
            return answer
        if isinstance(answer, Assign) and isinstance(answer.value, Tuple):
            answer = as_region(answer) or answer
        if not isinstance(answer, Region):
            return answer
        if domain == "QQ":
            return answer._replace(domain=domain)
        answer, numbers = whole_numbers(answer)
        if numbers is None:
            return answer._replace(domain=domain)
        inside = [number for number in numbers if number >= 0 or domain == "ZZ"]
        return Listing(tuple(Scalar(num(number)) for number in inside), Several.SET)

    # --- relations and operations of sets

    def union(self, tokens: Tokens) -> Answer:
        level = top_level(tokens)
        if tokens[0].kind is Kind.SYM and len(level) > 2 and tokens[level[1]].text == "|":
            return self.braces(tokens)  # {x | x > 1}, where the braces were not escaped
        level = [i for i in level if tokens[i].kind is Kind.OP]
        relations = [i for i in level if tokens[i].text in RELATIONS]
        cups = [i for i in level if tokens[i].text == "cup"]
        if relations:
            ordered = [
                part for part in split_at(tokens, cups) if any(t.text in ORDER for t in part)
            ]
            if not cups or len(ordered) <= len(cups):
                return self.relation(tokens, relations)  # `x < 1 cup x > 2` unites relations
        operations = [
            i
            for i in level
            if tokens[i].is_op("cup", "cap", "setminus")
            or (tokens[i].is_op("-") and texts(tokens[i - 1 : i + 2]) == ["RR", "-", "{"])
        ]
        if not operations:
            return self.bracketed(tokens)
        parts = split_at(tokens, operations)
        region = self.region(parts[0])
        for at, part in zip(operations, parts[1:], strict=True):  # from left to right
            operation = tokens[at].text
            if operation == "cap" and len(part) == 1 and part[0].text in DOMAINS:
                return self.within(region, part[0].text)
            other = self.region(part)
            names = {side.variable for side in (region, other) if side.variable}
            if len(names) > 1 or region.domain or other.domain:
                raise NotMathError("sets over several variables")
            if operation == "cup":
                region = region._replace(pieces=region.pieces + other.pieces)
            elif operation == "cap":
                region = intersection(region, other, self.budget)
            else:
                region = without(region, other, self.budget)
            region = region._replace(variable="".join(names))
        return region

    def region(self, tokens: Tokens) -> Region:
        region = as_region(self.answer(tokens))
        if region is None or is_reversed(region, self.budget):
            raise NotMathError("not a set of reals")
        return region

    def relation(self, tokens: Tokens, cuts: list[int]) -> Answer:
        """An equation, an inequality or a chain of them."""
        found = [tokens[i].text for i in cuts]
        parts = split_at(tokens, cuts)
        if any(not part for part in parts):
            raise NotMathError("a relation without a side")
        if "equiv" in found:
            residues, modulus = phrases.split_modulus(parts[-1], bare=True)
            if modulus and len(parts) == 2:
                classes = self.answer(residues)
                items = classes.items if isinstance(classes, Listing) else (classes,)
                return Congruence(plain_text(parts[0]), items, self.end(modulus))
            if modulus or not set(found) <= {"=", "equiv"}:
                raise NotMathError("a chain of congruences")
            return self.equality(parts)  # `f(x) \equiv 0`
        if "~~" in found:
            # `x \approx 2.5` names a value; what follows `\frac{5}{2} \approx` is a decimal of it
            first = found.index("~~")
            if first == 0 and len(parts) == 2 and (name := self.name(parts[0])[0]):
                return Assign(name, (), self.answer(parts[1]))
            if not set(found[:first]) <= {"="}:
                raise NotMathError("an approximation in a condition")
            return self.equality(parts[: first + 1]) if first else self.answer(parts[0])
        if set(found) == {"="}:
            return self.equality(parts)
        if set(found) <= {*ORDER}:
            return self.order(parts, found)
        if found == ["in"] and (name := self.name(parts[0])[0]):
            return Assign(name, (), self.answer(parts[1]))
        if found == ["!="]:  # all numbers but some
            for variable, other in (parts, parts[::-1]):
                if self.name(variable)[0] and not variables(node := self.end(other)):
                    left_out = Listing(tuple(Scalar(value) for value in signs(node)))
                    region = without(EVERYTHING, left_out, self.budget)
                    return region._replace(variable=plain_text(strip(variable)))
            return Assign("!=", (), Equation(self.end(parts[0]), self.end(parts[1])))
        raise NotMathError("relation")

    def equality(self, parts: list[Tokens]) -> Answer:
        """`x = 5`, `f(x) = ...`, an equation, or a chain of equal values."""
        sides = [(parts[0], parts[1:])] + ([(parts[1], parts[:1])] if len(parts) == 2 else [])
        for label, values in sides:
            name, parameters = self.name(label)
            if name and (label is parts[0] or not parameters):
                value = self.answer(values[0]) if len(values) == 1 else self.chain(values)
                if not (isinstance(value, Scalar) and name in variables(value.node)):
                    return Assign(name, parameters, value)
        if len(parts) > 2:
            return self.chain(parts)
        left, right = self.scalar(parts[0]), self.scalar(parts[1])
        unit = right.unit or left.unit
        if not variables(left.node) and not variables(right.node):
            return right._replace(also=(left.node,), unit=unit)
        return Equation(left.node, right.node, unit)

    def chain(self, parts: list[Tokens]) -> Answer:
        """`2/4 = 1/2`: the last, provided the others are equal to it (checked when it is
        compared).
        """
        *others, last = (self.scalar(part) for part in parts)
        units = [scalar.unit for scalar in (last, *others[::-1]) if scalar.unit is not None]
        also = tuple(scalar.node for scalar in others)
        return last._replace(also=also, unit=units[0] if units else None)

    def order(self, parts: list[Tokens], relations: list[str]) -> Answer:
        """An inequality, as a region where one plain variable is compared with constants."""
        if relations[0] in (">", ">="):
            parts, relations = parts[::-1], [sign.replace(">", "<") for sign in reversed(relations)]
        if not {*relations} <= {"<", "<="}:
            raise NotMathError("mixed inequality")
        closed = [sign == "<=" for sign in relations]
        nodes = [self.end(part) for part in parts]
        names = [self.name(part)[0] for part in parts]
        spelt = [plain_text(strip(part)) for part in parts]
        ends = variables(nodes[0]) | variables(nodes[-1])
        if len(parts) == 3 and names[1] and names[1] not in ends:
            return Region((interval(nodes[0], closed[0], nodes[2], closed[1]),), spelt[1])
        if len(parts) == 2:
            if names[0] and not variables(nodes[1]):
                return Region((interval(neg(INFINITY), False, nodes[1], closed[0]),), spelt[0])
            if names[1] and not variables(nodes[0]):
                return Region((interval(nodes[0], closed[0], INFINITY, False),), spelt[1])
            inequality = Inequality(nodes[0], nodes[1], closed[0])
            return solved(inequality, self.budget) or inequality
        pairs = zip(nodes, nodes[1:], closed, strict=False)
        return Listing(tuple(Inequality(a, b, c) for a, b, c in pairs))

    def name(self, tokens: Tokens) -> tuple[str, tuple[str, ...]]:
        """The name and parameters on the left of `=`: a symbol, `f(x)`, a tuple of symbols, or
        words; else ''.
        """
        tokens = strip(tokens)
        if takes_back(tokens):
            raise NotMathError("a label that takes the value back")
        if (
            tokens
            and tokens[0].kind is Kind.SYM
            and [t.text for t in tokens[1:6]] == ["^", "G", "-", "1", "G"]
        ):
            name, parameters = self.name([tokens[0], *tokens[6:]])  # f^{-1}(x)
            return (f"{name}^-1", parameters) if parameters else ("", ())
        if len(tokens) > 1 and tokens[0].text in ("angle", "triangle"):
            tokens = tokens[1:]
        text = plain_text(tokens)
        in_words = (
            bool(tokens) and all(token.kind is Kind.WORD for token in tokens) and len(text) > 1
        )
        in_runs = (
            bool(tokens)
            and all(token.kind is Kind.RUN for token in tokens)
            and len(tokens[0].text) > 3
        )
        if in_words or in_runs or any(token.is_op(":") for token in tokens):
            return text, ()
        if is_enclosed(tokens) and tokens[0].text == "(":
            inner = tokens[1:-1]
            if inner and all(
                token.kind is Kind.SYM
                or token.text in (",", "_")
                or (token.kind is Kind.NUM and before.text == "_")
                for token, before in zip(inner, [inner[-1], *inner], strict=False)
            ):
                return "(" + "".join(token.text for token in inner) + ")", ()
        try:
            node, _ = parse_expression(tokens, self.limits)
        except NotMathError:
            return "", ()
        kinds = [arg.op for arg in node.args]
        if node.op is Op.SYM and node.value not in ("pi", "i", "oo"):
            return str(node.value), ()
        if node.op is Op.APPLY and set(kinds) == {Op.SYM}:
            return str(node.value), tuple(str(arg.value) for arg in node.args)
        if node.op in (Op.APPLY, Op.MUL) and tokens[-1].text == ")":
            is_event = node.op is Op.MUL and tokens[-2].text.isupper()  # P(A): A is no parameter
            if not is_event and node.op is Op.MUL and kinds == [Op.SYM, Op.SYM]:
                return str(node.args[0].value), (str(node.args[1].value),)  # h(x), N(n)
            if is_event or all(_is_name_part(arg) for arg in node.args):
                return text, ()  # f(2), f(f(2)), S_1(101)
        return "", ()

    # --- brackets

    def bracketed(self, tokens: Tokens) -> Answer:
        first = tokens[0]
        if first.is_op("pm", "-") and is_tuple(tokens[1:]):
            point = self.bracketed(tokens[1:])
            if not isinstance(point, Tuple) or not all(
                isinstance(item, Scalar) for item in point.items
            ):
                raise NotMathError("the opposite of no number")
            items = [
                Scalar(neg(item.node), item.unit)
                for item in point.items
                if isinstance(item, Scalar)
            ]
            opposite = point._replace(items=tuple(items))
            return opposite if first.text == "-" else Listing((point, opposite))
        if (length := phrases.point_name(tokens)) and is_tuple(tokens[length:]):
            return Assign(
                plain_text(tokens[:length]), (), self.bracketed(tokens[length:])
            )  # A(1, 2)
        if transposed := phrases.without_transpose(tokens):
            row = self.bracketed(transposed)
            return Matrix(tuple(zip(*row.rows, strict=True))) if isinstance(row, Matrix) else row
        if first.text == "begin" and closing(tokens, 0) == len(tokens) - 2:
            return self.environment(tokens)
        if is_enclosed(tokens) and first.text in "([{<":
            inner, closer = tokens[1:-1], tokens[-1].text
            if first.text == "{":
                return self.braces(inner)
            if cuts := top_ops(inner, ",", ";"):
                return self.tuple_of(first.text, split_at(inner, cuts), closer)
            if inner and inner[0].text == "begin" and inner[-2].text == "end":
                return self.environment(inner)
            level = [inner[i] for i in top_level(inner)]
            is_answer = any(
                t.text in ("cup", "cap", "setminus", "=") or t.kind in LETTERS for t in level
            )
            if is_answer or is_tuple(inner):
                return self.answer(inner)
        return self.ratio(tokens)

    def tuple_of(self, opener: str, parts: list[Tokens], closer: str) -> Answer:
        """The tuple; `(\\pm 1, 0)` as the two that it stands for. With more signs it is not said
        which go together.
        """
        if not all(parts) or len(parts) > _MAX_ITEMS or closer in ("}", "G"):
            raise NotMathError("an empty place in a tuple, or brackets")
        items = [self.answer(part) for part in parts]
        for item, part in zip(items, parts, strict=True):
            if isinstance(item, Words) and not _is_plain_words(part):
                raise NotMathError("words in a tuple")
        opener, closer = "(" if opener == "<" else opener, ")" if closer == ">" else closer
        found = [k for k, part in enumerate(parts) if any(t.is_op("pm", "mp") for t in part)]
        both = items[found[0]] if len(found) == 1 else None
        if not isinstance(both, Listing) or both.kind is not Several.LIST:
            return Tuple(opener, tuple(items), closer)
        before, after = items[: found[0]], items[found[0] + 1 :]
        return Listing(
            tuple(Tuple(opener, (*before, value, *after), closer) for value in both.items)
        )

    def braces(self, inner: Tokens) -> Answer:
        r"""A set: its elements, or `{x | condition}`. `{x | x > 2}` is a region; `{2k | k \in Z}` is
        known by its term and its condition.
        """
        if not inner:
            return Listing((), Several.SET)
        bar = next((i for i in top_level(inner) if inner[i].text in ("mid", "|", ":")), None)
        if bar and any(token.text in RELATIONS for token in inner[bar:]):
            head, condition = inner[:bar], inner[bar + 1 :]
            domain = domain_of(head)
            is_name = domain or len(head) < 3
            name = head[:1] if len(head) > 1 and head[1].text == "in" and is_name else head
            if len(name) == 1 and name[0].kind is Kind.SYM:
                region = as_region(self.answer(condition))
                if region is not None and region.variable in ("", name[0].text):
                    return self.within(region._replace(variable=""), domain or region.domain)
            return Tuple("{|", (self.answer(head), self.or_words(condition)), "}")
        answer = self.answer(inner)
        if isinstance(answer, Assign) and isinstance(answer.value, Listing):
            return answer._replace(value=answer.value._replace(kind=Several.SET))
        if isinstance(answer, Listing) and answer.kind is not Several.SET:
            return answer._replace(kind=Several.SET)
        if isinstance(answer, Words):
            raise NotMathError("words in a set")
        return Listing((answer,), Several.SET)

    # --- leaves: numbers with units, ratios, numbers in a base, matrices and systems

    def scalar(self, tokens: Tokens) -> Scalar:
        """One value with its unit."""
        tokens, unit, factor = split_unit(strip(tokens))
        node, degrees = parse_expression(tokens, self.limits)
        if degrees and unit is None:
            unit = Unit((("degree", 1),))
        return Scalar(node if factor == 1 else mul(node, num(factor)), unit)

    def end(self, tokens: Tokens) -> Node:
        """One end of an interval or relation: a value without its unit."""
        return self.scalar(tokens).node

    def ratio(self, tokens: Tokens) -> Answer:
        """Parts of a ratio, such as `2:3` or `2 to 3`, a time of day, or one value."""
        level, last = top_level(tokens), len(tokens) - 1
        cuts = [
            i for i in level if tokens[i].is_op(":") or (tokens[i].text == "to" and 0 < i < last)
        ]
        front, half = tokens, ""
        if cuts or tokens[0].kind is Kind.NUM:
            front, half = phrases.half_of_day(tokens)
        if cuts:
            label = tokens[: cuts[0]]
            if tokens[cuts[0]].text == ":" and all(token.kind in LETTERS for token in label):
                if takes_back(label):
                    raise NotMathError("a label that takes the value back")
                return Assign(
                    plain_text(label) + ":", (), self.answer(tokens[cuts[0] + 1 :])
                )  # Total: 42
            return Ratio(tuple(self.end(part) for part in split_at(front, cuts)), half)
        if half and len(front) == 1 and front[0].value in range(1, 13):  # 6 PM
            return Ratio((num(front[0].value or 0), ZERO), half)
        return self.based(tokens) or self.matrices(tokens) or self.value(tokens)

    def value(self, tokens: Tokens) -> Answer:
        """A scalar, two or more of them with a plus-minus sign, a class of residues, or a named
        set.
        """
        residues, modulus = phrases.split_modulus(tokens, bare=False)
        if modulus:  # `3 (mod 7)`
            return Congruence("", (self.answer(residues),), self.end(modulus))
        if len(tokens) == 1 and tokens[0].text == "emptyset":
            return Listing((), Several.SET)
        if tokens[0].text == "RR" and (name := phrases.number_set(tokens)) in _REALS:
            return _REALS[name]
        if texts(tokens) == ["ZZ", "^", "+"]:
            return self.within(SIGNED["positive"], "ZZ")
        scalar = self.scalar(tokens)
        both = signs(scalar.node)
        return (
            scalar
            if len(both) == 1
            else Listing(tuple(scalar._replace(node=node) for node in both))
        )

    def based(self, tokens: Tokens) -> Answer | None:
        """`52_8`, `(52)_8`, `1A_{16}`."""
        cut = next((i for i in range(1, len(tokens)) if tokens[i].text == "_"), None)
        if cut is None:
            return None
        sign = -1 if tokens[0].text == "-" else 1
        digits, base = (
            "".join(text for text in texts(part) if text not in ("(", ")"))
            for part in (tokens[sign < 0 : cut], tokens[cut + 1 :])
        )
        base = str(known.NUMBER_WORDS.get(base.lower(), base))
        is_number = re.fullmatch(r"[0-9][0-9A-Z]*|[A-F][0-9A-F]+", digits)
        if not is_number or not re.fullmatch(r"[0-9]{1,2}", base):
            return None
        if base == "10":
            return Scalar(num(sign * int(digits))) if digits.isdigit() else None
        try:
            return Based(sign * int(digits, int(base)), int(base))
        except ValueError:  # a digit that the base does not have
            raise NotMathError("digit") from None

    def matrices(self, tokens: Tokens) -> Answer | None:
        """A multiple of a matrix, or a sum of such: a line is a point and multiples of a
        direction.
        """
        if not any(token.kind is Kind.CMD and token.text == "begin" for token in tokens):
            return None
        total: Matrix | None = None
        cuts = top_ops(tokens, "+", "-")
        for cut, part in zip([-1, *cuts], split_at(tokens, cuts), strict=True):
            if not part and cut < 0:
                continue  # a sign comes first
            begin = next((i for i, t in enumerate(part) if t.text == "begin"), len(part))
            matrix = self.environment(part[begin:])
            if not isinstance(matrix, Matrix):
                raise NotMathError("matrix")
            front = part[: begin - (begin > 0 and part[begin - 1].text == "*")]
            scale = self.end(front) if front else num(1)
            if cut >= 0 and tokens[cut].text == "-":
                scale = neg(scale)
            rows = [
                [entry if scale == num(1) else mul(scale, entry) for entry in row]
                for row in matrix.rows
            ]
            if total is not None:
                if [len(row) for row in rows] != [len(row) for row in total.rows]:
                    raise NotMathError("matrices of two shapes")
                rows = [
                    [add(*pair) for pair in zip(*pair_of_rows, strict=True)]
                    for pair_of_rows in zip(total.rows, rows, strict=True)
                ]
            total = Matrix(tuple(tuple(row) for row in rows))
        return total

    def environment(self, tokens: Tokens) -> Answer:
        """What stands between `\\begin` and `\\end`: a matrix or cases."""
        if not tokens or closing(tokens, 0) != len(tokens) - 2:
            raise NotMathError("environment")
        kind, inner = tokens[1].text, tokens[2:-2]
        level = [inner[i].text for i in top_level(inner)]
        lines = [line for line in split_at(inner, top_ops(inner, "row")) if line]
        if kind in ("cases", "rcases") and (pieces := self.cases(lines)):
            return Listing(tuple(pieces), Several.SET)
        is_column = "&" not in level and (
            "row" not in level or any(text in RELATIONS for text in level)
        )
        if kind in _ROWS_ONLY or (kind == "array" and is_column):
            return self.answer([token for token in inner if token.text != "&"])
        if kind not in _MATRICES:
            raise NotMathError(kind)
        rows = tuple(
            tuple(self.end(cell) for cell in split_at(line, top_ops(line, "&"))) for line in lines
        )
        if not rows or len(rows) * len(rows[0]) > _MAX_ITEMS or len({len(row) for row in rows}) > 1:
            raise NotMathError("rows")
        return Matrix(rows)

    def cases(self, lines: list[Tokens]) -> list[Answer]:
        """The (value, condition) pairs of a function by cases; nothing for a system of equations,
        aligned or not.
        """
        pairs: list[Answer] = []
        for line in lines:
            cuts = top_ops(line, "&") or top_ops(line, ",")
            cells = split_at(line, cuts[:1])
            if len(cells) != 2 or not all(cells) or cells[1][0].text in RELATIONS:
                return []
            condition = [
                Token(Kind.WORD, "otherwise") if token.text == "else" else token
                for token in strip(cells[1])
                if token.kind is not Kind.WORD or token.text not in _WHEN
            ]
            if any(token.text in RELATIONS for token in cells[0]) or not condition:
                return []
            pairs.append(Tuple("(", (self.answer(cells[0]), self.or_words(condition)), ")"))
        return pairs


def _total(items: list[Answer]) -> Scalar | None:
    """`12 dollars and 50 cents`, `5 feet 6 inches` as one quantity in the first unit."""
    measures = [i for i in items if isinstance(i, Scalar) and i.unit and i.node.number is not None]
    sizes, units = (
        zip(*(normal_unit(i.unit or Unit()) for i in measures), strict=True)
        if measures
        else ((), ())
    )
    is_sum = (
        len(measures) == len(items) and len({*units}) == 1 and [*sizes] == sorted({*sizes})[::-1]
    )
    if not is_sum:
        return None
    parts = (mul(num(size / sizes[0]), i.node) for size, i in zip(sizes, measures, strict=True))
    return Scalar(add(*parts), measures[0].unit)


def _is_plain_words(tokens: Tokens) -> bool:
    return all(t.kind in LETTERS or (t.kind is Kind.SYM and len(t.text) == 1) for t in tokens)


def _is_name_part(node: Node) -> bool:
    if node.op is Op.APPLY:
        return all(_is_name_part(arg) for arg in node.args)
    return node.op in (Op.NUM, Op.SYM)


def _flat(items: list[Answer]) -> tuple[Answer, ...]:
    """Plus-minus pairs become items of the list around them."""
    flat: list[Answer] = []
    for item in items:
        is_list = isinstance(item, Listing) and item.kind is Several.LIST
        flat.extend(item.items if is_list else [item])  # type: ignore[union-attr]
    return tuple(flat)
