"""The known functions: exact on rationals where they can be, else at the precision of an mpmath
context.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rewards.maths.limits import Budget, LimitError, UndefinedError

Value = Any  # a Fraction while it is exact, else an mpf or mpc of the evaluator's context
MAX_EXPONENT = 1e6  # of e, in anything that is not exact: mpmath is linear in it


def integer(value: Value) -> int:
    """The value as an int.

    Raises:
        UndefinedError: it is not an exact integer.
    """
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise UndefinedError("not an integer")
    return value.numerator


def factorial(value: Value, budget: Budget) -> Fraction:
    """n! of a non-negative integer."""
    n = integer(value)
    if n < 0:
        raise UndefinedError("factorial of a negative number")
    if n > budget.limits.max_factorial:
        raise LimitError("factorial")
    budget.spend_bits(int(n * max(n.bit_length() - 1, 1)))
    return Fraction(math.factorial(n))


def double_factorial(value: Value, budget: Budget) -> Fraction:
    """n!! of a non-negative integer."""
    n = integer(value)
    if n < 0:
        raise UndefinedError("double factorial of a negative number")
    if n > budget.limits.max_factorial:
        raise LimitError("factorial")
    budget.spend_bits(int(n * max(n.bit_length() - 1, 1) // 2 + 1))
    return Fraction(math.prod(range(n, 0, -2)))


def binomial(upper: Value, lower: Value, budget: Budget) -> Fraction:
    """n choose k of integers, n >= 0; 0 outside of 0 <= k <= n."""
    n, k = integer(upper), integer(lower)
    if n < 0:
        raise UndefinedError("binomial of a negative number")
    if k < 0 or k > n:
        return Fraction(0)
    budget.spend_bits(min(n, min(k, n - k) * n.bit_length()))
    return Fraction(math.comb(n, k))


def integer_root(value: int, degree: int) -> int | None:
    """The exact `degree`-th root of a non-negative integer, or None."""
    if value < 2:
        return value
    if degree == 2:
        root = math.isqrt(value)
    else:
        if degree > value.bit_length():
            return None
        root = (
            round(value ** (1 / degree))
            if value.bit_length() < 1000
            else 1 << (value.bit_length() // degree + 1)
        )
        while True:  # Newton's method from above
            better = ((degree - 1) * root + value // root ** (degree - 1)) // degree
            if better >= root:
                break
            root = better
    return root if root**degree == value else None


def exact_root(value: Fraction, degree: int, budget: Budget) -> Fraction | None:
    """The exact real root of a non-negative rational, or None where it is irrational."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    budget.spend_bits(bits)
    if bits > 4_000 and degree > 2:
        return None
    top, bottom = integer_root(value.numerator, degree), integer_root(value.denominator, degree)
    return None if top is None or bottom is None else Fraction(top, bottom)


EXACT: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "abs": lambda args: abs(args[0]),
    "floor": lambda args: Fraction(math.floor(args[0])),
    "ceil": lambda args: Fraction(math.ceil(args[0])),
    "sgn": lambda args: Fraction((args[0] > 0) - (args[0] < 0)),
    "min": min,
    "max": max,
    "gcd": lambda args: Fraction(math.gcd(*(integer(arg) for arg in args))),
    "lcm": lambda args: Fraction(math.lcm(*(integer(arg) for arg in args))),
    "mod": lambda args: Fraction(integer(args[0]) % _nonzero(integer(args[1]))),
}

# name -> method of an mpmath context
TRANSCENDENTAL: dict[str, str] = {
    **{"sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc"},
    **{
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
        "arccot": "acot",
        "arcsec": "asec",
        "arccsc": "acsc",
    },
    **{
        "sinh": "sinh",
        "cosh": "cosh",
        "tanh": "tanh",
        "coth": "coth",
        "sech": "sech",
        "csch": "csch",
    },
    **{"asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "ln": "ln"},
    **{"floor": "floor", "ceil": "ceil", "abs": "fabs", "sgn": "sign"},
}
_EXPONENTIAL = frozenset({"sinh", "cosh", "tanh", "coth", "sech", "csch"})


def transcendental(name: str, argument: Value, context: Any) -> Value:
    """A known function of one mpmath number.

    Raises:
        UndefinedError: a pole, or no such function.
        LimitError: the argument is too large to reduce.
    """
    if name not in TRANSCENDENTAL:
        raise UndefinedError(name)
    size = context.mag(argument) if argument else 0
    if size > (20 if name in _EXPONENTIAL else 200) and name not in ("ln", "abs", "sgn"):
        raise LimitError("argument")
    if name in ("floor", "ceil") and isinstance(argument, context.mpc):
        raise UndefinedError("floor of a complex number")
    if name == "ln" and not argument:
        raise UndefinedError("log of 0")
    result = getattr(context, TRANSCENDENTAL[name])(argument)
    if context.mag(result or context.one) > context.prec - 30 and name in (
        "tan",
        "cot",
        "sec",
        "csc",
    ):
        raise UndefinedError("pole")
    return result


def _nonzero(value: int) -> int:
    if value == 0:
        raise UndefinedError("modulo 0")
    return value
