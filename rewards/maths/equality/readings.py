"""Second readings: what else a text may mean, tried where the first reading did not agree.

Each has a name and its cases, so that `python -m benchmarks.grading --ablate` can leave it out and
say what it earns. None of them changes a pair that the first reading found equal.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Based,
    Congruence,
    Equation,
    Inequality,
    Listing,
    Matrix,
    Region,
    Scalar,
    Tuple,
    Words,
)
from rewards.maths.answer.phrases import (
    RELATIONS,
    domain_of,
    split_modulus,
    takes_back,
    without_condition,
)
from rewards.maths.answer.reader import read, read_tokens
from rewards.maths.answer.units import bare_quantity
from rewards.maths.expression.identity import same_value
from rewards.maths.expression.node import (
    MINUS_ONE,
    ONE,
    ZERO,
    Node,
    Op,
    add,
    div,
    minus,
    mul,
    num,
    substitute,
    sym,
    variables,
    walk,
)
from rewards.maths.expression.parser import parsed
from rewards.maths.limits import Budget, NotMathError
from rewards.maths.text.notation import ambiguous_commas
from rewards.maths.text.tokens import (
    LETTERS,
    Kind,
    Token,
    Tokens,
    is_tuple,
    split_at,
    strip,
    top_level,
)
from rewards.maths.text.vocabulary import LABEL_COMMANDS


class Side(NamedTuple):
    """One side of a comparison: its text, tokens and first reading."""

    text: str
    tokens: Tokens
    answer: Answer
    is_gold: bool


Reading = Callable[[Side, Side, Budget], Iterator[tuple[Answer, Answer]]]
ONE_SIDED: dict[str, Reading] = {}  # what the first side may mean beside the second; run both ways
TWO_SIDED: dict[str, Reading] = {}
left_out: set[str] = set()  # names that an ablation switches off


def _of_one_side(function: Reading) -> Reading:
    ONE_SIDED[function.__name__.strip("_")] = function
    return function


def _of_both(function: Reading) -> Reading:
    TWO_SIDED[function.__name__.strip("_")] = function
    return function


def second_readings(answer: Side, gold: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """All pairs of answers that the texts may mean besides their first reading."""
    for name, reading in ONE_SIDED.items():
        if name not in left_out:
            yield from reading(answer, gold, budget)
            yield from ((left, right) for right, left in reading(gold, answer, budget))
    for name, reading in TWO_SIDED.items():
        if name not in left_out:
            yield from reading(answer, gold, budget)


def _value(answer: Answer) -> Answer:
    return answer.value if isinstance(answer, Assign) else answer


def _named_apart(answer: Answer, gold: Answer) -> bool:
    """Do both sides give a value, but to different names?"""
    both = isinstance(answer, Assign) and isinstance(gold, Assign)
    return both and answer.name != gold.name  # type: ignore[union-attr]


# --- answers that name what they answer


@_of_one_side
def _after_words(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`The area of ABC is 5` and `point (1, 2)` without the words, unless these take the value
    back.
    """
    tokens = side.tokens
    if not isinstance(side.answer, Words):
        return
    verbs = ("is", "are", "equals", "was")
    verb = next((i for i, token in enumerate(tokens) if token.word in verbs), None)
    if verb is None:
        start = next((i for i, token in enumerate(tokens) if token.kind is not Kind.WORD), 0)
        lead, rest = tokens[:start], tokens[start:] if is_tuple(tokens[start:]) else []
    else:
        lead, rest = tokens[:verb], tokens[verb + 1 :]
    prose = (*LETTERS, Kind.SYM)
    is_prose = all(t.kind in prose or t.text in (",", "triangle", "angle") for t in lead)
    named = any(token.kind in LETTERS for token in lead)
    if rest and named and is_prose and not takes_back(lead):
        value = read_tokens(rest, budget.limits)
        if not isinstance(value, Words):
            yield value, other.answer


@_of_one_side
def _stated_values(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""The value at the end of `label = ... = value`, or the number before `= label`:
    `P(X > 4) = 1/3`, `A = \pi r^2 = 4\pi`, `5 = m + n`. The reader knows plain names; here a label
    may be any notation. A gold that is an equation is the answer itself.
    """
    is_asked = side.is_gold and isinstance(side.answer, Equation)
    if is_asked or isinstance(other.answer, Assign | Equation | Inequality | Words):
        return
    tokens = side.tokens
    try:
        level = [i for i in top_level(tokens)]
    except NotMathError:
        return
    cuts = [i for i in level if tokens[i].is_op(*RELATIONS)]
    separators = (",", ";", "row", "and", "or", "land", "lor", "?")
    if {tokens[i].text for i in cuts} != {"="} or any(tokens[i].text in separators for i in level):
        return
    parts = [strip(part) for part in split_at(tokens, cuts)]
    if not all(parts):
        return
    orders = [parts]
    first = parsed(parts[0], budget.limits) if len(parts) == 2 else None
    if first is not None and not _varies(first):
        orders.append(parts[::-1])  # 5 = m + n
    for sides in orders:
        value = read_tokens(sides[-1], budget.limits)
        if all(_leads_to(part, value, budget, is_first=part is sides[0]) for part in sides[:-1]):
            yield value, other.answer


def _leads_to(part: Tokens, value: Answer, budget: Budget, *, is_first: bool) -> bool:
    """Is a side of `... = value` a label for the value, or equal to it?"""
    node = parsed(part, budget.limits)
    names = _names(value)
    if isinstance(value, Based):
        whole = read_tokens(part, budget.limits)
        number = whole.node.number if isinstance(whole, Scalar) else None
        return (whole.value if isinstance(whole, Based) else number) == value.value
    if len(part) == 1 and part[0].kind is Kind.SYM and part[0].text not in {"pi"} | names:
        return True
    if node is not None and isinstance(value, Scalar):
        if same_value(node, value.node, budget):
            return True
        if is_first and _is_unsolved(node):
            return False
    # Notation for what was asked, and not a number with something beside it, which would be another
    # answer.
    unknown = any(t.kind is Kind.CMD and t.text not in LABEL_COMMANDS for t in part)
    if takes_back(part) or unknown:
        return False
    if node == ZERO and isinstance(value, Matrix):
        return all(entry == ZERO for row in value.rows for entry in row)
    if node is None:
        shown = (Kind.SYM, Kind.FUNC, Kind.RUN, Kind.WORD, Kind.CMD)
        is_notation = part[0].kind is not Kind.NUM and any(t.kind in shown for t in part)
        return is_notation and not (names and is_tuple(part))
    if not names:
        return _varies(node)
    # Each side of `\sin x = \cos x` could be the answer: beside variables a label must look like a
    # quantity of its own, a name or made of capitals, as segments and areas are.
    capitals = all(name[0].isupper() for name in variables(node))
    is_quantity = node.op in (Op.SYM, Op.APPLY, Op.SUM, Op.PROD) or capitals
    return _varies(node) and not names & variables(node) and is_quantity


def _names(value: Answer) -> frozenset[str]:
    if isinstance(value, Tuple | Listing):
        return frozenset().union(*(_names(item) for item in value.items))
    return variables(value.node) if isinstance(value, Scalar) else frozenset()


def _varies(node: Node) -> bool:
    return bool(variables(node)) or any(part.op is Op.APPLY for part in walk(node))


def _is_unsolved(left: Node) -> bool:
    """`2x = 10` is still an equation: a polynomial in one variable."""
    polynomial = all(
        part.op in (Op.ADD, Op.MUL, Op.NUM, Op.SYM)
        or (part.op is Op.DIV and not variables(part.args[1]))
        or (part.op is Op.POW and part.args[1].op is Op.NUM and part.args[1] != MINUS_ONE)
        for part in walk(left)
    )
    return len(variables(left)) == 1 and left.op is not Op.SYM and polynomial


@_of_one_side
def _results(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""5 of a gold `m + n = 5`, `AB = 5`, `\tan A = 5`, which gives a quantity its value. A gold
    `x + y = 5` is a line, `\gcd(m, n) = 1` a condition, and `2x = 5` not solved yet.
    """
    if not side.is_gold or not isinstance(side.answer, Equation):
        return
    if not isinstance(other.answer, Scalar) or variables(other.answer.node):
        return
    left, right, unit = side.answer
    asked, value = (left, right) if variables(left) else (right, left)
    if variables(value):
        return

    def is_thing(node: Node) -> bool:
        """A letter, or a segment or angle by the capital letters of its points."""
        parts = [*walk(node)]
        letters = [str(part.value) for part in parts if part.op is Op.SYM and part.value != "angle"]
        is_product = all(part.op in (Op.SYM, Op.MUL) for part in parts)
        return is_product and (len(letters) == 1 or all(letter.isupper() for letter in letters))

    is_call = asked.op is Op.CALL
    if asked.op is Op.ADD:
        coordinates = ("x", "y", "z", "r", "theta")
        gives = all(part.op is Op.SYM and part.value not in coordinates for part in asked.args)
    elif is_call:
        of_one = asked.value in ("sin", "cos", "tan", "cot", "sec", "csc", "abs")
        gives = of_one and is_thing(asked.args[0])
    else:
        gives = asked.op is Op.MUL and is_thing(asked)
    if gives and (is_call or len(variables(asked)) > 1):
        yield Scalar(value, unit), other.answer


@_of_one_side
def _functions_alone(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`f(x) = 1/x, x > 0` as the function, which the question may have put on that domain."""
    match side.answer:
        case Listing((Assign() as function, Region() as domain)) if isinstance(
            other.answer, Assign
        ):
            if domain.variable in function.parameters:
                yield function, other.answer


_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_KIND_OF = re.compile(r"(.+) (?:function|triangle|angle|number|integer|quadrilateral|polygon)")


@_of_one_side
def _longer_words(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`odd function` as odd, `Wed` as Wednesday."""
    match side.answer, other.answer:
        case Words(text), Words(word):
            is_day = word in _DAYS and 2 < len(text) < 6 and word.startswith(text)
            if is_day or ((kind := _KIND_OF.fullmatch(text)) and kind[1] == word):
                yield other.answer, other.answer


@_of_both
def _equated_names(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`MR = SRMC` as `SRMC = MR`: names of several letters on both sides."""
    pairs = []
    for tokens in (side.tokens, other.tokens):
        names = [token.text for token in tokens if token.kind in LETTERS and len(token.text) > 1]
        if len(tokens) != 3 or not tokens[1].is_op("=") or len(names) != 2:
            return
        pairs.append(Words(" = ".join(sorted(names))))
    yield pairs[0], pairs[1]


@_of_one_side
def _identity_matrices(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`6I` as a matrix with 6 on its diagonal, beside a square matrix."""
    match side.answer, other.answer:
        case Scalar(node, None), Matrix(rows) if len(rows) == len(rows[0]) > 1:
            factor = substitute(node, {"I": ONE})
            if "I" in variables(node) and same_value(node, mul(factor, sym("I")), budget):
                size = range(len(rows))
                entries = tuple(tuple(factor if i == j else ZERO for j in size) for i in size)
                yield Matrix(entries), other.answer


# --- numbers and quantities


@_of_one_side
def _comma_lists(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`1,234` as two numbers, beside a list."""
    if isinstance(other.answer, Listing) and ambiguous_commas(side.text):
        yield read(side.text, budget.limits, comma_lists=True)[0], other.answer


_COMMA = re.compile(r"(?<![\d,])(\d+)\{,\}(\d+)(?!\d|\{,\})", re.ASCII)


@_of_one_side
def _decimal_commas(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`2{,}125` as 2.125, where it is not 2125."""
    if _COMMA.search(side.text):
        yield read(_COMMA.sub(r"\1.\2", side.text), budget.limits)[0], other.answer


@_of_one_side
def _least_residues(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`2^{10} \equiv 4 \pmod 5` as the remainder 4; a gold is the class."""
    match side.answer:
        case Congruence(name, (Scalar(residue) as least,), modulus) if not side.is_gold:
            number, size = residue.number, modulus.number
            is_least = number is not None and size is not None and 0 <= number < size
            if is_least and isinstance(other.answer, Scalar) and not re.search("[a-z]", name):
                yield least, other.answer


@_of_one_side
def _residue_classes(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`3 \bmod 7` and `x = 7k + 3` for an integer k, beside a class of residues modulo 7."""
    if not isinstance(other.answer, Congruence):
        return
    modulus = other.answer.modulus
    residue, written = split_modulus(side.tokens, bare=True)
    if written:
        yield (
            read_tokens([*residue, Token(Kind.CMD, "pmod"), *written], budget.limits),
            other.answer,
        )
    value = _value(read_tokens(without_condition(side.tokens), budget.limits))
    if not isinstance(value, Scalar) or modulus.number is None or len(variables(value.node)) != 1:
        return
    [letter] = variables(value.node)
    least = substitute(value.node, {letter: ZERO})
    is_class = same_value(value.node, add(least, mul(modulus, sym(letter))), budget)
    if is_class and letter in "klmnNt" and other.answer.name != letter:
        yield Congruence("", (Scalar(least),), modulus), other.answer


@_of_both
def _bare_units(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`5 N`, `9.8 m/s^2`: letters after a number as its unit. 5 kN is not 5; electronvolts are usual
    in all sizes.
    """
    ours, theirs = (bare_quantity(s.tokens, budget.limits) for s in (side, other))
    if ours and theirs:
        yield ours, theirs
    for quantity, answer, turned in ((ours, other.answer, False), (theirs, side.answer, True)):
        value = _value(answer)
        if quantity is None or quantity.unit is None or (ours and theirs):
            continue
        names = [name for name, _ in quantity.unit.known]
        is_scaled = any("-" in name and not name.endswith("electronvolt") for name in names)
        if (
            isinstance(value, Scalar)
            and not variables(value.node)
            and (value.unit or not is_scaled)
        ):
            yield (value, quantity) if turned else (quantity, value)


@_of_both
def _products_of_letters(
    side: Side, other: Side, budget: Budget
) -> Iterator[tuple[Answer, Answer]]:
    r"""`\frac12 mg` as half of m g, which is also read as a measure in milligrams."""
    units = [s.answer.unit for s in (side, other) if isinstance(s.answer, Scalar) and s.answer.unit]
    kinds = {token.kind for s in (side, other) for token in s.tokens}
    counts = len(units) == 2 and (units[0].nouns or units[1].nouns)
    if counts or Kind.WORD in kinds or Kind.RUN not in kinds:
        return
    ours, theirs = (parsed(s.tokens, budget.limits) for s in (side, other))
    if ours and theirs and variables(ours) and variables(ours) == variables(theirs):
        yield Scalar(ours), Scalar(theirs)


_BASIS = ("i", "j", "k")
_HATS = {f"hat({letter})": sym(letter) for letter in _BASIS}


@_of_one_side
def _unit_vectors(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`2\mathbf{i} - 3\mathbf{j}` as (2, -3), a column, or the same without hats. The other side
    tells that i is no number.
    """
    if not isinstance(side.answer, Scalar):
        return
    node = substitute(side.answer.node, _HATS)
    match other.answer:
        case Scalar():
            if node != side.answer.node:
                yield Scalar(node), other.answer
            return
        case Tuple(_, items):
            size = len(items)
        case Matrix(rows):
            size = len(rows)
        case _:
            return
    names = {str(part.value) for part in walk(node) if part.op is Op.SYM} & {*_BASIS}
    if not names or not names <= {*_BASIS[:size]}:
        return

    def at(point: dict[str, Node]) -> Node:
        return substitute(node, dict.fromkeys(_BASIS, ZERO) | point)

    found = [at({name: ONE}) for name in _BASIS[:size]]
    somewhere = {"i": num(2), "j": num(3), "k": num(5)}
    combined = add(*map(mul, somewhere.values(), found))
    if same_value(at({}), ZERO, budget) and same_value(at(somewhere), combined, budget):
        yield Tuple("(", tuple(map(Scalar, found)), ")"), other.answer


# --- names that the writer chose

_CONSTANT = re.compile(r"[ABCDKck](?:_\d)?")
_SURE_CONSTANT = re.compile(r"[Cc](?:_\d)?")


@_of_both
def _other_constants(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """`Ae^x + Be^{-x}` for `C_1e^x + C_2e^{-x}`: an arbitrary constant may have any name."""
    ours, theirs = _value(side.answer), _value(other.answer)
    if not isinstance(ours, Scalar) or not isinstance(theirs, Scalar):
        return
    if _named_apart(side.answer, other.answer):
        return
    sets = variables(ours.node), variables(theirs.node)
    common = sets[0] & sets[1]
    extra = sorted(name for name in common if _CONSTANT.fullmatch(name))
    free, gold_free = ([*sorted(names - common), *extra] for names in sets)
    if not common - {*extra} or not 0 < len(free) == len(gold_free) <= 3:
        return
    sure = (all(map(_SURE_CONSTANT.fullmatch, names)) for names in (free, gold_free))
    if all(map(_CONSTANT.fullmatch, (*free, *gold_free))) and any(sure):
        for order in itertools.permutations(gold_free):
            renamed = dict(zip(free, map(sym, order), strict=True))
            yield Scalar(substitute(ours.node, renamed), ours.unit), theirs


@_of_one_side
def _other_parameters(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`2n\pi, n \in \mathbb{Z}` with k in the place of n, where the gold has k."""
    ours, theirs = (
        {
            tokens[i - 1].text
            for i in range(1, len(tokens))
            if tokens[i].text == "in" and domain_of(tokens[i - 1 : i + 2])
        }
        for tokens in (side.tokens, other.tokens)
    )
    if side.is_gold or len(ours) != 1 or len(theirs) != 1 or ours == theirs:
        return
    [name], [new] = ours, theirs
    if new not in {token.text for token in side.tokens}:
        renamed = [t._replace(text=new) if t.text == name else t for t in side.tokens]
        yield read_tokens(renamed, budget.limits), other.answer


@_of_both
def _bound_letters(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    """An end such as `for some integer k`, where the other side says nothing of k."""
    ours, theirs = without_condition(side.tokens), without_condition(other.tokens)
    shortened = len(ours) < len(side.tokens), len(theirs) < len(other.tokens)
    if shortened[0] == shortened[1] or any(
        t.text == "in" for t in (theirs if shortened[0] else ours)
    ):
        return
    answer = read_tokens(ours, budget.limits) if shortened[0] else side.answer
    gold = read_tokens(theirs, budget.limits) if shortened[1] else other.answer
    yield answer, gold
    left, right = _value(answer), _value(gold)
    if isinstance(left, Scalar) and isinstance(right, Scalar) and not _named_apart(answer, gold):
        names, others = variables(left.node), variables(right.node)
        free, gold_free = names - others, others - names
        if len(free) == len(gold_free) == 1 and free | gold_free <= {*"klmnNt"}:
            yield Scalar(substitute(left.node, {min(free): sym(min(gold_free))}), left.unit), right


_LEIBNIZ = re.compile(r"[d∂](?:\^(\d))?\\?([A-Za-z]|(?<=\\)[a-z]+)/[d∂][A-Za-z](?:\^\d)?")
_RATE = re.compile(r"[d∂](?:\^\d)?\\?\w{1,20}/[d∂]\w(?:\^\d)?")
_DOTS = re.compile(r"(d?)dot\((\w+)\)")


@_of_both
def _derivatives(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`x'` for `\dot x` and `\frac{dx}{dt}`, unless both sides say by what they derive."""
    found: list[Tokens] = []
    for tokens in (side.tokens, other.tokens):
        primed: Tokens = []
        for token in tokens:
            leibniz = _LEIBNIZ.fullmatch(token.text) if token.kind is Kind.SYM else None
            dots = _DOTS.fullmatch(token.text) if token.kind is Kind.SYM else None
            order = int(leibniz[1] or 1) if leibniz else (1 + len(dots[1])) if dots else 0
            name = leibniz or dots
            primed.append(token._replace(text=name[2]) if name else token)
            primed += [Token(Kind.OP, "'")] * order
        found.append(primed)
    said = [any(_LEIBNIZ.fullmatch(t.text) for t in s.tokens) for s in (side, other)]
    if not all(said) and found != [side.tokens, other.tokens]:
        yield read_tokens(found[0], budget.limits), read_tokens(found[1], budget.limits)


@_of_both
def _rates_alone(side: Side, other: Side, budget: Budget) -> Iterator[tuple[Answer, Answer]]:
    r"""`LC \frac{d^2v}{dt^2} + v = u` as `\frac{d^2v}{dt^2} + \frac{v}{LC} = \frac{u}{LC}`: solved for a
    derivative that is linear in both.
    """
    found = []
    for answer in (side.answer, other.answer):
        match answer:
            case Equation(left, right, None):
                found.append(minus(left, right))
            case Assign(name, (), Scalar(node, None)) if name:
                found.append(minus(sym(name), node))
            case _:
                return
    common = sorted(variables(found[0]) & variables(found[1]), key=len, reverse=True)
    rate = next((name for name in common if _RATE.fullmatch(name)), None)
    if rate is None:
        return
    solved = []
    for node in found:
        rest, at_one, at_two = (substitute(node, {rate: num(k)}) for k in (0, 1, 2))
        factor = minus(at_one, rest)
        if not same_value(minus(at_two, at_one), factor, budget) or same_value(
            factor, ZERO, budget
        ):
            return
        solved.append(Scalar(div(rest, factor)))
    yield solved[0], solved[1]
