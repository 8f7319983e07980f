"""Is a right answer worked out, or does it only repeat the question?

`7*2+16` is equal to 30, and says nothing that the question did not say. Two rules tell:

* With the question at hand, an answer does not count when it repeats an expression or equation of
  the question with operators left to carry out. `\\frac{1}{2}` and `3\\sqrt{2}` have none.
* Where a data source asks for values (`evaluated`), a sum, product or quotient left undone is not
  one, wherever it comes from.

A gold that is written the same way, or is itself not worked out, allows the same of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import gcd, isqrt, log10
from typing import Any

from rewards.maths.answer.kinds import Answer, Assign, Ratio, Scalar, Unit, Words
from rewards.maths.answer.reader import read
from rewards.maths.answer.units import bare_quantity, normal_unit
from rewards.maths.expression.node import Node, Op, variables, walk
from rewards.maths.limits import IN_PROCESS, LimitError, Limits
from rewards.maths.text.vocabulary import UNITS

_PLAIN = re.compile(r"\s*[-+]?[\d,]*\.?\d+\s*%?\s*|\s*[A-Za-z]\s*", re.ASCII)
_MARKS = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|quad|qquad|limits|[bB]igg?[lr]?)(?![A-Za-z])"
    r"|\\[,;:! ()\[\]]|[\s${}()\[\]]|\\(?:text|mathrm)(?![A-Za-z])"
)
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac)\s*(\d)\s*\{?(\d)", re.ASCII)
_LITERAL = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|,\\!)(?=\d{3})", re.ASCII)
_WORD = re.compile(r"\\[A-Za-z]+|\d+(?:\.\d+)?|\.\d+|[A-Za-z]|.", re.DOTALL | re.ASCII)
_SAME_SIGN = {
    r"\cdot": "*", r"\times": "*", r"\div": "/", r"\dfrac": r"\frac", r"\tfrac": r"\frac",
    r"\cfrac": r"\frac",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\mod": r"\bmod",
    r"\leq": r"\le", r"\geq": r"\ge",
    r"\bar": r"\overline",
}  # fmt: skip
_OPERATOR = re.compile(
    r"[-+*/^!%=<>|:]|\\(?:[dtc]?frac|[dt]?binom|sqrt|overline|dot|bmod|pmod|sum|prod|int|lim|log|ln|exp|sin|cos|tan|cot"
    r"|sec|csc|arc[a-z]+|lfloor|lceil|gcd|lcm|operatorname|le|ge|det|times|cdot|div)(?![A-Za-z])"
)
_BETWEEN = re.compile(
    r"[+*^=<>:]|[\w)}]\s*-|\\(?:[dt]?binom|le|ge)", re.ASCII
)  # no sign of a number
_REPEATING = re.compile(r"[\d.]\\(?:overline|bar|dot)|\d\.\d*\(\d+\)")
_MIXED = re.compile(r"(\d{1,9})\s?\\[dt]?frac\s?\{?(\d{1,9})\}?\s?\{?(\d{1,9})", re.ASCII)
_MAX_QUESTION = 20_000  # characters
_WRITTEN_OUT_DIGITS = 10  # nobody writes a longer power out
_KEPT_CALLS = ("log", "ln", "sin", "cos", "tan", "arctan", "arcsin", "arccos")
_DECIMAL = re.compile(r"-?\d*\.\d+", re.ASCII)
_ASKED_UNIT = re.compile(
    r"\b(?:(?:in|how many) (?!units of )|units of )([a-z]+)(?: ?\^ ?(-?\d))?", re.IGNORECASE
)
_UPRIGHT = re.compile(r"\\(?:mathrm|text|rm)(?![a-z])|[\s$~{}]+")  # `in $\mathrm{~cm}$` is `in cm`
_ASKS_VALUE = re.compile(r"\b(?:compute|evaluate|calculate|simplify|multiply|expand)\b", re.I)
_TURNS = ("sin", "cos", "tan", "cot", "sec", "csc")
_ASKED_HALF = re.compile(r"\bwhat time,? ([ap])\.?\s?m\b", re.IGNORECASE)


def restates(answer: str, gold: str, question: str, limits: Limits = IN_PROCESS) -> bool:
    """Does a right answer only repeat a part of the question, with operators left to carry out?

    Args:
        answer: text that is equal to `gold`.
    """
    if not question or _PLAIN.fullmatch(answer) or len(question) > _MAX_QUESTION:
        return False
    if not _OPERATOR.search(answer.translate(_UNICODE_SIGNS)):
        return False
    words = _words(answer)
    if _stands_in(words, _words(gold)):
        return False
    if "decimal" in question and _DECIMAL.fullmatch(gold.strip()) and "frac" in answer:
        return _stands_in(words, _words(question))
    nodes, gold_nodes = _values(answer, limits), _values(gold, limits)
    forms = {_form(node) for node in gold_nodes}
    if any(_form(node) in forms for node in nodes):
        return False
    to_compute = bool(gold_nodes and _ASKS_VALUE.search(question))
    if to_compute and any(map(_is_undone, nodes)) and not any(map(_is_undone, gold_nodes)):
        return True
    asked = _words(question)
    # `m + n = 35` is no echo of "find m + n" and a 35 elsewhere
    named = any(len(word) == 1 and word.isalpha() for word in words)
    sides = [words] if named else _sides(words)
    if not all(_stands_in(side, asked) for side in sides):
        if not nodes or not gold_nodes or any(variables(node) for node in nodes):
            return False
        wants_value = is_worked_out(gold_nodes[0])
        return wants_value and all(_carries_over(node, question) for node in nodes)
    if not nodes:
        return _BETWEEN.search(answer) is not None and not _is_named_value(words)
    if "=" in words:
        return not _is_named_value(words)
    if _REPEATING.search(answer):
        return True
    return any(
        (bool(variables(node)) and bool(node.args)) or not is_worked_out(node, strictly=True)
        for node in nodes
    )


def in_other_unit(answer: str, gold: str, question: str, limits: Limits = IN_PROCESS) -> bool:
    """Is a right answer in another unit than the question asks for: `12.50 cents` where it says "in
    dollars", `3:45 a.m.` for "what time p.m."? Only beside a gold that names none.
    """
    if any(char.isalpha() or char == "$" for char in gold):
        return False
    question = re.split(r"[.!?]\s+(?=[A-Z])", question.strip())[-1]  # what the last sentence asks
    asked = _ASKED_UNIT.findall(" ".join(_UPRIGHT.sub(" ", question).split()))
    named = [(UNITS.get(word) or UNITS.get(word.lower(), ""), int(p or 1)) for word, p in asked]
    units = {(name, power) for name, power in named if name}
    halves = {half.lower() + "m" for half in _ASKED_HALF.findall(question)}
    if len(units) != 1 and len(halves) != 1:
        return False
    try:
        value, tokens = read(answer, limits)
    except (LimitError, RecursionError):
        return False
    if isinstance(value, Words) or (isinstance(value, Scalar) and value.unit is None):
        value = bare_quantity(tokens, limits) or value
    match value:
        case Ratio(_, half):
            return len(halves) == 1 and half != "" and half not in halves
        case Scalar(_, Unit((ours,), nouns)) if len(units) == 1 and not nouns:
            [theirs] = units
            scales = [normal_unit(Unit((unit,))) for unit in (ours, theirs)]
            return ours != theirs and scales[0][1] == scales[1][1]
    return False


def is_evaluated(answer: str, gold: str, limits: Limits = IN_PROCESS) -> bool:
    """Is a right answer a value, where the gold is one? Golds with variables ask for none."""
    golds = _values(gold, limits)
    if _PLAIN.fullmatch(answer) or not golds or any(variables(node) for node in golds):
        return True
    if not is_worked_out(golds[0]):
        return True
    nodes = _values(answer, limits)
    forms = {_form(node) for node in golds}
    return not nodes or any(is_worked_out(node) or _form(node) in forms for node in nodes)


def is_worked_out(node: Node, *, strictly: bool = False) -> bool:
    r"""Is a number written as a value: an integer, fraction, decimal, surd, a power of ten times a
    number, a power that nobody writes out, and sums and products of these which do not combine?

    Args:
        strictly: also without square factors in roots, in lowest terms, and without powers,
            functions, brackets to multiply out and roots in a denominator.
    """

    def all_kept(*parts: Node) -> bool:
        return all(is_worked_out(part, strictly=strictly) for part in parts)

    values = [_rational(arg) for arg in node.args]
    match node.op:
        case Op.NUM | Op.SYM:
            return True
        case Op.PM | Op.MP:
            return all_kept(*node.args)
        case Op.POW:
            base, (number, power) = node.args[0], values
            if number is None or power is None:
                is_symbol = base.op is Op.SYM and base.value != "i"
                turns = strictly and power is None and not variables(node)  # e^{11 \\pi i/2}
                if turns or (power is not None and abs(power) != 1 and not is_symbol):
                    return False  # (1+\\sqrt2)^2, i^{2027}
                return all_kept(base)
            size = abs(float(power)) * log10(max(abs(number.numerator), number.denominator, 1))
            is_long = size > _WRITTEN_OUT_DIGITS or power.denominator > 1
            return not strictly and (is_long or (number == 10 and power < 0))
        case Op.CALL if node.value == "root":
            radicand, degree = values
            if radicand is None or degree is None or radicand < 0 or radicand.denominator > 1:
                nested = any(part.value == "root" for part in walk(node.args[0]))
                return all_kept(*node.args) and not (strictly and (nested or radicand is not None))
            whole = int(radicand)
            if degree == 2 and whole < 10**12 and isqrt(whole) ** 2 == whole:
                return False
            largest = min(isqrt(whole), 1000) if degree.denominator == 1 else 0
            powers = (k ** int(degree) for k in range(2, largest + 1) if degree < 100)
            return not strictly or all(whole % power for power in powers)
        case Op.CALL:
            # arccos(-1/2) and binomials are to be calculated, ln 2 is as short as it gets
            return not strictly and node.value in _KEPT_CALLS
        case Op.DIV:
            top, bottom = values
            if strictly and bottom is None and not variables(node.args[1]):
                return False
            if top is None or bottom is None:
                return all_kept(*node.args)
            if top.denominator > 1 or bottom.denominator > 1:
                return bottom == 100
            if strictly:
                return gcd(top.numerator, bottom.numerator) == 1 and abs(bottom) != 1
            return bottom == 100 or (bool(bottom) and (top / bottom).denominator > 1)
        case Op.ADD | Op.MUL:
            parts = [(part, _rational(part)) for part in _flat(node, node.op)]
            others = [part for part, value in parts if value in (None, -1)]
            if len(parts) - len(others) > 1:
                return False
            if node.op is Op.MUL:
                roots = [part for part in others if part.op is Op.CALL and part.value == "root"]
                if len(roots) > 1 or (strictly and any(part.op is Op.ADD for part in others)):
                    return False
                tens = [part for part in others if part.op is Op.POW and part.args[0].number == 10]
                if len(parts) > len(others) == len(tens) > 0:
                    return len(others) == 1  # 5.7 * 10^{-8}
            return all_kept(*(part for part, _ in parts))
    return False


def _is_undone(node: Node) -> bool:
    r"""Is a number left as `\sin 150^\circ`, `(5 + \sqrt3)(5 - \sqrt3)` or `6(1 + 2i) - 3i`?"""
    if variables(node):
        return False
    for part in walk(node):
        if part.op is Op.CALL and part.value in _TURNS:
            return True
        if part.op is Op.MUL and sum(arg.op is Op.ADD for arg in _flat(part, Op.MUL)) > 1:
            return True
        if part.op is Op.ADD and any(
            term.op is Op.MUL and any(arg.op is Op.ADD for arg in _flat(term, Op.MUL))
            for term in _flat(part, Op.ADD)
        ):
            return True
    return False


def _rational(node: Node) -> Fraction | None:
    """The number of a literal, with its sign; a fraction of literals is one."""
    if node.op is Op.NUM:
        return node.number
    if node.op is Op.MUL and _rational(node.args[0]) == -1:
        inner = _rational(node.args[1])
        return None if inner is None else -inner
    if node.op is Op.DIV:
        top, bottom = (_rational(arg) for arg in node.args)
        return top / bottom if top is not None and bottom else None
    return None


def _flat(node: Node, op: Op) -> Iterator[Node]:
    for arg in node.args:
        if arg.op is op and _rational(arg) is None:
            yield from _flat(arg, op)
        else:
            yield arg


def _values(text: str, limits: Limits) -> list[Node]:
    """The expressions of an answer that is one value, the last one first."""
    try:
        answer: Answer = read(text, limits)[0]
    except (LimitError, RecursionError):
        return []
    if isinstance(answer, Assign):
        answer = answer.value
    return [answer.node, *answer.also] if isinstance(answer, Scalar) else []


def _form(node: Node) -> Any:
    """One form for all orders and groupings of sums and products."""
    if node.op in (Op.NUM, Op.SYM):
        return (node.op, str(node.value))
    if node.op in (Op.ADD, Op.MUL):
        return (node.op, *sorted((_form(part) for part in _flat(node, node.op)), key=repr))
    return (node.op, str(node.value), *(_form(arg) for arg in node.args))


# --- the question


def _carries_over(node: Node, question: str) -> bool:
    """Does a number leave a sum, product, quotient or power undone that takes numbers of the
    question: `16+7*2` for `7*2+16`, `6*7` for "6 times 7"?
    """
    operations = {part.op for part in walk(node)} - {Op.NUM, Op.SYM}
    calls = {part.value for part in walk(node) if part.op is Op.CALL}
    if is_worked_out(node) or not operations or calls - {"mod", "root"}:
        return False
    literals = {part.value for part in walk(node) if part.op is Op.NUM}
    return not literals.isdisjoint(_literals(question))


@lru_cache(maxsize=4096)
def _literals(question: str) -> frozenset[Fraction]:
    """The numbers of a question, and the sums of its mixed numbers."""
    found = [Fraction(text) for text in _LITERAL.findall(_THOUSANDS.sub("", question))]
    mixed = _MIXED.findall(question)
    return frozenset(found) | {
        int(whole) + Fraction(int(top), int(bottom)) for whole, top, bottom in mixed if int(bottom)
    }


_UNICODE_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "√": r"\sqrt ", "π": r"\pi "}
)


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    """Numbers, letters, commands and signs in one spelling, without brackets and spacing."""
    text = _SHORT_FRACTION.sub(r"\1 \2 \3", text)
    text = _MARKS.sub(" ", text.translate(_UNICODE_SIGNS).replace("**", "^"))
    found = [_SAME_SIGN.get(word, word) for word in _WORD.findall(text) if not word.isspace()]
    while found and found[-1] in ("=", "?", ".", ",", ";"):
        found.pop()
    return tuple(found)


def _sides(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The words between signs of equality, if there are any."""
    sides: list[list[str]] = [[]]
    for word in words:
        if word == "=":
            sides.append([])
        else:
            sides[-1].append(word)
    return [tuple(side) for side in sides if side]


def _is_named_value(words: tuple[str, ...]) -> bool:
    """`x = 5`, which is how an answer looks, whatever the question said of x."""
    sides = _sides(words)
    return (
        len(sides) == 2
        and len(sides[0]) == 1
        and not any(_OPERATOR.match(word) for word in sides[1])
    )


def _stands_in(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    if not part or len(part) > len(whole):
        return False
    first, size = part[0], len(part)
    return any(
        whole[i] == first and whole[i : i + size] == part for i in range(len(whole) - size + 1)
    )
