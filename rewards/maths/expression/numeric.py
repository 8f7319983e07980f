"""Values of trees: exact rationals as long as possible, then mpmath at a stated precision, within a
budget.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from rewards.maths.expression.node import Node, Op
from rewards.maths.limits import Budget, LimitError, UndefinedError

Value = Any  # a Fraction while it is exact, else an mpf or mpc of the evaluator's context
_MPMATH_ERRORS = (
    ValueError,
    ZeroDivisionError,
    OverflowError,
    TypeError,
    mpmath.libmp.NoConvergence,
)
_MAX_EXPONENT = 1e6  # of e, in anything that is not exact: mpmath is linear in it
_MAX_DEGREE = 10**9  # of a root
_local = threading.local()  # a context holds its precision, and answers may be graded in threads


def _integer(value: Value) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise UndefinedError("not an integer")
    return value.numerator


_EXACT: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "abs": lambda args: abs(args[0]),
    "floor": lambda args: Fraction(math.floor(args[0])),
    "ceil": lambda args: Fraction(math.ceil(args[0])),
    "sgn": lambda args: Fraction((args[0] > 0) - (args[0] < 0)),
    "min": min,
    "max": max,
    "gcd": lambda args: Fraction(math.gcd(*(_integer(arg) for arg in args))),
    "lcm": lambda args: Fraction(math.lcm(*(_integer(arg) for arg in args))),
    "mod": lambda args: Fraction(_integer(args[0]) % _integer(args[1])),
}
_EXPONENTIAL = ("sinh", "cosh", "tanh", "coth", "sech", "csch")
_CIRCULAR = ("sin", "cos", "tan", "cot", "sec", "csc")
# name -> method of an mpmath context
_TRANSCENDENTAL = {name: name for name in (*_CIRCULAR, *_EXPONENTIAL, "asinh", "acosh", "atanh", "ln", "floor", "ceil")} | {
    "arc" + name: "a" + name for name in _CIRCULAR
} | {"abs": "fabs", "sgn": "sign"}  # fmt: skip


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
        if not hasattr(_local, "context"):
            _local.context = mpmath.MPContext()
        self.context = _local.context
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
        if op is Op.NUM:
            return node.value
        if op is Op.SYM:
            return self._symbol(str(node.value))
        if op in (Op.SUM, Op.PROD):
            return self._repeated(node)
        arguments = [self._value(arg) for arg in node.args]
        self.budget.spend(1)
        match op:
            case Op.ADD:
                total = arguments[0]
                for term in arguments[1:]:
                    total = self._add(total, term)
                return total
            case Op.MUL:
                return self._multiply(arguments[0], arguments[1])
            case Op.DIV:
                return self._divide(arguments[0], arguments[1])
            case Op.POW:
                return self._power(arguments[0], arguments[1])
            case Op.CALL:
                return self._call(str(node.value), arguments)
            case Op.APPLY:  # an unknown function: some fixed number for every name and arguments
                exact = [isinstance(arg, Fraction) for arg in arguments]
                parts = [
                    str(arg) if is_exact else self.context.nstr(arg, 15)
                    for arg, is_exact in zip(arguments, exact, strict=True)
                ]
                digest = hashlib.sha256("|".join([str(node.value), *parts]).encode()).digest()
                return Fraction(int.from_bytes(digest[:6], "big") + 1, 2**44)
        raise UndefinedError(op)

    def _symbol(self, name: str) -> Value:
        if name in self.point:
            return self.point[name]
        match name:
            case "pi":
                return +self.context.pi
            case "e":
                return +self.context.e
            case "i":
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

    def _is_exact(self, left: Value, right: Value) -> bool:
        """Are both exact? It pays for one operation with them."""
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            self.budget.spend_bits(_bits(left) + _bits(right))
            return True
        self.budget.spend(self.cost)
        return False

    def _add(self, left: Value, right: Value) -> Value:
        if self._is_exact(left, right):
            return left + right
        left, right = self.inexact(left), self.inexact(right)
        if left and right:
            gap = abs(self.context.mag(left) - self.context.mag(right))
            if gap > 40:
                self.digits_needed = max(self.digits_needed, int(gap * 0.302) + 30)
        return self._checked(left + right)

    def _multiply(self, left: Value, right: Value) -> Value:
        if self._is_exact(left, right):
            return left * right
        if left == 0 or right == 0:
            return Fraction(0)
        return self._checked(self.inexact(left) * self.inexact(right))

    def _divide(self, left: Value, right: Value) -> Value:
        if right == 0:
            raise UndefinedError("division by zero")
        if self._is_exact(left, right):
            return left / right
        return self._checked(self.inexact(left) / self.inexact(right))

    def _power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self._integer_power(base, exponent.numerator)
        is_real = not isinstance(exponent, self.context.mpc)
        if base == 0:
            if is_real and self.inexact(exponent) > 0:
                return Fraction(0)
            raise UndefinedError("power of 0")
        if isinstance(exponent, Fraction) and not isinstance(base, self.context.mpc):
            if base > 0:
                return self._rational_power(base, exponent)
            if exponent.denominator % 2:  # odd roots of negative numbers are real, as in school
                size = self._rational_power(-base, exponent)
                return -size if exponent.numerator % 2 else size
        return self._general_power(self.inexact(base), self.inexact(exponent))

    def _integer_power(self, base: Value, exponent: int) -> Value:
        if base == 0 and exponent < 0:
            raise UndefinedError("division by zero")
        if not isinstance(base, Fraction):
            if abs(exponent) > _MAX_EXPONENT:
                raise LimitError("exponent")
            self.budget.spend(self.cost)
            return self._checked(base**exponent)
        if base in (0, 1, -1):
            return base ** (exponent % 2 if base else min(exponent, 1))
        if abs(exponent) > self.budget.limits.max_bits:
            raise LimitError("exponent")
        self.budget.spend_bits(_bits(base) * abs(exponent))
        return base**exponent

    def _rational_power(self, base: Value, exponent: Fraction) -> Value:
        """A rational power of a positive number, exact where its root is rational."""
        if isinstance(base, Fraction) and exponent.denominator <= 64:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            self.budget.spend_bits(bits)
            top = bottom = None
            if bits <= 4_000 or exponent.denominator == 2:
                top = _integer_root(base.numerator, exponent.denominator)
                bottom = _integer_root(base.denominator, exponent.denominator)
            if top is not None and bottom is not None:
                return self._integer_power(Fraction(top, bottom), exponent.numerator)
        if exponent.denominator == 2:  # far cheaper than a general power
            self.budget.spend(self.cost)
            return self._integer_power(self.context.sqrt(self.inexact(base)), exponent.numerator)
        return self._general_power(self.inexact(base), self.inexact(exponent))

    def _general_power(self, base: Value, exponent: Value) -> Value:
        size = abs(exponent) * (abs(self.context.mag(base)) + 1)
        if size > _MAX_EXPONENT:
            raise LimitError("exponent")
        self.budget.spend(4 * self.cost)
        return self._checked(self.context.power(base, exponent))

    def _call(self, name: str, arguments: list[Value]) -> Value:
        match name:
            case "root":
                degree = _integer(arguments[1])
                if not 1 <= degree <= _MAX_DEGREE:
                    raise UndefinedError("degree of a root")
                return self._power(arguments[0], Fraction(1, degree))
            case "factorial" | "factorial2":
                n, step = _integer(arguments[0]), 1 if name == "factorial" else 2
                if n < 0:
                    raise UndefinedError("factorial of a negative number")
                if n > self.budget.limits.max_factorial:
                    raise LimitError("factorial")
                self.budget.spend_bits(n * max(n.bit_length() - 1, 1) // step + step - 1)
                return Fraction(math.factorial(n) if step == 1 else math.prod(range(n, 0, -2)))
            case "binom":  # 0 outside of 0 <= k <= n
                n, k = _integer(arguments[0]), _integer(arguments[1])
                if n < 0:
                    raise UndefinedError("binomial of a negative number")
                if k < 0 or k > n:
                    return Fraction(0)
                self.budget.spend_bits(min(n, min(k, n - k) * n.bit_length()))
                return Fraction(math.comb(n, k))
            case "log":
                self.budget.spend(8 * self.cost)
                value = self._transcendental("ln", self.inexact(arguments[0]))
                if len(arguments) == 1 and not self.log_ten:
                    return value
                base = arguments[1] if len(arguments) > 1 else Fraction(10)
                below = self._transcendental("ln", self.inexact(base))
                if below == 0:
                    raise UndefinedError("base 1")
                return value / below
        if name in _EXACT and all(isinstance(argument, Fraction) for argument in arguments):
            return _EXACT[name](arguments)
        self.budget.spend(4 * self.cost)
        if name in ("min", "max"):
            values = [self.inexact(argument) for argument in arguments]
            return min(values) if name == "min" else max(values)
        return self._transcendental(name, self.inexact(arguments[0]))

    def _transcendental(self, name: str, argument: Value) -> Value:
        """A known function of one number, where it has no pole and can be reduced."""
        if name not in _TRANSCENDENTAL:
            raise UndefinedError(name)
        context = self.context
        size = context.mag(argument) if argument else 0
        if size > (20 if name in _EXPONENTIAL else 200) and name not in ("ln", "abs", "sgn"):
            raise LimitError("argument")
        if name in ("floor", "ceil") and isinstance(argument, context.mpc):
            raise UndefinedError("floor of a complex number")
        if name == "ln" and not argument:
            raise UndefinedError("log of 0")
        result = getattr(context, _TRANSCENDENTAL[name])(argument)
        if name in _CIRCULAR[2:] and context.mag(result or context.one) > context.prec - 30:
            raise UndefinedError("pole")
        return self._checked(result)

    def _repeated(self, node: Node) -> Value:
        """A sum or product that is written out."""
        body = node.args[0]
        first, last = (_integer(self._value(end)) for end in node.args[1:])
        if last - first >= self.budget.limits.max_terms:
            raise LimitError("terms")
        index, is_sum = str(node.value), node.op is Op.SUM
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


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _integer_root(value: int, degree: int) -> int | None:
    """The exact `degree`-th root of a non-negative integer, or None."""
    if value < 2:
        return value
    if degree == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    bits = value.bit_length()
    if degree > bits:
        return None
    root = round(value ** (1 / degree)) + 1 if bits < 1000 else 1 << (bits // degree + 1)
    while True:  # Newton's method from above
        better = ((degree - 1) * root + value // root ** (degree - 1)) // degree
        if better >= root:
            return root if root**degree == value else None
        root = better
