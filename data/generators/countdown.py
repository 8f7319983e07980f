"""Countdown: make a target from given numbers, each used once, with + - * /. Solvable by
construction.

A random expression over the numbers makes the target, and a solver that knows nothing of it can be
asked for a solution of its own. The gold is not an expression, because many are right: it is the
task itself, as JSON.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

from data.generators.levels import Generator, Item
from rewards.checkers.countdown import CountdownGold

LEVELS = 4  # 3 to 6 numbers
_MAX_TARGET = 999


def pose(numbers: Sequence[int], target: int) -> tuple[str, str]:
    """(question, gold) of one task."""
    question = (
        f"Use the numbers {', '.join(map(str, numbers))} and the operations +, -, *, / to "
        f"make {target}. "
        "Use each number exactly once. Give one arithmetic expression, with brackets "
        "where they are needed."
    )
    return question, CountdownGold(numbers, target).to_text()


def _make(rng: random.Random, level: int) -> Item:
    while True:
        numbers = [rng.randint(1, 25 * level) for _ in range(level + 2)]
        value, text = _random_expression(rng, [(Fraction(n), str(n)) for n in numbers])
        if value.denominator == 1 and 10 <= value <= _MAX_TARGET and value not in numbers:
            question, gold = pose(numbers, int(value))
            return Item(
                question, gold, {"numbers": numbers, "target": int(value), "solution": text}
            )


def solve(numbers: Sequence[int], target: int) -> str | None:
    """An expression over all of the numbers that gives the target, or None; for up to 6 numbers."""
    return _search([(Fraction(n), str(n)) for n in numbers], Fraction(target))


def _random_expression(
    rng: random.Random, terms: list[tuple[Fraction, str]]
) -> tuple[Fraction, str]:
    while len(terms) > 1:
        rng.shuffle(terms)
        left, right = terms.pop(), terms.pop()
        # whole, positive results only, as in the game
        joined = [term for term in _joined(left, right) if term[0] > 0 and term[0].denominator == 1]
        terms.append(rng.choice(joined))
    value, text = terms[0]
    return value, _strip(text)


def _search(terms: list[tuple[Fraction, str]], target: Fraction) -> str | None:
    if len(terms) == 1:
        return _strip(terms[0][1]) if terms[0][0] == target else None
    for i in range(len(terms)):
        for j in range(i):
            rest = [term for n, term in enumerate(terms) if n not in (i, j)]
            for joined in _joined(terms[i], terms[j]):
                if (found := _search([*rest, joined], target)) is not None:
                    return found
    return None


def _joined(left: tuple[Fraction, str], right: tuple[Fraction, str]) -> list[tuple[Fraction, str]]:
    """All results of one operation on two terms, in either order."""
    (a, a_text), (b, b_text) = left, right
    results = [
        (a + b, f"({a_text} + {b_text})"),
        (a - b, f"({a_text} - {b_text})"),
        (b - a, f"({b_text} - {a_text})"),
        (a * b, f"({a_text} * {b_text})"),
    ]
    if b:
        results.append((a / b, f"({a_text} / {b_text})"))
    if a:
        results.append((b / a, f"({b_text} / {a_text})"))
    return results


def _strip(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text


GENERATOR = Generator(name="countdown", make=_make, levels=LEVELS, reward="countdown")
