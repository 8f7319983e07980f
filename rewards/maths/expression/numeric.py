"""Values of trees: exact rationals as long as possible, then mpmath at a stated precision, within a
budget.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath

from rewards.maths.expression.functions import (
    EXACT,
    MAX_EXPONENT,
    Value,
    binomial,
    double_factorial,
    exact_root,
    factorial,
    integer,
    transcendental,
)
from rewards.maths.expression.node import Node
from rewards.maths.limits import Budget, LimitError, UndefinedError

_MPMATH_ERRORS = (
    ValueError,
    ZeroDivisionError,
    OverflowError,
    TypeError,
    mpmath.libmp.NoConvergence,
)
_MAX_DEGREE = 10**9  # of a root
_local = threading.local()  # a context holds its precision, and answers may be graded in threads


def _context() -> Any:
    if not hasattr(_local, "context"):
        _local.context = mpmath.MPContext()
    return _local.context


class Evaluator:
    """Evaluates trees at one point and one precision.

    Args:
        digits: decimal digits of what is not exact.
        point: values of the variables.
        allow_complex: with False, a value off the real line is undefined.
        log_ten: `log` without a base is the decimal one, else the natural one.
    """

    def __init__(
        self,
        budget: Budget,
        digits: int,
        point: Mapping[str, Fraction],
        *,
        allow_complex: bool = True,
        log_ten: bool = False,
    ) -> None:
        self.budget = budget
        self.digits = digits
        self.point = dict(point)
        self.allow_complex = allow_complex
        self.log_ten = log_ten
        self.digits_needed = 0  # to keep both terms of the most uneven sum
        self.cost = 8 + (digits // 60) ** 2
        self.context = _context()
        self.context.dps = digits

    def value(self, node: Node) -> Value:
        """The value of a tree.

        Raises:
            UndefinedError: it has none here.
            LimitError: it is too large or too costly.
        """
        try:
            return self._value(node)
        except _MPMATH_ERRORS as error:
            raise UndefinedError(str(error)[:100]) from None

    def _value(self, node: Node) -> Value:
        op = node.op
        if op == "num":
            return node.value
        if op == "sym":
            return self._symbol(str(node.value))
        if op in ("sum", "prod"):
            return self._repeated(node)
        arguments = [self._value(arg) for arg in node.args]
        self.budget.spend(1)
        if op == "add":
            total = arguments[0]
            for term in arguments[1:]:
                total = self._add(total, term)
            return total
        if op == "mul":
            return self._multiply(arguments[0], arguments[1])
        if op == "div":
            return self._divide(arguments[0], arguments[1])
        if op == "pow":
            return self._power(arguments[0], arguments[1])
        if op == "call":
            return self._call(str(node.value), arguments)
        if op == "apply":
            return self._unknown(str(node.value), arguments)
        raise UndefinedError(op)

    def _symbol(self, name: str) -> Value:
        if name in self.point:
            return self.point[name]
        if name == "pi":
            return +self.context.pi
        if name == "e":
            return +self.context.e
        if name == "i":
            return self._checked(self.context.mpc(0, 1))
        raise UndefinedError(name)

    def inexact(self, value: Value) -> Value:
        """The value as a number of the context."""
        if isinstance(value, Fraction):
            bits = max(value.numerator.bit_length(), value.denominator.bit_length())
            if bits > 3 * self.digits:  # it would be rounded: 1 + 10^-100 is not 1
                self.digits_needed = max(self.digits_needed, int(bits * 0.302) + 30)
            return self.context.mpf(value.numerator) / value.denominator
        return value

    def _checked(self, value: Value) -> Value:
        """A complex value only where it may be; real if its imaginary part is exactly 0."""
        if isinstance(value, self.context.mpc):
            if value.imag == 0:
                return value.real
            if not self.allow_complex:
                raise UndefinedError("not real")
        if not self.context.isfinite(value):
            raise UndefinedError("infinite")
        return value

    def _add(self, left: Value, right: Value) -> Value:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            self.budget.spend_bits(_bits(left) + _bits(right))
            return left + right
        self.budget.spend(self.cost)
        left, right = self.inexact(left), self.inexact(right)
        if left and right:
            gap = abs(self.context.mag(left) - self.context.mag(right))
            if gap > 40:
                self.digits_needed = max(self.digits_needed, int(gap * 0.302) + 30)
        return self._checked(left + right)

    def _multiply(self, left: Value, right: Value) -> Value:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            self.budget.spend_bits(_bits(left) + _bits(right))
            return left * right
        if left == 0 or right == 0:
            return Fraction(0)
        self.budget.spend(self.cost)
        return self._checked(self.inexact(left) * self.inexact(right))

    def _divide(self, left: Value, right: Value) -> Value:
        if right == 0:
            raise UndefinedError("division by zero")
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            self.budget.spend_bits(_bits(left) + _bits(right))
            return left / right
        self.budget.spend(self.cost)
        return self._checked(self.inexact(left) / self.inexact(right))

    def _power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction):
            if exponent.denominator == 1:
                return self._integer_power(base, exponent.numerator)
            if isinstance(base, Fraction) or self._real(base):
                return self._rational_power(base, exponent)
        if base == 0:
            if self._real(exponent) and self.inexact(exponent) > 0:
                return Fraction(0)
            raise UndefinedError("power of 0")
        return self._general_power(self.inexact(base), self.inexact(exponent))

    def _integer_power(self, base: Value, exponent: int) -> Value:
        if base == 0 and exponent < 0:
            raise UndefinedError("division by zero")
        if isinstance(base, Fraction):
            if abs(base) == 1 or base == 0:
                return (
                    base ** (exponent % 2 if base == -1 else min(exponent, 1))
                    if base != 1
                    else base
                )
            if abs(exponent) > self.budget.limits.max_bits:
                raise LimitError("exponent")
            self.budget.spend_bits(_bits(base) * abs(exponent))
            return base**exponent
        if abs(exponent) > MAX_EXPONENT:
            raise LimitError("exponent")
        self.budget.spend(self.cost)
        return self._checked(base**exponent)

    def _rational_power(self, base: Value, exponent: Fraction) -> Value:
        """Odd roots of negative numbers are real, as in school; even ones are imaginary."""
        if base == 0:
            if exponent > 0:
                return Fraction(0)
            raise UndefinedError("power of 0")
        if base < 0:
            if exponent.denominator % 2:
                size = self._rational_power(-base, exponent)
                return -size if exponent.numerator % 2 else size
            return self._general_power(self.inexact(base), self.inexact(exponent))
        if isinstance(base, Fraction) and exponent.denominator <= 64:
            root = exact_root(base, exponent.denominator, self.budget)
            if root is not None:
                return self._integer_power(root, exponent.numerator)
        if exponent.denominator == 2:  # far cheaper than a general power
            self.budget.spend(self.cost)
            return self._integer_power(self.context.sqrt(self.inexact(base)), exponent.numerator)
        return self._general_power(self.inexact(base), self.inexact(exponent))

    def _general_power(self, base: Value, exponent: Value) -> Value:
        size = abs(exponent) * (abs(self.context.mag(base)) + 1)
        if size > MAX_EXPONENT:
            raise LimitError("exponent")
        self.budget.spend(4 * self.cost)
        return self._checked(self.context.power(base, exponent))

    def _call(self, name: str, arguments: list[Value]) -> Value:
        if name == "root":
            degree = integer(arguments[1])
            if not 1 <= degree <= _MAX_DEGREE:
                raise UndefinedError("degree of a root")
            return self._power(arguments[0], Fraction(1, degree))
        if name == "factorial":
            return factorial(arguments[0], self.budget)
        if name == "factorial2":
            return double_factorial(arguments[0], self.budget)
        if name == "binom":
            return binomial(arguments[0], arguments[1], self.budget)
        if name == "log":
            return self._log(arguments)
        if name in EXACT and all(isinstance(argument, Fraction) for argument in arguments):
            return EXACT[name](arguments)
        self.budget.spend(4 * self.cost)
        if name in ("min", "max"):
            values = [self.inexact(argument) for argument in arguments]
            return min(values) if name == "min" else max(values)
        return self._checked(transcendental(name, self.inexact(arguments[0]), self.context))

    def _log(self, arguments: list[Value]) -> Value:
        self.budget.spend(8 * self.cost)
        value = self._checked(transcendental("ln", self.inexact(arguments[0]), self.context))
        if len(arguments) == 1 and not self.log_ten:
            return value
        base = arguments[1] if len(arguments) > 1 else Fraction(10)
        below = self._checked(transcendental("ln", self.inexact(base), self.context))
        if below == 0:
            raise UndefinedError("base 1")
        return value / below

    def _unknown(self, name: str, arguments: list[Value]) -> Fraction:
        """An unknown function: some fixed number for every name and arguments."""
        parts = [
            str(arg) if isinstance(arg, Fraction) else self.context.nstr(arg, 15)
            for arg in arguments
        ]
        digest = hashlib.sha256("|".join([name, *parts]).encode()).digest()
        return Fraction(int.from_bytes(digest[:6], "big") + 1, 2**44)

    def _repeated(self, node: Node) -> Value:
        body, first, last = (
            node.args[0],
            integer(self._value(node.args[1])),
            integer(self._value(node.args[2])),
        )
        if last - first >= self.budget.limits.max_terms:
            raise LimitError("terms")
        index, is_sum = str(node.value), node.op == "sum"
        outer = self.point.get(index)
        total: Value = Fraction(0 if is_sum else 1)
        for k in range(first, last + 1):
            self.point[index] = Fraction(k)
            term = self._value(body)
            total = self._add(total, term) if is_sum else self._multiply(total, term)
        self.point.pop(index, None)
        if outer is not None:
            self.point[index] = outer
        return total

    def _real(self, value: Value) -> bool:
        return not isinstance(value, self.context.mpc)


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()
