"""Are two expressions the same number, or the same function of their variables?

Rationals are compared exactly. Other numbers are compared at two precisions: two forms of one
number differ by rounding, which shrinks when digits are added; different numbers keep their
distance. Functions are compared at fixed pseudo-random points (Schwartz-Zippel), so no identity has
to be known and no rule has to terminate. A few points tell smooth functions apart. |x|, max, floor,
gcd and the like agree with simpler functions on whole stretches, so where they occur many more
points follow: of both signs and
    parities, in both
orders, with common factors, whole ones and zero, around the constants of the two sides, and large
ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from rewards.maths.expression.functions import Value
from rewards.maths.expression.node import Node, num, variables, walk
from rewards.maths.expression.numeric import Evaluator
from rewards.maths.limits import Budget, LimitError, UndefinedError

_DIGITS = 30
_POINTS_NEEDED, _POINTS_TRIED = 4, 16
_ROUGH_POINTS = 30
_INTEGER_CALLS = frozenset({"factorial", "factorial2", "binom", "gcd", "lcm", "mod"})
_ROUNDING = frozenset({"floor", "ceil"})
_ROUGH_CALLS = _ROUNDING | {
    "abs",
    "sgn",
    "min",
    "max",
    "gcd",
    "lcm",
    "mod",
    "binom",
    "arcsin",
    "arccos",
    "arctan",
}
INTEGER_LETTERS = frozenset("ijklmnpqN")  # by custom, in \lfloor n/2 \rfloor; x is a real number
_MAX_LANDMARKS, _LARGEST_LANDMARK = 6, 10**12
_AROUND_LANDMARK = (1, 1, 3, -1)  # points per landmark, as multiples of it
_SCALES = (2.0, 0.6, 3.5, 0.25, 1.3, 0.8, 5.0, 0.45)


def same_value(left: Node, right: Node, budget: Budget, rel_tol: float = 0.0) -> bool:
    """Equal at every point, constants included; `rel_tol` is relative to `right` and for numbers
    only.

    Raises:
        LimitError: too large or too costly to tell.
    """
    if left == right:
        return True
    names = variables(left) | variables(right)
    if "oo" in names:
        return False  # infinity is equal to itself only; nothing can be calculated with it
    if any(_is_bare_log(part) for side in (left, right) for part in walk(side)):
        return any(_same(left, right, names, budget, rel_tol, log_ten) for log_ten in (False, True))
    return _same(left, right, names, budget, rel_tol, log_ten=False)


def _is_bare_log(part: Node) -> bool:
    return part.op == "call" and part.value == "log" and len(part.args) == 1


def _same(
    left: Node, right: Node, names: frozenset[str], budget: Budget, rel_tol: float, log_ten: bool
) -> bool:
    if not names:
        try:
            return _same_at({}, left, right, budget, rel_tol, allow_complex=True, log_ten=log_ten)
        except UndefinedError:
            return False
    allow_complex = any(
        part.op == "sym" and part.value == "i" for side in (left, right) for part in walk(side)
    )
    whole = _whole_names(left) | _whole_names(right)
    agreed = 0
    for point in points(names, whole):
        try:
            if not _same_at(
                point, left, right, budget, 0.0, allow_complex=allow_complex, log_ten=log_ten
            ):
                return False
        except UndefinedError:
            continue
        agreed += 1
        if agreed == _POINTS_NEEDED:
            break
    if not (_is_rough(left) or _is_rough(right)):
        return agreed == _POINTS_NEEDED
    for evaluator in _rough_evaluators(
        (left, right), whole, budget, allow_complex=allow_complex, log_ten=log_ten
    ):
        try:
            if _grossly_different(evaluator.value(left), evaluator.value(right), evaluator):
                return False
        except UndefinedError:
            continue
        except LimitError:
            if budget.left < 0:
                raise
            continue  # 900! at this point, which is large for an extra one
        agreed += 1
    return agreed >= _POINTS_NEEDED


def _rough_evaluators(
    sides: tuple[Node, Node],
    whole: frozenset[str],
    budget: Budget,
    *,
    allow_complex: bool,
    log_ten: bool = False,
) -> Iterator[Evaluator]:
    """At the extra points of functions that are not smooth. One precision is enough: they differ
    grossly or not.
    """
    for point in rough_points(
        variables(sides[0]) | variables(sides[1]), whole, _landmarks(*sides, budget)
    ):
        yield Evaluator(budget, _DIGITS, point, allow_complex=allow_complex, log_ten=log_ten)


def constant_ratio(left: Node, right: Node, budget: Budget) -> int:
    """The sign of the constant c with left == c * right at all points; 0 when there is none, 2 when
    c is complex.

    Raises:
        LimitError: too large or too costly to tell.
    """
    names = variables(left) | variables(right)
    if not variables(left) or not variables(right):
        return 0  # numbers have a ratio always; it says nothing
    ratios: list[Value] = []
    allow_complex = any(
        part.op == "sym" and part.value == "i" for side in (left, right) for part in walk(side)
    )
    whole = _whole_names(left) | _whole_names(right)
    for point in points(names, whole):
        evaluator = Evaluator(budget, 2 * _DIGITS, point, allow_complex=allow_complex)
        try:
            above, below = evaluator.value(left), evaluator.value(right)
        except UndefinedError:
            continue
        if not above and not below:
            continue  # both vanish here, which is a coincidence if they differ
        if not above or not below:
            return 0
        ratio = (
            above / below
            if _both_exact(above, below)
            else evaluator.inexact(above) / evaluator.inexact(below)
        )
        if ratios and not _close(ratio, ratios[0], evaluator):
            return 0
        ratios.append(ratio)
        if len(ratios) == _POINTS_NEEDED + 1:
            break
    if len(ratios) <= _POINTS_NEEDED:
        return 0
    first = ratios[0]
    if _is_rough(left) or _is_rough(right):
        scaled = Node("div", (left, right))
        for evaluator in _rough_evaluators(
            (left, right), whole, budget, allow_complex=allow_complex
        ):
            try:
                if _grossly_different(evaluator.value(scaled), first, evaluator):
                    return 0
            except UndefinedError:
                continue
            except LimitError:
                if budget.left < 0:
                    raise
    return 2 if isinstance(first, evaluator.context.mpc) else (1 if first > 0 else -1)


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
    if not isinstance(value, Fraction) and abs(value) < evaluator.context.mpf(10) ** (
        20 - 2 * _DIGITS
    ):
        return 0
    return int(value > 0) - int(value < 0)


@lru_cache(maxsize=4096)
def _coordinate(name: str, attempt: int, integers: bool) -> Fraction:
    generator = random.Random(f"{name}/{attempt}")  # seeded by text: the same in every process
    if integers:
        return Fraction(generator.randint(2, 14 + 6 * attempt))
    # so many numerators that no two names are in a simple ratio: where x = 2 y, they satisfy an
    # equation
    size = Fraction(generator.randint(200_000, 1_000_000), 1_000_003) * Fraction(
        _SCALES[attempt % len(_SCALES)]
    )
    return -size if attempt % 2 and generator.random() < 0.6 else size


@lru_cache(maxsize=4096)
def _rough_coordinate(name: str, attempt: int, integers: bool) -> Fraction:
    """Attempts take turns: small, middling, large, whole."""
    generator = random.Random(f"{name}/rough/{attempt}")
    kind = (attempt + generator.randint(0, 1)) % 5
    if integers:
        return Fraction(generator.randint(1, (6, 13, 30, 60, 900)[kind]))
    if kind == 3:
        return Fraction(generator.randint(-6, 6), 2)
    return Fraction(
        generator.randint(1, 1_009) * (1, 4, 15, 0, 300)[kind], 1_009
    ) * generator.choice((-1, 1))


@lru_cache(maxsize=4096)
def _near(name: str, landmark: Fraction, attempt: int, integers: bool) -> Fraction:
    """A coordinate next to a landmark, or to a multiple of it."""
    generator = random.Random(f"{name}/near/{landmark}/{attempt}")
    size = landmark * _AROUND_LANDMARK[attempt]
    if integers:
        return Fraction(max(1, round(abs(size)) + generator.randint(-1, 2)))
    sign = -1 if attempt % 2 else 1
    return size + sign * Fraction(generator.randint(1, 1_009), 1_009)


def points(names: frozenset[str], whole: frozenset[str]) -> Iterator[dict[str, Fraction]]:
    """Fixed pseudo-random points; even ones are positive, small positive integers for the `whole`
    names.
    """
    for attempt in range(_POINTS_TRIED * (3 if whole else 1)):
        yield {name: _coordinate(name, attempt, name in whole) for name in sorted(names)}


def rough_points(
    names: frozenset[str], whole: frozenset[str], landmarks: tuple[Fraction, ...]
) -> Iterator[dict[str, Fraction]]:
    """Fixed pseudo-random points of both signs and all sizes, positive integers for the `whole`
    names.
    """
    for attempt in range(_ROUGH_POINTS):
        yield {name: _rough_coordinate(name, attempt, name in whole) for name in sorted(names)}
    for landmark in landmarks:
        for attempt in range(len(_AROUND_LANDMARK)):
            yield {name: _near(name, landmark, attempt, name in whole) for name in sorted(names)}


def _landmarks(left: Node, right: Node, budget: Budget) -> tuple[Fraction, ...]:
    """Constants of both sides, also those to be calculated: |x - 10| bends at 10, |x - 10^3| at
    1000.
    """
    evaluator = Evaluator(budget, _DIGITS, {}, allow_complex=False)
    found = {abs(value) for side in (left, right) for value in _constants(side, evaluator)}
    return tuple(size for size in sorted(found) if 0 < size <= _LARGEST_LANDMARK)[-_MAX_LANDMARKS:]


def _constants(node: Node, evaluator: Evaluator) -> Iterator[Fraction]:
    """Values of the largest parts without variables, where they are rational."""
    if variables(node) or node.op in ("sum", "prod"):
        for arg in node.args:
            yield from _constants(arg, evaluator)
        return
    try:
        value = evaluator.value(node)
    except (UndefinedError, LimitError):
        return
    if isinstance(value, Fraction):
        yield value


def _is_rough(node: Node) -> bool:
    """Does it hold a function that is not smooth, of something that varies?"""
    return any(variables(part) and (_is_kinked(part) or _alternates(part)) for part in walk(node))


def _is_kinked(part: Node) -> bool:
    """Absolute values, roundings, gcds; roots too, since \sqrt{x^2} is |x|."""
    if part.op == "call":
        return part.value in _ROUGH_CALLS or (
            part.value == "root" and bool(variables(part.args[0]))
        )
    exponent = part.args[1] if part.op == "pow" else None
    if part.op == "pow" and part.args[0] == num(0):
        return True
    if exponent is None or variables(exponent) or not variables(part.args[0]):
        return False
    return exponent.op == "div" or (exponent.op == "num" and exponent.value.denominator > 1)  # type: ignore[union-attr]


def _alternates(part: Node) -> bool:
    """A power of a negative constant to a variable, as (-1)^n."""
    if part.op != "pow" or not variables(part.args[1]) or part.args[0].op not in ("num", "mul"):
        return False
    base = part.args[0]
    return (base.op == "num" and base.value < 0) or (base.op == "mul" and not variables(base))  # type: ignore[operator]


def _whole_names(node: Node) -> frozenset[str]:
    """The names that stand for integers: in factorials and the like, in the limits of sums, in
    exponents of a negative constant; in floors only those that are integers by custom.
    """
    names: frozenset[str] = frozenset()
    for part in walk(node):
        if part.op in ("sum", "prod") or (part.op == "call" and part.value in _INTEGER_CALLS):
            names |= variables(part)
        elif _alternates(part):
            names |= variables(part.args[1])
        elif part.op == "call" and part.value in _ROUNDING:
            names |= frozenset(name for name in variables(part) if name[0] in INTEGER_LETTERS)
    # beside them n, m, k are integers too: n - \gcd(m, k)
    return (
        names | frozenset(name for name in variables(node) if name[0] in INTEGER_LETTERS)
        if names
        else names
    )


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
        return first == second or (
            rel_tol > 0 and abs(first - second) <= Fraction(rel_tol) * abs(second)
        )
    different = _grossly_different(first, second, coarse)
    first, second = coarse.inexact(first), coarse.inexact(second)
    gap = abs(first - second)
    if rel_tol > 0:
        return bool(gap <= rel_tol * abs(second))
    if different:
        return False
    digits = 2 * max(digits, coarse.digits_needed)
    fine = Evaluator(budget, digits, point, allow_complex=allow_complex, log_ten=log_ten)
    first, second = fine.inexact(fine.value(left)), fine.inexact(fine.value(right))
    fine_gap = abs(first - second)
    ten = fine.context.mpf(10)
    if fine_gap <= max(abs(first), abs(second)) * ten ** (15 - digits):
        return True
    return bool(gap > 0 and fine_gap <= gap * ten ** (-digits // 3))


def _grossly_different(first: Value, second: Value, evaluator: Evaluator) -> bool:
    """More apart than rounding can explain."""
    if _both_exact(first, second):
        return bool(first != second)
    first, second = evaluator.inexact(first), evaluator.inexact(second)
    size = max(abs(first), abs(second))
    return bool(abs(first - second) > size * 1e-8 and size > 1e-12)


def _both_exact(first: Value, second: Value) -> bool:
    return isinstance(first, Fraction) and isinstance(second, Fraction)


def _close(first: Value, second: Value, evaluator: Evaluator) -> bool:
    if _both_exact(first, second):
        return bool(first == second)
    first, second = evaluator.inexact(first), evaluator.inexact(second)
    return bool(abs(first - second) <= abs(first) * evaluator.context.mpf(10) ** (20 - 2 * _DIGITS))
