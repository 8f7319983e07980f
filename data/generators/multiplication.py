"""Products of a k-digit and an m-digit number, worked out on a scratchpad (Faith and Fate).

The scratchpad has one line for each non-zero digit of the second number, then running sums.
`rewards.checkers.multiplication` checks each line and tells an error made on the spot from one
that is
carried along.
"""

from __future__ import annotations

import random

from data.generators.levels import Generator, Item
from rewards.checkers.multiplication import MultiplicationGold

DIGITS = (
    (1, 1),
    (2, 1),
    (2, 2),
    (3, 2),
    (3, 3),
    (4, 3),
    (4, 4),
    (5, 5),
)  # (k, m) of levels 1, 2, ...


def _make(rng: random.Random, level: int) -> Item:
    k, m = DIGITS[level - 1]
    return multiply(rng, k, m)


def multiply(rng: random.Random, k: int, m: int) -> Item:
    """A product of a k-digit and an m-digit number."""
    a, b = (rng.randint(10 ** (n - 1) if n > 1 else 2, 10**n - 1) for n in (k, m))
    question = (
        f"What is {a} * {b}? Multiply {a} by each digit of {b}, with its zeros, one "
        "product on a line "
        "(as in `12 * 30 = 360`), then add the products up one by one (as in `360 + 24 = 384`)."
    )
    return Item(
        question,
        MultiplicationGold(a * b).to_text(),
        {"a": a, "b": b, "scratchpad": scratchpad(a, b)},
    )


def scratchpad(a: int, b: int) -> str:
    """The lines of a correct solution, least digit first."""
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(b))) if digit != "0"]
    lines = [f"{a} * {part} = {a * part}" for part in parts]
    total = a * parts[0] if parts else 0
    for part in parts[1:]:
        lines.append(f"{total} + {a * part} = {total + a * part}")
        total += a * part
    return "\n".join(lines)


GENERATOR = Generator(
    name="multiplication", make=_make, levels=len(DIGITS), reward="multiplication"
)
