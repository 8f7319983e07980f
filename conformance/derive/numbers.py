"""Arithmetic in eighty digits, and what a case is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpmath.ctx_mp import MPContext

Real = Any  # mpmath's number, which has no types
Rows = list[list[Real]]

exact = MPContext()  # its own context, so that nobody else's precision changes
exact.dps = 80
STEP = exact.mpf(10) ** -30  # a difference quotient is then right to 50 digits
NOTHING = exact.mpf(10) ** -40  # smaller than any value of a case, larger than the quotients' error

TOLERANCE = {"relative": 1e-5, "absolute": 1e-6}  # float32 passes, another formula does not


def real(value: Any) -> Any:
    """The float64 numbers of nested lists as they are, to the last binary digit. None stays."""
    if isinstance(value, Mapping):
        return {name: real(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [real(item) for item in value]
    return value if value is None or isinstance(value, bool) else exact.mpf(value)


def rounded(value: Any) -> Any:
    """The nearest float64 of every number."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    return 0.0 if abs(value) < NOTHING else float(value)


def mean(values: Sequence[Real]) -> Real:
    """Their mean; 0 of nothing."""
    return exact.fsum(values) / len(values) if values else exact.mpf(0)


def variance(values: Sequence[Real], ddof: int) -> Real:
    """Sum of squared distances from the mean, by n - ddof; 0 where that is no positive number."""
    if len(values) <= ddof:
        return exact.mpf(0)
    middle = mean(values)
    return exact.fsum((value - middle) ** 2 for value in values) / (len(values) - ddof)


def gradient(function: Callable[[Rows], Real], rows: Rows) -> Rows:
    """Central difference quotients of a function by every number of its rows."""

    def moved(i: int, j: int, step: Real) -> Real:
        changed = [list(row) for row in rows]
        changed[i][j] += step
        return function(changed)

    return [
        [(moved(i, j, STEP) - moved(i, j, -STEP)) / (2 * STEP) for j in range(len(row))]
        for i, row in enumerate(rows)
    ]


def case(
    identifier: str,
    kind: str,
    *,
    source: str,
    trap: str,
    input: Mapping[str, Any],
    settings: Mapping[str, Any],
    expected: Mapping[str, Any],
    alternatives: Mapping[str, Mapping[str, Any]] | None = None,
    tolerance: Mapping[str, float] = TOLERANCE,
) -> dict[str, Any]:
    """One case as it is written. An alternative is what another setting, or the trap, gives."""
    return {
        "id": identifier,
        "kind": kind,
        "source": source,
        "trap": trap,
        "input": dict(input),
        "settings": dict(settings),
        "expected": rounded(expected),
        "alternatives": rounded(alternatives or {}),
        "tolerance": dict(tolerance),
    }
