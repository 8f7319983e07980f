"""Estimates and intervals, against enumeration of all subsets, worked numbers and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest

from grpo.evaluation.statistics import (
    clustered_interval,
    majority_at_k,
    paired_test,
    pass_at_k,
    powers_up_to,
    student_quantile,
)


def test_k_goes_up_in_powers_of_two_and_ends_at_n():
    assert powers_up_to(1) == [1]
    assert powers_up_to(8) == [1, 2, 4, 8]
    assert powers_up_to(12) == [1, 2, 4, 8, 12]


@pytest.mark.parametrize("right", range(7))
def test_pass_at_k_is_the_mean_over_all_subsets(right):
    responses = [True] * right + [False] * (6 - right)
    for k in range(1, 7):
        subsets = list(itertools.combinations(responses, k))
        assert pass_at_k(6, right, k) == pytest.approx(fmean(map(any, subsets)))


def test_pass_at_k_of_a_worked_case():
    # 1 - C(12,4) / C(16,4) = 1 - 495 / 1820; the naive 1 - (1 - 4/16)^4 would be 0.6836
    assert pass_at_k(16, 4, 4) == pytest.approx(0.7280, abs=5e-5)
    assert pass_at_k(16, 4, 1) == 0.25


@pytest.mark.parametrize(
    ("right", "wrong", "silent", "chance"),
    [
        (2, [1, 1], 0, 1.0),
        (2, [2], 0, 1 / 2),  # a tie of two
        (1, [1, 1], 1, 1 / 3),  # a tie of three; the silent one has no vote
        (1, [2], 5, 0.0),
        (0, [], 4, 0.0),  # nobody said anything
        (1, [], 7, 1.0),  # the only vote wins
    ],
)
def test_the_vote_of_all_responses_with_ties_shared(right, wrong, silent, chance):
    assert majority_at_k(right, wrong, silent, right + sum(wrong) + silent) == pytest.approx(chance)


@pytest.mark.parametrize(
    ("right", "wrong", "silent"), [(2, [3, 1], 1), (3, [2, 2], 0), (1, [1, 1, 1], 3), (4, [], 2)]
)
def test_majority_at_k_is_the_mean_over_all_subsets(right, wrong, silent):
    responses = ["right"] * right + [None] * silent
    responses += [f"wrong {i}" for i, count in enumerate(wrong) for _ in range(count)]
    for k in range(1, len(responses) + 1):
        chances = []
        for subset in itertools.combinations(responses, k):
            votes = [vote for vote in subset if vote is not None]
            most = max((votes.count(vote) for vote in votes), default=0)
            leaders = {vote for vote in votes if votes.count(vote) == most}
            chances.append(Fraction("right" in leaders, max(1, len(leaders))))
        assert majority_at_k(right, wrong, silent, k) == pytest.approx(float(fmean(chances)))


def test_student_quantiles_of_a_printed_table():
    table = {1: 12.706, 2: 4.303, 5: 2.571, 9: 2.262, 29: 2.045, 119: 1.980}
    for degrees, value in table.items():
        assert student_quantile(0.975, degrees) == pytest.approx(value, rel=2e-3)


def test_an_interval_worked_by_hand():
    # rates 0, 1/2, 1/2, 1: mean 1/2, s^2 = 1/6, s^2 / P = 1/24, m = (1/4) / (1/24) = 6
    # t = 3.182 with 3 degrees; Wilson around 1/2: half-width t / (2 sqrt(m + t^2))
    low, high = clustered_interval([0, 0.5, 0.5, 1], num_samples=2)
    half = 3.182 / (2 * math.sqrt(6 + 3.182**2))
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=2e-3)


def test_all_wrong_leaves_room_and_one_problem_says_nothing():
    low, high = clustered_interval([0.0] * 30, num_samples=16)
    t_square = 2.045**2  # 29 degrees; Wilson with p = 0: t^2 / (P + t^2)
    assert (low, high) == pytest.approx((0, t_square / (30 + t_square)), abs=1e-3)
    assert clustered_interval([1.0], num_samples=64) == (0.0, 1.0)


def test_samples_of_one_problem_do_not_narrow_the_interval_as_other_problems_do():
    easy_or_hard = [0.0, 1.0] * 15
    few, many = (clustered_interval(easy_or_hard, num_samples=n) for n in (1, 64))
    assert few == many  # each problem is always or never solved: more samples tell nothing new


@pytest.mark.parametrize(
    ("problems", "samples", "alpha", "beta"),
    [(30, 1, 1, 1), (30, 16, 0.3, 0.5), (30, 8, 0.2, 2.0), (200, 4, 2, 5), (500, 1, 5, 1)],
)
def test_intervals_cover_the_true_mean_as_often_as_they_say(problems, samples, alpha, beta):
    """Difficulties are drawn from a beta distribution, then answers; 2,000 evaluations."""
    rng = np.random.default_rng(7)
    truth, covered, naive = alpha / (alpha + beta), 0, 0
    for _ in range(2000):
        rates = rng.binomial(samples, rng.beta(alpha, beta, problems)) / samples
        low, high = clustered_interval(rates.tolist(), samples)
        covered += low <= truth <= high
        mean = rates.mean()
        half = 1.96 * math.sqrt(mean * (1 - mean) / (problems * samples))
        naive += mean - half <= truth <= mean + half
    # the rare successes of 30 hard problems are skewed, which costs up to 2 of 100
    assert 0.93 <= covered / 2000 <= 0.97
    if samples > 1 and alpha < 1:
        assert naive / 2000 < 0.80  # all responses taken for independent


def test_a_paired_comparison_worked_by_hand():
    first, second = [0.0, 0.5, 1.0, 0.25], [0.5, 1.0, 1.0, 0.5]
    found = paired_test(first, second)
    assert found.difference == pytest.approx(0.3125)
    assert (found.better, found.worse) == (3, 0)
    # three differences of one sign: 2 of the 8 signs are as far from 0
    assert found.p_value == pytest.approx(2 / 8)
    # differences 0.5, 0.5, 0, 0.25: s = 0.2394, s / 2 = 0.1197, t = 3.182
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(3.182 * 0.1197, rel=1e-2)


def test_pairing_finds_what_the_two_intervals_hide():
    rng = np.random.default_rng(1)
    first = rng.beta(0.5, 0.5, 200) * 0.9
    second = first + 0.05
    found = paired_test(first.tolist(), (second + rng.normal(0, 0.02, 200)).tolist())
    assert found.interval[0] > 0.04 and found.p_value < 1e-3
    assert clustered_interval(first.tolist(), 16)[1] > clustered_interval(second.tolist(), 16)[0]


def test_two_equal_results_do_not_differ():
    found = paired_test([0.5, 1.0, 0.0], [0.5, 1.0, 0.0])
    assert (found.difference, found.p_value, found.interval) == (0.0, 1.0, None)


def test_the_sign_test_is_calibrated():
    rng = np.random.default_rng(3)
    small = sum(
        paired_test(rng.integers(0, 5, 12) / 4, rng.integers(0, 5, 12) / 4).p_value <= 0.05
        for _ in range(400)
    )
    assert small / 400 <= 0.08
