"""Tokens -> an answer: lists, tuples, sets, intervals, relations, units; the leaves go to the
expression parser.
"""

from __future__ import annotations

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Inequality,
    Listing,
    Matrix,
    Region,
    Scalar,
    Tuple,
    Words,
)
from rewards.maths.answer.leaves import MAX_ITEMS
from rewards.maths.answer.measures import with_commas
from rewards.maths.answer.phrases import (
    DOMAINS,
    LABELS,
    RELATIONS,
    choice_letter,
    described_set,
    domain_of,
    numbered_statements,
    point_name,
    split_modulus,
    with_comma,
    without_lead_in,
    without_quantifier,
    without_transpose,
)
from rewards.maths.answer.reals import (
    EVERYTHING,
    as_region,
    integers_in,
    intersection,
    interval,
    is_reversed,
    whole_ends,
    without,
)
from rewards.maths.answer.relations import ORDER, Relations
from rewards.maths.answer.units import NUMBER_WORDS
from rewards.maths.expression.node import neg, num, sym, variables
from rewards.maths.limits import LimitError, Limits, NotMathError
from rewards.maths.text.tokens import (
    Tokens,
    closing,
    is_tuple,
    plain_text,
    split_at,
    strip,
    top_level,
    usual_brackets,
)
from rewards.maths.text.vocabulary import PLAIN_WORDS as WORDS
from rewards.maths.text.tokens import Token, tokenize
from rewards.maths.text.notation import clean

_CONJUNCTIONS = {"and": "and", "or": "or", "land": "and", "lor": "or"}
_EMPTY = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "empty", "empty set"}
)
_ZERO, _INFINITY = num(0), sym("oo")
_SIGNED = {
    "": EVERYTHING,
    "positive": Region((interval(_ZERO, False, _INFINITY, False),)),
    "negative": Region((interval(neg(_INFINITY), False, _ZERO, False),)),
    "nonnegative": Region((interval(_ZERO, True, _INFINITY, False),)),
    "nonpositive": Region((interval(neg(_INFINITY), False, _ZERO, True),)),
    "nonzero": Region(
        (interval(neg(_INFINITY), False, _ZERO, False), interval(_ZERO, False, _INFINITY, False))
    ),
}
_GAPPY = frozenset({"ZZ", "NN", "QQ"})  # subsets of the reals that are no intervals
_ARTICLES = frozenset({"a", "an", "the"})


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
    """Is the text read as a set of numbers, as `all real numbers except 3` and `no
    solutions` are?
    """
    try:
        answer, _ = read(text, limits)
    except LimitError:
        return False
    return isinstance(answer, Region) or (isinstance(answer, Listing) and not answer.items)


class _Reader(Relations):
    """Reads one answer; methods and base classes go from the loosest binding to the tightest."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.depth = 0

    def answer(self, tokens: Tokens) -> Answer:
        tokens = strip(with_comma(without_quantifier(without_lead_in(strip(tokens)))))
        if not tokens:
            raise NotMathError("empty")
        self.depth += 1
        if self.depth > 12:
            raise NotMathError("too deep for an answer")
        try:
            return self.described(tokens) or self.words(tokens) or self.listing(tokens)
        finally:
            self.depth -= 1

    def words(self, tokens: Tokens) -> Answer | None:
        """An answer that is nothing but words, or a choice letter."""
        if letter := choice_letter(tokens):
            return Scalar(sym(letter))
        if any(
            token.kind not in ("word", "run", "sym") and token.text not in ("-", "'", ".")
            for token in tokens
        ):
            return None
        if (
            any(token.kind == "sym" for token in tokens)
            and tokens[0].text.lower() not in LABELS | _ARTICLES
        ):
            return None
        if len(tokens) == 1:
            return self.word(tokens[0])
        if _is_difference_of_products(tokens):
            return None
        if tokens[0].text.lower() in _ARTICLES:
            tokens = tokens[1:]
        if any(token.text.lower() in ("and", "or") for token in tokens) or len(tokens[0].text) == 1:
            return None
        text = plain_text(tokens).removeprefix("there are ").removeprefix("there is ")
        return Listing((), "set") if text in _EMPTY else Words(text)

    def word(self, token: Token) -> Answer | None:
        """One word: a number, infinity, a text; not `x` or `xy`, which are mathematics."""
        text = token.text.lower()
        if text in NUMBER_WORDS:
            return Scalar(num(NUMBER_WORDS[text]))
        if text == "infinity":
            return Scalar(sym("oo"))
        if text in WORDS:
            return Words(text)
        if len(text) == 1 or (token.kind == "run" and len(text) < 4) or text in ("and", "or"):
            return None
        return Listing((), "set") if text in _EMPTY else Words(plain_text([token]))

    def described(self, tokens: Tokens) -> Answer | None:
        """`all positive integers`, `all real numbers except 3`."""
        found = described_set(tokens)
        if found is None:
            return None
        sign, domain, left_out = found
        region = _SIGNED[sign]
        if left_out:
            region = without(region, self.answer(left_out), self.budget)
        return self.within(region, domain)

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
        if tokens[cuts[-1]].kind in ("word", "run") and cuts[-1] == len(tokens) - 1:
            raise NotMathError("a conjunction without an end")
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
        """`x > 2, x \\in \\mathbb{Z}`: not all real numbers, and a set of single ones where both
        ends are known.
        """
        if isinstance(answer, Assign) and isinstance(answer.value, Tuple) and domain in _GAPPY:
            answer = as_region(answer) or answer
        if not isinstance(answer, Region) or domain not in _GAPPY:
            return answer
        if domain == "QQ":
            return answer._replace(domain=domain)
        answer = whole_ends(answer)
        numbers = integers_in(answer)
        if numbers is None:
            return answer._replace(domain=domain)
        return Listing(
            tuple(Scalar(num(number)) for number in numbers if number >= 0 or domain == "ZZ"), "set"
        )

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
        """`x > 0 and x <= 2` is what they share, `x < 1 or x > 2` a union, and so is a bare comma
        list of what shares nothing.
        """
        union = Region(
            tuple(piece for region in regions for piece in region.pieces), regions[0].variable
        )
        if kind == "or":
            return union
        shared = regions[0]
        for region in regions[1:]:
            shared = intersection(shared, region, self.budget)
        return union if kind == "list" and not shared.pieces else shared

    def union(self, tokens: Tokens) -> Answer:
        level = top_level(tokens)
        if (
            [tokens[i].text for i in level[1:2]] == ["|"]
            and tokens[0].kind == "sym"
            and len(level) > 2
        ):
            return self.braces(tokens)  # {x | x > 1}, where the braces were not escaped
        cups = [i for i in level if tokens[i].kind == "op" and tokens[i].text == "cup"]
        if any(tokens[i].kind == "op" and tokens[i].text in RELATIONS for i in level):
            orders = [part for part in split_at(tokens, cups) if any(t.text in ORDER for t in part)]
            if not cups or len(orders) <= len(cups):
                return self.relation(tokens, level)  # `x < 1 cup x > 2` is a union of relations
        if operations := [i for i in level if self.is_set_operation(tokens, i)]:
            return self.sets(split_at(tokens, operations), [tokens[i].text for i in operations])
        return self.bracketed(tokens)

    def is_set_operation(self, tokens: Tokens, index: int) -> bool:
        """`\\cup`, `\\cap`, `\\setminus`, and the minus of `R - {1}`."""
        token = tokens[index]
        if token.kind == "op" and token.text == "-":
            return tokens[index - 1].text == "RR" and [
                after.text for after in tokens[index + 1 : index + 2]
            ] == ["{"]
        return token.kind == "op" and token.text in ("cup", "cap", "setminus")

    def sets(self, parts: list[Tokens], operations: list[str]) -> Answer:
        """Unions, intersections and differences, from left to right."""
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

    def bracketed(self, tokens: Tokens) -> Answer:
        first = tokens[0]
        if first.kind == "op" and first.text in ("pm", "-") and is_tuple(tokens[1:]):
            point = self.bracketed(tokens[1:])
            assert isinstance(point, Tuple)
            opposite = point._replace(items=tuple(_opposite(item) for item in point.items))
            return opposite if first.text == "-" else Listing((point, opposite))
        if (length := point_name(tokens)) and is_tuple(tokens[length:]):
            return Assign(
                plain_text(tokens[:length]), (), self.bracketed(tokens[length:])
            )  # A(1, 2)
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
            if is_tuple(inner) or any(
                inner[i].text in operations or inner[i].kind in ("word", "run") for i in level
            ):
                return self.answer(inner)
        return self.ratio(tokens)

    def tuple_of(self, opener: str, inner: Tokens, closer: str) -> Answer:
        cuts = [
            i for i in top_level(inner) if inner[i].kind == "op" and inner[i].text in (",", ";")
        ]
        parts = split_at(inner, cuts)
        if any(not part for part in parts) or len(parts) > MAX_ITEMS:
            raise NotMathError("an empty place in a tuple")
        if closer == "}" or closer == "G":
            raise NotMathError("brackets")
        items = [self.answer(part) for part in parts]
        if any(
            isinstance(item, Words) and not _is_plain_words(part)
            for item, part in zip(items, parts, strict=True)
        ):
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
            if region is not None and region.variable in ("", name[0].text):
                return self.within(region._replace(variable=""), domain or region.domain)
        return Tuple("{|", (self.answer(head), self.or_words(condition)), "}")


def _is_difference_of_products(tokens: Tokens) -> bool:
    """`ad - bc`, unlike `tic-tac` and `twenty-one`."""
    letters = [token for token in tokens if token.text != "-"]
    return len(letters) < len(tokens) and all(
        token.kind in ("run", "sym")
        and (
            len(token.text) < 3 or (len(token.text) == 3 and list(token.text) == sorted(token.text))
        )
        for token in letters
    )


def _each_sign(opener: str, items: list[Answer], closer: str, parts: list[Tokens]) -> Answer:
    r"""The tuple; `(\pm 1, 0)` as the two that it stands for. With more signs it is not said which
    go together.
    """
    found = [
        k
        for k, part in enumerate(parts)
        if any(t.kind == "op" and t.text in ("pm", "mp") for t in part)
    ]
    both = items[found[0]] if len(found) == 1 else None
    if not isinstance(both, Listing) or both.kind != "list":
        return Tuple(opener, tuple(items), closer)
    at = found[0]
    return Listing(
        tuple(Tuple(opener, (*items[:at], value, *items[at + 1 :]), closer) for value in both.items)
    )


def _opposite(answer: Answer) -> Answer:
    if not isinstance(answer, Scalar):
        raise NotMathError("the opposite of no number")
    return answer._replace(node=neg(answer.node))


def _transposed(answer: Answer) -> Answer:
    return Matrix(tuple(zip(*answer.rows, strict=True))) if isinstance(answer, Matrix) else answer


def is_point(listing: Listing) -> bool:
    """`x = 1, y = 2`: values of different names that hold together."""
    names = {
        item.name for item in listing.items if isinstance(item, Assign) and not item.parameters
    }
    return listing.kind != "or" and len(names) == len(listing.items) > 1


def _share_unequal(parts: list[Tokens]) -> list[Tokens]:
    """`x \\neq 2, 3` as `x \\neq 2, x \\neq 3`."""
    first = [token.text if token.kind == "op" else "" for token in parts[0]] if parts else []
    if "!=" not in first or any(token.text in RELATIONS for part in parts[1:] for token in part):
        return parts
    front = parts[0][: first.index("!=") + 1]
    return [parts[0], *([*front, *part] for part in parts[1:])]


def _is_plain_words(tokens: Tokens) -> bool:
    return all(
        token.kind in ("word", "run") or (token.kind == "sym" and len(token.text) == 1)
        for token in tokens
    )


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
            return Region(
                (interval(low.left, low.closed, high.right, high.closed),), str(middle.value)
            )
    return None


def _values_as_regions(items: list[Answer]) -> list[Answer]:
    """`x = 0 or x >= 1` as two regions of x."""
    names = {item.variable for item in items if isinstance(item, Region)}
    if len(names) != 1 or not all(
        isinstance(item, Region)
        or (isinstance(item, Assign) and item.name in names and not item.parameters)
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
        isinstance(item, Assign | Scalar | Listing) or (kind == "or" and isinstance(item, Tuple))
        for item in items
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
