"""Countdown: reach a target from given numbers, each used exactly once, by the four operations."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.extract import Source
from rewards.registry import register
from rewards.responses import only_answer
from rewards.types import Reward, Sample

_TOKEN = re.compile(r"\s*(?:(\d{1,9})|(.))", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
_MAX_CHARS, _MAX_DEPTH = 500, 30


class _NotAnExpressionError(Exception):
    """The text is not made of numbers, + - * / and brackets, or divides by zero."""


@dataclass(frozen=True, slots=True)
class CountdownGold:
    """The task itself, because many expressions solve it: {"numbers": [3, 7], "target": 21}."""

    numbers: Sequence[int]
    target: int | Fraction

    def to_text(self) -> str:
        """The gold of a row."""
        return json.dumps(
            {
                "numbers": list(self.numbers),
                "target": self.target if isinstance(self.target, int) else str(self.target),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> CountdownGold:
        """The inverse of `to_text`.

        Raises:
            ValueError: the text is not such JSON.
        """
        try:
            case = json.loads(text)
            return cls([int(number) for number in case["numbers"]], Fraction(case["target"]))
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise ValueError(
                'the reward `countdown` needs a gold like {"numbers": [3, 7], "target": 21}, '
                f"not {text[:50]!r}: {error}"
            ) from None


@register("countdown", bounded=True, check_gold=CountdownGold.from_text)
def countdown(sample: Sample, source: Source = "answer_tag", valid_score: float = 0.0) -> Reward:
    """1 for an expression that equals the target and uses each number exactly once.

    The gold is JSON: {"numbers": [3, 7, 25], "target": 46}. An expression may go on with `= 25 + 21
    = 46`; each of these must have its value, or the answer scores 0.

    Args:
        valid_score: for an expression over the right numbers with another value (TinyZero gives
            0.1).

    Raises:
        ValueError: the gold is not such JSON.
    """
    gold = CountdownGold.from_text(sample.gold)
    answer = only_answer(sample, source)
    if isinstance(answer, Reward):
        return answer
    text, *stated = map(str.strip, _plain(answer).split("="))
    details = {"extracted": text[:200]}
    try:
        value, used = evaluate(text)
        results = [_result(part) for part in stated if part]
    except _NotAnExpressionError:
        return Reward(0.0, "no_expression", details)
    if used != Counter(gold.numbers):
        return Reward(0.0, "wrong_numbers", details)
    if any(result != value for result in results):
        return Reward(0.0, "wrong_result", details)
    if value != gold.target:
        return Reward(valid_score, "wrong_value", details)
    return Reward(1.0, "correct", details)


def evaluate(text: str) -> tuple[Fraction, Counter[int]]:
    """The exact value of an expression and the numbers in it.

    Raises:
        _NotAnExpressionError: too long, too deep, something else than arithmetic, or a division by
        zero.
    """
    if len(text) > _MAX_CHARS:
        raise _NotAnExpressionError("too long")
    parser = _Arithmetic([match[1] or match[2] for match in _TOKEN.finditer(text.strip())])
    value = parser.sum(0)
    if parser.tokens:
        raise _NotAnExpressionError("more than an expression")
    return value, parser.used


class _Arithmetic:
    """Recursive descent over + - * / and brackets."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens[::-1]  # the next one is last
        self.used: Counter[int] = Counter()

    def next_is(self, signs: str) -> bool:
        return bool(self.tokens) and self.tokens[-1] in signs

    def sum(self, depth: int) -> Fraction:
        if depth > _MAX_DEPTH:
            raise _NotAnExpressionError("too deep")
        value = self.product(depth)
        while self.next_is("+-"):
            sign = self.tokens.pop()
            term = self.product(depth)
            value = value + term if sign == "+" else value - term
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while self.next_is("*/"):
            sign = self.tokens.pop()
            factor = self.atom(depth)
            if sign == "/" and factor == 0:
                raise _NotAnExpressionError("division by zero")
            value = value * factor if sign == "*" else value / factor
        return value

    def atom(self, depth: int) -> Fraction:
        if not self.tokens:
            raise _NotAnExpressionError("end")
        token = self.tokens.pop()
        if token.isascii() and token.isdigit():
            self.used[int(token)] += 1
            return Fraction(int(token))
        if token == "(":
            value = self.sum(depth + 1)
            if not self.next_is(")"):
                raise _NotAnExpressionError("bracket")
            self.tokens.pop()
            return value
        raise _NotAnExpressionError(token)


def _plain(text: str) -> str:
    """LaTeX and Unicode signs of arithmetic as ASCII, without delimiters and a full stop."""
    for sign, plain in (
        *_SIGNS.items(),
        (r"\times", "*"),
        (r"\cdot", "*"),
        (r"\div", "/"),
        (r"\left", ""),
        (r"\right", ""),
    ):
        text = text.replace(sign, plain)
    text = re.sub(
        r"\\frac\{([^{}]{1,100})\}\{([^{}]{1,100})\}", r"((\1)/(\2))", text[: 4 * _MAX_CHARS]
    )
    return text.replace("$", " ").strip(" \n.")


def _result(text: str) -> Fraction:
    """The value after a `=`: a number, or one more expression.

    Raises:
        _NotAnExpressionError: it is something else.
    """
    return Fraction(text) if _NUMBER.fullmatch(text) else evaluate(text)[0]
