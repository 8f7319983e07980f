"""Closeness in units of a value's own resolution.

Processors differ in the order in which their kernels add (AVX-512, AVX2, none; Intel, AMD). So
equal computations differ by a few units in the last place of their largest intermediate value. An
absolute bound means another number of units for each value: 1e-5 is 5 of them at 18, 84 at 1.
"""

from __future__ import annotations

import pytest

FLOAT32_EPSILON = 2.0**-23


def close(expected, units=64, smallest=4.0):
    """`expected`, up to `units` times float32's resolution at its size.

    Args:
        expected: a number, a list of numbers, or a dictionary of numbers.
        units: how many times 2**-23. 64 allows for sums of a few thousand terms, whose errors grow
            with the square root of their number.
        smallest: values below it count as this large, because they are differences of values of
            that size. A log-prob near 0 is one of logits of several units.
    """
    relative = units * FLOAT32_EPSILON
    return pytest.approx(expected, rel=relative, abs=relative * smallest)
