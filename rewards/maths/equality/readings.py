"""Second readings: what else two texts may mean, tried where the first reading did not agree.

Each has a name, so that `python -m benchmarks.grading --ablate` can leave it out and say what it
earns. None of them changes a pair that the first reading found equal.
"""

from __future__ import annotations
from rewards.maths.text.tokens import Kind

import itertools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

from rewards.maths.answer.kinds import Answer, Assign, Congruence, Scalar
from rewards.maths.answer.phrases import takes_back
from rewards.maths.answer.reader import read, read_tokens
from rewards.maths.answer.units import Unit
from rewards.maths.expression.node import substitute, sym, variables
from rewards.maths.expression.parser import parse_expression
from rewards.maths.limits import Budget, NotMathError
from rewards.maths.text.tokens import Tokens
from rewards.maths.text.tokens import Token


class Pair(NamedTuple):
    """Both sides of a comparison: text, tokens and first reading of each."""

    answer_text: str
    gold_text: str
    answer_tokens: Tokens
    gold_tokens: Tokens
    answer: Answer
    gold: Answer
    budget: Budget


Readings = Iterator[tuple[Answer, Answer]]
ALL: dict[str, Callable[[Pair], Readings]] = {}
left_out: set[str] = set()  # names that an ablation switches off


def _reading(function: Callable[[Pair], Readings]) -> Callable[[Pair], Readings]:
    ALL[function.__name__.strip("_")] = function
    return function


def second_readings(pair: Pair) -> Readings:
    """All pairs of answers that the texts may mean besides their first reading."""
    for name, function in ALL.items():
        if name not in left_out:
            yield from function(pair)


# --- quantities in bare letters

_SI = dict(
    zip(
        ["N", "J", "W", "V", "A", "K", "T", "F", "C", "H", "Hz", "Pa", "eV", "ohm", "m", "s", "g", "L", "h", "mol", "cd", "lm", "lx", "Wb", "S", "Bq", "Gy", "kat"],
        ["newton", "joule", "watt", "volt", "ampere", "kelvin", "tesla", "farad", "coulomb", "henry", "hertz", "pascal", "electronvolt", "ohm", "meter", "second", "gram", "liter", "hour", "mole", "candela", "lumen", "lux", "weber", "siemens", "becquerel", "gray", "katal"],
        strict=True,
    )
) | {
    "min": "minute", "ly": "lightyear", "pc": "parsec", "AU": "astronomicalunit", "Ω": "ohm", "Omega": "ohm",
    "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "nm": "nanometer", "kg": "kilogram",
    "mg": "milligram", "ms": "millisecond", "kW": "kilowatt", "kJ": "kilojoule", "mL": "milliliter",
    "ml": "milliliter", "kcal": "kilocalorie", "cal": "calorie", "rad": "radian", "erg": "erg",
    "dyn": "dyne", "atm": "atmosphere", "bar": "bar", "Å": "angstrom", "yr": "year", "days": "day",
}  # fmt: skip
_PREFIXES = frozenset("kMGTmnpfPcd")
_NUMBER_SIGNS = frozenset("+-*/^.G")


def _unit_letters(letters: str) -> str:
    """The canonical name of a unit, `megaelectronvolt` of `MeV`; else ''."""
    if letters in _SI:
        return _SI[letters]
    if letters[:1] in _PREFIXES and letters[1:] in _SI and letters[1:] not in ("min", "ly"):
        return f"{letters[0]}-{_SI[letters[1:]]}"
    return ""


def _bare_quantity(tokens: Tokens, budget: Budget) -> Scalar | None:
    """`9.8 m/s^2` as a number and its unit: all before the first letter is a plain number."""
    start = next((i for i, t in enumerate(tokens) if t.kind in ("sym", "run", "word", "func")), 0)
    while start and tokens[start - 1].kind == "open" and tokens[start - 1].text in ("G", "("):
        start -= 1
    front, tail = tokens[:start], tokens[start:]
    if not front or not tail or not (tail[0].spaced or len(tail) > 2 or len(tail[0].text) > 1):
        return None
    if front[-1].text in ("*", "/", "^", "+", "-") or any(
        token.kind != "num"
        and token.text not in _NUMBER_SIGNS
        and token.text not in ("frac", "(", ")")
        for token in front
    ):
        return None
    powers = _unit_powers(tail)
    if not powers:
        return None
    try:
        node = parse_expression(front, budget.limits)[0]
    except NotMathError:
        return None
    return Scalar(node, Unit(tuple(sorted(powers.items()))))


def _unit_powers(tokens: Tokens) -> dict[str, int]:
    """Powers by canonical name of a product of units; empty where it is none."""
    powers: dict[str, int] = {}
    sign, below, index, name = 1, 0, 0, ""
    while index < len(tokens):
        token = tokens[index]
        index += 1
        if token.kind in ("sym", "run", "word", "func"):
            name = _unit_letters(token.text)
            if not name:
                return {}
            powers[name] = powers.get(name, 0) + sign
            if sign < 0 and not below:
                sign = 1
        elif token.text == "^":
            number = "".join(
                t.text for t in tokens[index : index + 5] if t.text in ("-", "+") or t.kind == "num"
            )
            match = re.match(r"[-+]?\d", number)
            if match is None or not name:
                return {}
            while index < len(tokens) and tokens[index].kind != "num":
                index += 1
            index += 1
            if index < len(tokens) and tokens[index].text == "G" and tokens[index].kind == "close":
                index += 1
            last = -1 if powers[name] < 0 else 1
            powers[name] += last * (int(match[0]) - 1)
        elif token.text == "/":
            sign = -1
            below = 1 if index < len(tokens) and tokens[index].text == "(" else 0
        elif token.text == ")":
            sign, below = 1, 0
        elif token.text not in ("*", ".", "G", "("):
            return {}
    return {name: power for name, power in powers.items() if power}


@_reading
def _bare_units(pair: Pair) -> Readings:
    """`5 N`, `9.8 m/s^2`: letters after a number as its unit."""
    ours = _bare_quantity(pair.answer_tokens, pair.budget)
    golds = _bare_quantity(pair.gold_tokens, pair.budget)
    if ours and golds:
        yield ours, golds
        return
    quantity = ours or golds
    other = _value(pair.gold if ours else pair.answer)
    if quantity is None or not isinstance(other, Scalar) or variables(other.node):
        return
    if other.unit is None and quantity.unit is not None and _is_scaled(quantity.unit):
        return  # 5 kN is not 5
    yield quantity, other


def _value(answer: Answer) -> Answer:
    return answer.value if isinstance(answer, Assign) else answer


def _is_scaled(unit: Unit) -> bool:
    """With a prefix that changes the number; electronvolts are usual in all sizes."""
    return any("-" in name and not name.endswith("electronvolt") for name, _ in unit.known)


@_reading
def _products_of_letters(pair: Pair) -> Readings:
    r"""`\frac12 mg` as half of m g, which is also read as a measure in milligrams."""
    units = [
        isinstance(side, Scalar) and side.unit is not None for side in (pair.answer, pair.gold)
    ]
    if all(units) and pair.answer.unit.nouns | pair.gold.unit.nouns:  # type: ignore[union-attr]
        return
    texts = (pair.answer_tokens, pair.gold_tokens)
    if any(token.kind == "word" for tokens in texts for token in tokens):
        return
    if not any(token.kind == "run" for tokens in texts for token in tokens):
        return
    try:
        ours, golds = (parse_expression(tokens, pair.budget.limits)[0] for tokens in texts)
    except NotMathError:
        return
    if variables(ours) and variables(ours) == variables(golds):
        yield Scalar(ours), Scalar(golds)


# --- names that the writer chose

_CONSTANT = re.compile(r"[ABCDKck](?:_\d)?")
_SURE_CONSTANT = re.compile(r"[Cc](?:_\d)?")


@_reading
def _other_constants(pair: Pair) -> Readings:
    """`Ae^x + Be^{-x}` for `C_1e^x + C_2e^{-x}`: an arbitrary constant may have any name."""
    sides = [side.value if isinstance(side, Assign) else side for side in (pair.answer, pair.gold)]
    ours, golds = sides
    if not isinstance(ours, Scalar) or not isinstance(golds, Scalar):
        return
    names, gold_names = variables(ours.node), variables(golds.node)
    free, gold_free = sorted(names - gold_names), sorted(gold_names - names)
    common = names & gold_names
    extra = sorted(name for name in common if _CONSTANT.fullmatch(name))
    free, gold_free = [*free, *extra], [*gold_free, *extra]
    if not common - set(extra) or not 0 < len(free) == len(gold_free) <= 3:
        return
    if not all(_CONSTANT.fullmatch(name) for name in (*free, *gold_free)):
        return
    if not all(_SURE_CONSTANT.fullmatch(name) for name in gold_free) and not all(
        _SURE_CONSTANT.fullmatch(name) for name in free
    ):
        return
    for order in itertools.permutations(gold_free):
        renamed = {name: sym(new) for name, new in zip(free, order, strict=True)}
        yield Scalar(substitute(ours.node, renamed), ours.unit), golds


_LEIBNIZ = re.compile(r"[d∂](?:\^(\d))?([A-Za-z])/[d∂][A-Za-z](?:\^\d)?")
_DOTS = re.compile(r"(d?)dot\((\w)\)")


def _with_primes(tokens: Tokens) -> Tokens:
    r"""`\frac{d^2x}{dt^2}` and `\ddot{x}` as x''."""
    found: Tokens = []
    for token in tokens:
        leibniz = _LEIBNIZ.fullmatch(token.text) if token.kind == "sym" else None
        dots = _DOTS.fullmatch(token.text) if token.kind == "sym" else None
        order = int(leibniz[1] or 1) if leibniz else (2 if dots[1] else 1) if dots else 0
        name = leibniz[2] if leibniz else dots[2] if dots else token.text
        found.append(token._replace(text=name))
        found += [Token(Kind.OP, "'")] * order
    return found


@_reading
def _derivatives(pair: Pair) -> Readings:
    r"""`x'` for `\dot x` and `\frac{dx}{dt}`, unless both sides say by what they derive."""
    texts = (pair.answer_tokens, pair.gold_tokens)
    if not any(
        "dot(" in t.text or "/" in t.text for tokens in texts for t in tokens if t.kind == "sym"
    ):
        return
    said = [any(_LEIBNIZ.fullmatch(token.text) for token in tokens) for tokens in texts]
    ours, golds = (_with_primes(tokens) for tokens in texts)
    if all(said) or (ours == texts[0] and golds == texts[1]):
        return
    yield read_tokens(ours, pair.budget.limits), read_tokens(golds, pair.budget.limits)


# --- numbers and conditions

_COMMA = re.compile(r"(?<![\d,])(\d+)\{,\}(\d+)(?!\d|\{,\})", re.ASCII)


@_reading
def _decimal_commas(pair: Pair) -> Readings:
    """`2{,}125` as 2.125, where it is not 2125."""
    if _COMMA.search(pair.answer_text):
        text = _COMMA.sub(r"\1.\2", pair.answer_text)
        yield read(text, pair.budget.limits)[0], pair.gold
    if _COMMA.search(pair.gold_text):
        yield pair.answer, read(_COMMA.sub(r"\1.\2", pair.gold_text), pair.budget.limits)[0]


_BINDING = frozenset(
    [
        "for",
        "some",
        "any",
        "all",
        "every",
        "each",
        "where",
        "with",
        "is",
        "are",
        "be",
        "being",
        "a",
        "an",
        "the",
        "and",
        "integer",
        "integers",
        "real",
        "reals",
        "number",
        "numbers",
        "constant",
        "constants",
        "arbitrary",
        "in",
        "n",
        "k",
        "m",
        "positive",
        "nonnegative",
        "non",
        "negative",
        "natural",
    ]
)
_BINDERS = frozenset({"for", "where", "with", "("})


def _without_condition(tokens: Tokens) -> Tokens:
    r"""`x = k\pi for some integer k` without its end, which says what k is."""
    for start, token in enumerate(tokens):
        if not start or token.text.lower() not in _BINDERS or token.kind == "sym":
            continue
        rest = tokens[start:]
        words = [t for t in rest if t.kind in ("word", "run")]
        if not any(t.text.lower() in _BINDING - {"a", "in", "n", "k", "m"} for t in words):
            continue
        plain = all(
            t.text.lower() in _BINDING
            or t.kind == "sym"
            or t.text in (",", "(", ")", "G", "in", "-")
            for t in rest
        )
        if plain and not takes_back(words):
            front = tokens[:start]
            while front and front[-1].text in (",", ";"):
                front = front[:-1]
            return front
    return tokens


@_reading
def _bound_letters(pair: Pair) -> Readings:
    """An end such as `for some integer k`, where the other side says nothing of k."""
    ours, golds = _without_condition(pair.answer_tokens), _without_condition(pair.gold_tokens)
    if (len(ours) < len(pair.answer_tokens)) == (len(golds) < len(pair.gold_tokens)):
        return
    limits = pair.budget.limits
    if any(
        token.text == "in" for token in (golds if len(ours) < len(pair.answer_tokens) else ours)
    ):
        return
    if len(ours) < len(pair.answer_tokens):
        answer, gold = read_tokens(ours, limits), pair.gold
    else:
        answer, gold = pair.answer, read_tokens(golds, limits)
    yield answer, gold
    left, right = _value(answer), _value(gold)
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        names, golds_names = variables(left.node), variables(right.node)
        free, gold_free = names - golds_names, golds_names - names
        if len(free) == len(gold_free) == 1 and free | gold_free <= _INTEGER_NAMES:
            renamed = substitute(left.node, {min(free): sym(min(gold_free))})
            yield Scalar(renamed, left.unit), right


_INTEGER_NAMES = frozenset("klmnNt")


@_reading
def _least_residues(pair: Pair) -> Readings:
    r"""`2^{10} \equiv 4 \pmod 5` as the remainder 4."""
    for side, other, turned in ((pair.answer, pair.gold, False), (pair.gold, pair.answer, True)):
        if not isinstance(side, Congruence) or not isinstance(other, Scalar):
            continue
        if len(side.residues) != 1 or not isinstance(side.residues[0], Scalar):
            continue
        if re.search("[a-z]", side.name) or turned:
            continue
        residue, modulus = side.residues[0].node.value, side.modulus.value
        if (
            isinstance(residue, Fraction)
            and isinstance(modulus, Fraction)
            and 0 <= residue < modulus
        ):
            yield side.residues[0], other
