"""Integer arithmetic with order of operations. Level L has L + 1 numbers; brackets come in at level
3.

Expressions are trees, so the value is computed while the text is built and nothing is ever parsed
or evaluated. `grpo.miniature.arithmetic` is the narrower set on which the tiny base model is
pre-trained.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from data.generators.levels import Generator, Item

LEVELS = 6
_BINDING = {"+": 1, "-": 1, "*": 2}


@dataclass(frozen=True, slots=True)
class Node:
    """An expression: its text, its value, and how tightly its last operator binds (3: a number)."""

    text: str
    value: int
    binding: int = 3


def _make(rng: random.Random, level: int) -> Item:
    node = _tree(rng, level + 1, largest=9 if level == 1 else 20 * level, brackets=level >= 3)
    return Item(f"What is {node.text}?", str(node.value))


def _tree(rng: random.Random, size: int, largest: int, brackets: bool) -> Node:
    if size == 1:
        value = rng.randint(1, largest)
        return Node(str(value), value)
    left_size = rng.randint(1, size - 1) if brackets else size - 1
    operator = rng.choice("+-*")
    # without brackets the right side of every operator is one number
    left = _tree(rng, left_size, largest, brackets)
    right = _tree(rng, size - left_size, 9 if operator == "*" else largest, brackets)
    return _join(left, operator, right, brackets)


def _join(left: Node, operator: str, right: Node, brackets: bool) -> Node:
    binding = _BINDING[operator]
    if operator == "*" and left.binding < binding and not brackets:
        operator, binding = "+", 1  # no brackets to hold the left side together
    left_text = f"({left.text})" if left.binding < binding else left.text
    # minus and times do not regroup: a - (b - c), a * (b + c)
    right_text = f"({right.text})" if right.binding <= binding and right.binding < 3 else right.text
    value = {
        "+": left.value + right.value,
        "-": left.value - right.value,
        "*": left.value * right.value,
    }[operator]
    return Node(f"{left_text} {operator} {right_text}", value, binding)


GENERATOR = Generator(name="arithmetic_brackets", make=_make, levels=LEVELS)
