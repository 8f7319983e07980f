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

from rewards.maths.answer.kinds import Answer, Assign, Scalar
from rewards.maths.answer.reader import read
from rewards.maths.expression.node import Node, variables, walk
from rewards.maths.limits import IN_PROCESS, LimitError, Limits

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
    r"|sec|csc|arc[a-z]+|lfloor|lceil|gcd|le|ge|det|times|cdot|div)(?![A-Za-z])"
)
_BETWEEN = re.compile(
    r"[+*^=<>:]|[\w)}]\s*-|\\(?:[dt]?binom|le|ge)", re.ASCII
)  # no sign of a number
_REPEATING = re.compile(r"[\d.]\\(?:overline|bar|dot)|\d\.\d*\(\d+\)")
_MIXED = re.compile(r"(\d{1,9})\s?\\[dt]?frac\s?\{?(\d{1,9})\}?\s?\{?(\d{1,9})", re.ASCII)
_MAX_QUESTION = 20_000  # characters
_WRITTEN_OUT_DIGITS = 10  # nobody writes a longer power out
_ONE = Fraction(1)


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
    nodes, gold_nodes = _values(answer, limits), _values(gold, limits)
    forms = {_form(node) for node in gold_nodes}
    if any(_form(node) in forms for node in nodes):
        return False
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
        strictly: also without square factors in roots, in lowest terms, and without powers and
            functions.
    """
    if node.op in ("num", "sym"):
        return True
    if node.op == "pow":
        return _is_power_kept(node, strictly=strictly)
    if node.op == "call":
        return _is_call_kept(node, strictly=strictly)
    if node.op == "div":
        return _is_fraction(node, strictly=strictly)
    if node.op in ("pm", "mp"):
        return is_worked_out(node.args[0], strictly=strictly)
    if node.op not in ("add", "mul"):
        return False
    parts = list(_flat(node, node.op))
    rational = [part for part in parts if _rational(part) is not None and _rational(part) != -1]
    if len(rational) > 1:
        return False
    others = [part for part in parts if part not in rational]
    if node.op == "mul" and sum(part.op == "call" and part.value == "root" for part in others) > 1:
        return False
    if node.op == "mul" and rational and others and all(_is_power_of_ten(part) for part in others):
        return len(others) == 1  # 5.7 * 10^{-8}
    return all(is_worked_out(part, strictly=strictly) for part in parts)


def _is_power_kept(node: Node, *, strictly: bool) -> bool:
    base, exponent = node.args
    number, power = _rational(base), _rational(exponent)
    if number is None or power is None:
        if power is not None and abs(power) != _ONE and (base.op != "sym" or base.value == "i"):
            return False  # (1+\\sqrt2)^2, i^{2027}
        return is_worked_out(base, strictly=strictly)
    if strictly:
        return False
    size = abs(float(power)) * log10(max(abs(number.numerator), number.denominator, 1))
    return (
        size > _WRITTEN_OUT_DIGITS
        or power.denominator > 1
        or (_is_power_of_ten(node) and power < 0)
    )


def _is_power_of_ten(node: Node) -> bool:
    return (
        node.op == "pow" and _rational(node.args[0]) == 10 and _rational(node.args[1]) is not None
    )


def _is_call_kept(node: Node, *, strictly: bool) -> bool:
    if node.value == "root":
        radicand, degree = (_rational(arg) for arg in node.args)
        if radicand is None or degree != 2 or radicand < 0 or radicand.denominator > 1:
            return all(is_worked_out(arg, strictly=strictly) for arg in node.args) and not (
                strictly and radicand is not None and radicand.denominator > 1
            )
        whole = int(radicand)
        if whole < 10**12 and isqrt(whole) ** 2 == whole:
            return False
        return not strictly or all(whole % (k * k) for k in range(2, min(isqrt(whole), 1000) + 1))
    # arccos(-1/2) and binomials are to be calculated, ln 2 is as short as it gets
    return not strictly and node.value in (
        "log",
        "ln",
        "sin",
        "cos",
        "tan",
        "arctan",
        "arcsin",
        "arccos",
    )


def _is_fraction(node: Node, *, strictly: bool) -> bool:
    top, bottom = (_rational(arg) for arg in node.args)
    if top is None or bottom is None:
        return all(is_worked_out(arg, strictly=strictly) for arg in node.args)
    if top.denominator > 1 or bottom.denominator > 1:
        return bottom == 100
    if strictly:
        return gcd(top.numerator, bottom.numerator) == 1 and abs(bottom) != 1
    return bottom == 100 or (bool(bottom) and (top / bottom).denominator > 1)


def _rational(node: Node) -> Fraction | None:
    """The number of a literal, with its sign; a fraction of literals is one."""
    if node.op == "num" and isinstance(node.value, Fraction):
        return node.value
    if node.op == "mul" and len(node.args) == 2 and _rational(node.args[0]) == -1:
        inner = _rational(node.args[1])
        return None if inner is None else -inner
    if node.op == "div":
        top, bottom = (_rational(arg) for arg in node.args)
        return top / bottom if top is not None and bottom else None
    return None


def _flat(node: Node, op: str) -> Iterator[Node]:
    for arg in node.args:
        if arg.op == op and _rational(arg) is None:
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
    if node.op in ("num", "sym"):
        return (node.op, str(node.value))
    if node.op in ("add", "mul"):
        return (node.op, *sorted((_form(part) for part in _flat(node, node.op)), key=repr))
    return (node.op, str(node.value), *(_form(arg) for arg in node.args))


# --- the question


def _carries_over(node: Node, question: str) -> bool:
    """Does a number leave a sum, product, quotient or power undone that takes numbers of the
    question: `16+7*2` for `7*2+16`, `6*7` for "6 times 7"?
    """
    operations = {part.op for part in walk(node)} - {"num", "sym"}
    calls = {part.value for part in walk(node) if part.op == "call"}
    if is_worked_out(node) or not operations or calls - {"mod", "root"}:
        return False
    literals = {part.value for part in walk(node) if part.op == "num"}
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
