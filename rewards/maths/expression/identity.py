"""Are two expressions the same number, or the same function of their variables?

Rationals are compared exactly. Other numbers are compared at two precisions: two forms of one
number differ by rounding, which shrinks when digits are added; different numbers keep their
distance. Functions are compared at fixed pseudo-random points (Schwartz-Zippel), so no identity has
to be known and no rule has to terminate. A few points tell smooth functions apart. |x|, max, floor,
gcd and the like agree with simpler functions on whole stretches, so where they occur many more
points follow: of both signs and parities, in both orders, with common factors, whole ones and zero,
around the constants of the two sides, and large ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache

from rewards.maths.expression.node import Node, Op, variables, walk
from rewards.maths.expression.numeric import Evaluator, Value
from rewards.maths.limits import Budget, LimitError, UndefinedError

_DIGITS = 30
_POINTS_NEEDED, _POINTS_TRIED = 4, 16
_ROUGH_POINTS = 30
_INTEGER_CALLS = ("factorial", "factorial2", "binom", "gcd", "lcm", "mod")
_ROUNDING = ("floor", "ceil")
_ROUGH_CALLS = (*_ROUNDING, "abs", "sgn", "min", "max", "gcd", "lcm", "mod", "binom", "arcsin", "arccos", "arctan")  # fmt: skip
INTEGER_LETTERS = frozenset("ijklmnpqN")  # by custom, in \lfloor n/2 \rfloor; x is a real number
_MAX_LANDMARKS, _LARGEST_LANDMARK = 6, 10**12
_AROUND_LANDMARK = (1, 1, 3, -1)  # points per landmark, as multiples of it
_SCALES = (2.0, 0.6, 3.5, 0.25, 1.3, 0.8, 5.0, 0.45)
_Point = dict[str, Fraction]


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
    both = [*walk(left), *walk(right)]
    bare_log = any(
        part.op is Op.CALL and part.value == "log" and len(part.args) == 1 for part in both
    )
    return any(
        _Pair(left, right, names, budget, log_ten=log_ten).is_same(rel_tol)
        for log_ten in ((False, True) if bare_log else (False,))
    )


def constant_ratio(left: Node, right: Node, budget: Budget) -> int:
    """The sign of the constant c with left == c * right at all points; 0 when there is none, 2 when
    c is complex.

    Raises:
        LimitError: too large or too costly to tell.
    """
    if not variables(left) or not variables(right):
        return 0  # numbers have a ratio always; it says nothing
    pair = _Pair(left, right, variables(left) | variables(right), budget)
    first: Value = None
    found = 0
    for evaluator, above, below in pair.values(pair.points(), 2 * _DIGITS):
        if not above and not below:
            continue  # both vanish here, which is a coincidence if they differ
        if not above or not below:
            return 0
        ratio = _ratio(above, below, evaluator)
        if first is None:
            first = ratio
        if not _close(ratio, first, evaluator):
            return 0
        found += 1
        if found == _POINTS_NEEDED + 1:
            break
    if found <= _POINTS_NEEDED:
        return 0
    for evaluator, above, below in pair.rough_values():
        if below and _grossly_different(_ratio(above, below, evaluator), first, evaluator):
            return 0
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
    tiny = evaluator.context.mpf(10) ** (20 - 2 * _DIGITS)
    if not isinstance(value, Fraction) and abs(value) < tiny:
        return 0
    return int(value > 0) - int(value < 0)


class _Pair:
    """Two trees, and how they are evaluated at points."""

    def __init__(
        self,
        left: Node,
        right: Node,
        names: frozenset[str],
        budget: Budget,
        *,
        log_ten: bool = False,
    ) -> None:
        self.left, self.right, self.names, self.budget = left, right, names, budget
        self.log_ten = log_ten
        parts = [*walk(left), *walk(right)] if names else []
        self.is_complex = not names or any(
            part.op is Op.SYM and part.value == "i" for part in parts
        )
        self.whole = _whole_names(left) | _whole_names(right) if names else names

    def is_same(self, rel_tol: float) -> bool:
        agreed = 0
        needed = _POINTS_NEEDED if self.names else 1
        for evaluator, first, second in self.values(self.points(), _DIGITS):
            try:
                if not self.agree(evaluator, first, second, 0.0 if self.names else rel_tol):
                    return False
            except UndefinedError:
                continue
            agreed += 1
            if agreed == needed:
                break
        for evaluator, first, second in self.rough_values():
            # One precision is enough: they differ grossly or not.
            if _grossly_different(first, second, evaluator):
                return False
            agreed += 1
        return agreed >= needed

    def agree(self, coarse: Evaluator, first: Value, second: Value, rel_tol: float) -> bool:
        """Are the values at one point equal?"""
        if isinstance(first, Fraction) and isinstance(second, Fraction):
            return first == second or abs(first - second) <= Fraction(rel_tol) * abs(second)
        different = _grossly_different(first, second, coarse)
        gap = abs(coarse.inexact(first) - coarse.inexact(second))
        if rel_tol > 0:
            return bool(gap <= rel_tol * abs(coarse.inexact(second)))
        if different:
            return False
        digits = 2 * max(_DIGITS, coarse.digits_needed)
        fine = self.evaluator(coarse.point, digits)
        first, second = (fine.inexact(fine.value(side)) for side in (self.left, self.right))
        fine_gap, ten = abs(first - second), fine.context.mpf(10)
        if fine_gap <= max(abs(first), abs(second)) * ten ** (15 - digits):
            return True
        return bool(gap > 0 and fine_gap <= gap * ten ** (-digits // 3))

    def evaluator(self, point: _Point, digits: int) -> Evaluator:
        complex_too, log_ten = self.is_complex, self.log_ten
        return Evaluator(self.budget, digits, point, allow_complex=complex_too, log_ten=log_ten)

    def values(
        self, points: Iterable[_Point], digits: int, *, extra: bool = False
    ) -> Iterator[tuple[Evaluator, Value, Value]]:
        """Both sides at the points where both are defined."""
        for point in points:
            evaluator = self.evaluator(point, digits)
            try:
                yield evaluator, evaluator.value(self.left), evaluator.value(self.right)
            except UndefinedError:
                continue
            except LimitError:
                if not extra or self.budget.left < 0:
                    raise  # else it is 900! at this point, which is large for an extra one

    def points(self) -> Iterator[_Point]:
        """Fixed pseudo-random points; even ones are positive, small positive integers for whole
        names.
        """
        tried = _POINTS_TRIED * (3 if self.whole else 1) if self.names else 1
        for attempt in range(tried):
            yield {
                name: _coordinate(name, attempt, name in self.whole) for name in sorted(self.names)
            }

    def rough_values(self) -> Iterator[tuple[Evaluator, Value, Value]]:
        """At more points of both signs and all sizes, if there is a function that is not smooth."""
        parts = [*walk(self.left), *walk(self.right)] if self.names else []
        if not any(variables(part) and (_is_kinked(part) or _alternates(part)) for part in parts):
            return
        constants = Evaluator(self.budget, _DIGITS, {}, allow_complex=False)
        sizes = {
            abs(value) for side in (self.left, self.right) for value in _constants(side, constants)
        }
        landmarks = [size for size in sorted(sizes) if 0 < size <= _LARGEST_LANDMARK][
            -_MAX_LANDMARKS:
        ]
        names = sorted(self.names)
        points = [
            {name: _rough_coordinate(name, attempt, name in self.whole) for name in names}
            for attempt in range(_ROUGH_POINTS)
        ] + [
            {name: _near(name, landmark, attempt, name in self.whole) for name in names}
            for landmark in landmarks
            for attempt in range(len(_AROUND_LANDMARK))
        ]
        yield from self.values(points, _DIGITS, extra=True)


@lru_cache(maxsize=4096)
def _coordinate(name: str, attempt: int, integers: bool) -> Fraction:
    generator = random.Random(f"{name}/{attempt}")  # seeded by text: the same in every process
    if integers:
        return Fraction(generator.randint(2, 14 + 6 * attempt))
    # So many numerators that no two names are in a simple ratio: where x = 2 y, they satisfy an
    # equation.
    size = Fraction(generator.randint(200_000, 1_000_000), 1_000_003)
    size *= Fraction(_SCALES[attempt % len(_SCALES)])
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
    size = Fraction(generator.randint(1, 1_009) * (1, 4, 15, 0, 300)[kind], 1_009)
    return size * generator.choice((-1, 1))


@lru_cache(maxsize=4096)
def _near(name: str, landmark: Fraction, attempt: int, integers: bool) -> Fraction:
    """A coordinate next to a landmark, or to a multiple of it."""
    generator = random.Random(f"{name}/near/{landmark}/{attempt}")
    size = landmark * _AROUND_LANDMARK[attempt]
    if integers:
        return Fraction(max(1, round(abs(size)) + generator.randint(-1, 2)))
    gap = Fraction(generator.randint(1, 1_009), 1_009)
    return size - gap if attempt % 2 else size + gap


def _constants(node: Node, evaluator: Evaluator) -> Iterator[Fraction]:
    """Values of the largest parts without variables, where they are rational: |x - 10| bends at 10,
    |x - 10^3| at 1000.
    """
    if variables(node) or node.op in (Op.SUM, Op.PROD):
        for arg in node.args:
            yield from _constants(arg, evaluator)
        return
    try:
        value = evaluator.value(node)
    except (UndefinedError, LimitError):
        return
    if isinstance(value, Fraction):
        yield value


def _is_kinked(part: Node) -> bool:
    """Absolute values, roundings, gcds; roots too, since \\sqrt{x^2} is |x|."""
    if part.op is Op.CALL:
        return part.value in _ROUGH_CALLS or (
            part.value == "root" and bool(variables(part.args[0]))
        )
    if part.op is not Op.POW:
        return False
    base, exponent = part.args
    if base.number == 0:
        return True
    if variables(exponent) or not variables(base):
        return False
    return exponent.op is Op.DIV or (exponent.number or Fraction(1)).denominator > 1


def _alternates(part: Node) -> bool:
    """A power of a negative constant to a variable, as (-1)^n."""
    if part.op is not Op.POW or not variables(part.args[1]):
        return False
    base = part.args[0]
    return (base.number or 0) < 0 or (base.op is Op.MUL and not variables(base))


def _whole_names(node: Node) -> frozenset[str]:
    """The names that stand for integers: in factorials and the like, in the limits of sums, in
    exponents of a negative constant; in floors only those that are integers by custom.
    """
    names: set[str] = set()
    by_custom = {name for name in variables(node) if name[0] in INTEGER_LETTERS}
    for part in walk(node):
        if part.op in (Op.SUM, Op.PROD) or (part.op is Op.CALL and part.value in _INTEGER_CALLS):
            names |= variables(part)
        elif _alternates(part):
            names |= variables(part.args[1])
        elif part.op is Op.CALL and part.value in _ROUNDING:
            names |= variables(part) & by_custom
    # Beside them n, m, k are integers too: n - \gcd(m, k).
    return frozenset(names | by_custom if names else names)


def _ratio(above: Value, below: Value, evaluator: Evaluator) -> Value:
    if isinstance(above, Fraction) and isinstance(below, Fraction):
        return above / below
    return evaluator.inexact(above) / evaluator.inexact(below)


def _grossly_different(first: Value, second: Value, evaluator: Evaluator) -> bool:
    """More apart than rounding can explain."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first != second
    first, second = evaluator.inexact(first), evaluator.inexact(second)
    size = max(abs(first), abs(second))
    return bool(abs(first - second) > size * 1e-8 and size > 1e-12)


def _close(first: Value, second: Value, evaluator: Evaluator) -> bool:
    """Equal up to rounding."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    first, second = evaluator.inexact(first), evaluator.inexact(second)
    return bool(abs(first - second) <= abs(first) * evaluator.context.mpf(10) ** (20 - 2 * _DIGITS))
