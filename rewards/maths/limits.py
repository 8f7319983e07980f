"""Budgets of one answer. Every limit is checked before the work that it bounds is done."""

from __future__ import annotations

from dataclasses import dataclass


class LimitError(Exception):
    """The answer asks for more work than its budget allows."""


class NotMathError(Exception):
    """The text is not in the grammar; it can still be equal as text."""


class UndefinedError(Exception):
    """The expression has no value here: division by zero, log of 0, a real root of a negative
    number.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one answer may cost. `IN_PROCESS` is at most some tens of milliseconds, `WORKER` about
    one second.
    """

    max_chars: int  # of the answer's text
    max_tokens: int
    max_depth: int  # nesting of groups
    max_digits: int  # of one number as written
    max_bits: int  # of any exact intermediate result
    max_factorial: int
    max_terms: int  # of a written-out sum or product
    max_cost: int  # in units of one small arithmetic operation, a few microseconds


IN_PROCESS = Limits(
    max_chars=3_000,
    max_tokens=1_500,
    max_depth=40,
    max_digits=2_000,
    max_bits=40_000,
    max_factorial=3_000,
    max_terms=200,
    max_cost=15_000,
)
WORKER = Limits(
    max_chars=20_000,
    max_tokens=6_000,
    max_depth=60,
    max_digits=4_000,  # CPython refuses longer conversions from text
    max_bits=400_000,
    max_factorial=25_000,
    max_terms=5_000,
    max_cost=200_000,
)


class Budget:
    """Counts the cost of evaluating one pair of answers."""

    __slots__ = ("left", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.max_cost

    def spend(self, cost: int) -> None:
        """Take `cost` from the budget.

        Raises:
            LimitError: nothing is left.
        """
        self.left -= cost
        if self.left < 0:
            raise LimitError("cost")

    def spend_bits(self, bits: int) -> None:
        """Pay for one exact operation whose result has about `bits` bits (quadratic algorithms,
        30-bit digits).

        Raises:
            LimitError: the result would be too large, or nothing is left.
        """
        if bits > self.limits.max_bits:
            raise LimitError("digits")
        self.spend(1 + (bits // 1_000) ** 2)
