"""Slopes and means with their errors, by hand."""

import math

import pytest

from grpo.stages import trend

# Sum 0, sum over the steps 0, neighbours of unlike signs: their products add up to -1.
WAVES = [1, -1, -1, 1, 1, -1, -1, 1]
# The same with neighbours alike: products 7 of 16, so they count as 16 x (9/16) / (23/16) = 6.26.
SLOW = [1, 1, -1, -1, -1, -1, 1, 1] * 2


def points(values):
    return list(enumerate(values))


def test_slope_and_error_of_independent_residuals():
    # residuals 8 x 1, freedom 8 - 2, sum of squared distances of 0..7 is 42
    line, level = trend.slope(points([step + wave for step, wave in enumerate(WAVES)]))
    assert level == pytest.approx(3.5)
    assert line.value == pytest.approx(1)
    assert line.freedom == pytest.approx(6)
    assert line.error == pytest.approx(math.sqrt(8 / 6 / 42))


def test_neighbours_that_are_alike_count_as_fewer_values():
    line, _ = trend.slope(points([100 + wave for wave in SLOW]))
    assert line.value == pytest.approx(0)
    assert line.freedom == pytest.approx(16 * 9 / 23 - 2)
    assert line.error == pytest.approx(math.sqrt(16 / (16 * 9 / 23 - 2) / 340))


def test_too_few_independent_values_tell_nothing():
    # 8 values with products 3 of 8 count as 8 x (5/8) / (11/8) = 3.6
    assert trend.slope(points(SLOW[:8])) is None
    assert trend.mean([float(value) for value in SLOW[:8]]) is None
    assert trend.slope(points([1.0, 2.0])) is None
    assert trend.mean([1.0]) is None


def test_steps_may_have_gaps():
    line, _ = trend.slope(
        [(20 * step, value) for step, value in points([5.0 * i for i in range(9)])]
    )
    assert line.value == pytest.approx(0.25)
    assert line.error == 0


def test_a_constant_that_floating_point_cannot_write_is_a_constant():
    line, level = trend.slope(points([0.1] * 50))
    assert (line.value, line.error, line.freedom) == (pytest.approx(0, abs=1e-15), 0, 48)
    assert level == pytest.approx(0.1)


def test_one_broken_step_makes_no_trend():
    values = [step + wave for step, wave in enumerate(SLOW * 2)]
    values[30] = 1e6  # least squares alone would give a slope above 5,000
    line, _ = trend.slope(points(values))
    # moved to 3.5 x 1.4826 = 5.19 from the line: it pulls by less than 5.19 x 14.5 / 2728 = 0.028
    assert line.value == pytest.approx(1, abs=0.03)


def test_mean_and_error():
    estimate = trend.mean([10.0 + wave for wave in WAVES])
    assert (estimate.value, estimate.freedom) == (10, 7)
    assert estimate.error == pytest.approx(math.sqrt(8 / 7 / 8))


@pytest.mark.parametrize(
    ("confidence", "freedom", "table", "tolerance"),
    [(0.95, 6, 1.943, 0.001), (0.95, 98, 1.6606, 0.0002), (0.999, 98, 3.175, 0.003),
     (0.999, 4, 7.173, 0.3), (0.5, 5, 0.0, 1e-9)],
)  # fmt: skip
def test_quantiles_are_those_of_the_tables(confidence, freedom, table, tolerance):
    assert trend.student_t(confidence, freedom) == pytest.approx(table, abs=tolerance)
