"""Are two expressions the same number, or the same function of their variables?

Rationals are compared exactly. Other numbers are compared at two precisions: two forms of one number differ
by rounding, which shrinks when digits are added; different numbers keep their distance. Functions are
compared at fixed pseudo-random points (Schwartz-Zippel), so no identity has to be known and no rule has to
terminate.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from rewards.maths.functions import Value
from rewards.maths.limits import Budget, UndefinedError
from rewards.maths.node import Node, variables, walk
from rewards.maths.numeric import Evaluator

_DIGITS = 30
_POINTS_NEEDED, _POINTS_TRIED = 4, 16
_INTEGER_CALLS = frozenset({"factorial", "factorial2", "binom", "floor", "ceil", "gcd", "lcm", "mod"})
_SCALES = (2.0, 0.6, 3.5, 0.25, 1.3, 0.8, 5.0, 0.45)


def same_value(left: Node, right: Node, budget: Budget, rel_tol: float = 0.0) -> bool:
    """Equal at every point, constants included; `rel_tol` is relative to `right` and for numbers only.

    Raises:
        LimitError: too large or too costly to tell.
    """
    if left == right:
        return True
    names = variables(left) | variables(right)
    if any(_is_bare_log(part) for side in (left, right) for part in walk(side)):
        return any(_same(left, right, names, budget, rel_tol, log_ten) for log_ten in (False, True))
    return _same(left, right, names, budget, rel_tol, log_ten=False)


def _is_bare_log(part: Node) -> bool:
    return part.op == "call" and part.value == "log" and len(part.args) == 1


def _same(left: Node, right: Node, names: frozenset[str], budget: Budget, rel_tol: float, log_ten: bool) -> bool:
    if not names:
        try:
            return _same_at({}, left, right, budget, rel_tol, allow_complex=True, log_ten=log_ten)
        except UndefinedError:
            return False
    allow_complex = any(part.op == "sym" and part.value == "i" for side in (left, right) for part in walk(side))
    agreed = 0
    for point in points(names, integers=_wants_integers(left) or _wants_integers(right)):
        try:
            if not _same_at(point, left, right, budget, 0.0, allow_complex=allow_complex, log_ten=log_ten):
                return False
        except UndefinedError:
            continue
        agreed += 1
        if agreed == _POINTS_NEEDED:
            return True
    return False


def constant_ratio(left: Node, right: Node, budget: Budget) -> int:
    """The sign of the constant c with left == c * right at all points; 0 when there is none, 2 when c is
    complex.

    Raises:
        LimitError: too large or too costly to tell.
    """
    names = variables(left) | variables(right)
    if not variables(left) or not variables(right):
        return 0  # numbers have a ratio always; it says nothing
    ratios: list[Value] = []
    allow_complex = any(part.op == "sym" and part.value == "i" for side in (left, right) for part in walk(side))
    for point in points(names, integers=_wants_integers(left) or _wants_integers(right)):
        evaluator = Evaluator(budget, 2 * _DIGITS, point, allow_complex=allow_complex)
        try:
            above, below = evaluator.value(left), evaluator.value(right)
        except UndefinedError:
            continue
        if not above or not below:
            return 0
        ratio = above / below if _both_exact(above, below) else evaluator.inexact(above) / evaluator.inexact(below)
        if ratios and not _close(ratio, ratios[0], evaluator):
            return 0
        ratios.append(ratio)
        if len(ratios) == _POINTS_NEEDED + 1:
            first = ratios[0]
            return 2 if isinstance(first, evaluator.context.mpc) else (1 if first > 0 else -1)
    return 0


def sign(node: Node, budget: Budget) -> int | None:
    """-1, 0 or 1 for a real constant; None when it has variables, is not real or not defined.

    Raises:
        LimitError: too large or too costly to tell.
    """
    if variables(node):
        return None
    evaluator = Evaluator(budget, 2 * _DIGITS, {}, allow_complex=False)
    try:
        value = evaluator.value(node)
    except UndefinedError:
        return None
    if not isinstance(value, Fraction) and abs(value) < evaluator.context.mpf(10) ** (20 - 2 * _DIGITS):
        return 0
    return int(value > 0) - int(value < 0)


@lru_cache(maxsize=4096)
def _coordinate(name: str, attempt: int, integers: bool) -> Fraction:
    generator = random.Random(f"{name}/{attempt}")  # seeded by text: the same in every process
    if integers:
        return Fraction(generator.randint(2, 14 + 6 * attempt))
    size = Fraction(generator.randint(200, 1_000), 1_009) * Fraction(_SCALES[attempt % len(_SCALES)])
    return -size if attempt % 2 and generator.random() < 0.6 else size


def points(names: frozenset[str], *, integers: bool) -> Iterator[dict[str, Fraction]]:
    """Fixed pseudo-random points; even ones are positive, small positive integers where those are asked for."""
    for attempt in range(_POINTS_TRIED * (3 if integers else 1)):
        yield {name: _coordinate(name, attempt, integers) for name in sorted(names)}


def _wants_integers(node: Node) -> bool:
    """Factorials and the like, and powers of a negative constant, are about integer variables."""
    for part in walk(node):
        if not variables(part):
            continue
        if part.op in ("sum", "prod") or (part.op == "call" and part.value in _INTEGER_CALLS):
            return True
        if part.op == "pow" and variables(part.args[1]) and part.args[0].op in ("num", "mul"):
            base = part.args[0]
            if (base.op == "num" and base.value < 0) or (base.op == "mul" and not variables(base)):  # type: ignore[operator]
                return True
    return False


def _same_at(
    point: dict[str, Fraction],
    left: Node,
    right: Node,
    budget: Budget,
    rel_tol: float,
    *,
    allow_complex: bool,
    log_ten: bool,
) -> bool:
    digits = _DIGITS
    coarse = Evaluator(budget, digits, point, allow_complex=allow_complex, log_ten=log_ten)
    first, second = coarse.value(left), coarse.value(right)
    if _both_exact(first, second):
        return first == second or (rel_tol > 0 and abs(first - second) <= Fraction(rel_tol) * abs(second))
    first, second = coarse.inexact(first), coarse.inexact(second)
    gap, size = abs(first - second), max(abs(first), abs(second))
    if rel_tol > 0:
        return bool(gap <= rel_tol * abs(second))
    if gap > size * 1e-8 and size > 1e-12:
        return False
    digits = 2 * max(digits, coarse.digits_needed)
    fine = Evaluator(budget, digits, point, allow_complex=allow_complex, log_ten=log_ten)
    first, second = fine.inexact(fine.value(left)), fine.inexact(fine.value(right))
    fine_gap = abs(first - second)
    ten = fine.context.mpf(10)
    if fine_gap <= max(abs(first), abs(second)) * ten ** (15 - digits):
        return True
    return bool(gap > 0 and fine_gap <= gap * ten ** (-digits // 3))


def _both_exact(first: Value, second: Value) -> bool:
    return isinstance(first, Fraction) and isinstance(second, Fraction)


def _close(first: Value, second: Value, evaluator: Evaluator) -> bool:
    if _both_exact(first, second):
        return bool(first == second)
    first, second = evaluator.inexact(first), evaluator.inexact(second)
    return bool(abs(first - second) <= abs(first) * evaluator.context.mpf(10) ** (20 - 2 * _DIGITS))
