"""Multiplication with a scratchpad: is the product right, and where does a wrong one go wrong?

Every line `x * y = z` or `x + y = z` of the response is a node of the computation. Faith and Fate
tells four kinds:
- `right`: right parents, right value;
- `local`: right parents, wrong value (an error made here);
- `propagated`: wrong parents, correctly worked on (an error carried along);
- `restored`: wrong parents, and yet the right value.
A node with wrong parents that is also worked wrongly is `local` too: it makes an error of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rewards.choice import numeric
from rewards.registry import register
from rewards.types import Reward, Sample

Kind = Literal["right", "local", "propagated", "restored"]

_NUMBER = r"(\d{1,30})"
_LINE = re.compile(rf"(?<![\d.]){_NUMBER}\s*([*×+])\s*{_NUMBER}\s*=\s*{_NUMBER}(?![\d.]|\s*[*×+=])")
_TASK = re.compile(rf"{_NUMBER}\s*[*×]\s*{_NUMBER}")
_MAX_LINES = 200


@dataclass(frozen=True, slots=True)
class Node:
    """One line of a scratchpad and what became of it."""

    text: str
    kind: Kind


def check_scratchpad(text: str, a: int, b: int) -> list[Node]:
    """The nodes of a scratchpad for `a * b`, in order.

    A product's parents are `a` and a part of `b` (a digit with its zeros), in any order of the
    parts. A sum's parents are the running total and the next partial product, so its right value is
    the sum of the right products so far.
    """
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(b))) if digit != "0"]
    order: list[int] = []  # the parts, in the order of the product lines
    nodes: list[Node] = []
    num_sums = 0
    for match in list(_LINE.finditer(text))[:_MAX_LINES]:
        left, sign, right, stated = int(match[1]), match[2], int(match[3]), int(match[4])
        if sign == "+":
            num_sums += 1
            products = [
                a * part for part in (*order, *(part for part in parts if part not in order))
            ]
            total, addend = sum(products[:num_sums]), sum(products[num_sums : num_sums + 1])
            parents_right, expected = {left, right} == {total, addend}, total + addend
        else:
            part = right if left == a else left
            parents_right = a in (left, right) and part in {*parts, b}
            if parents_right and part in parts and part not in order:
                order.append(part)
            # with a wrong factor, what was meant is taken to be the first part not worked on yet
            meant = next((p for p in parts if p not in order), 0)
            expected = left * right if parents_right else a * meant
        worked = left + right if sign == "+" else left * right
        nodes.append(Node(match[0], _kind(parents_right, stated == expected, stated == worked)))
    return nodes


@dataclass(frozen=True, slots=True)
class MultiplicationGold:
    """The product. The factors stand in the question."""

    product: int

    def to_text(self) -> str:
        """The gold of a row."""
        return str(self.product)

    @classmethod
    def from_text(cls, text: str) -> MultiplicationGold:
        """The inverse of `to_text`.

        Raises:
            ValueError: the text is not a whole number.
        """
        if not re.fullmatch(r"\d{1,60}", text.strip(), re.ASCII):
            raise ValueError(
                f"the reward `multiplication` needs a whole number as gold, not {text[:50]!r}"
            )
        return cls(int(text))


@register("multiplication", bounded=True, check_gold=MultiplicationGold.from_text)
def multiplication(sample: Sample, scratchpad_weight: float = 0.0) -> Reward:
    """1 when the final product is right, else `scratchpad_weight` times the share of right nodes.

    `details` counts the nodes of each kind; the factors are read from the question.
    """
    final = numeric(sample)
    if sample.truncated:
        return Reward(0.0, "truncated")
    task = _TASK.search(sample.question)
    nodes = check_scratchpad(sample.response, int(task[1]), int(task[2])) if task else []
    counts = {
        kind: sum(node.kind == kind for node in nodes)
        for kind in ("right", "local", "propagated", "restored")
    }
    details = {**final.details, **counts}
    if final.score == 1.0 or not nodes:
        return Reward(final.score, final.reason, details)
    return Reward(scratchpad_weight * counts["right"] / len(nodes), final.reason, details)


def _kind(parents_right: bool, value_right: bool, worked_right: bool) -> Kind:
    if parents_right:
        return "right" if value_right else "local"
    if value_right:
        return "restored"
    return "propagated" if worked_right else "local"
