"""Advantages that take the whole batch, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from grpo.algorithm.advantages import ADVANTAGES, AdvantageInputs, discounted_token_scores

REWARDS_PG = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)


def found(name: str, rewards_PG=REWARDS_PG, graded_PG=None, **changes) -> list[list[float]]:
    graded = torch.ones_like(rewards_PG).bool() if graded_PG is None else graded_PG
    inputs = AdvantageInputs(rewards_PG=rewards_PG, graded_PG=graded, **{"eps": 0.0, **changes})
    return ADVANTAGES[name](inputs).tolist()


def near(rows):
    return [pytest.approx(row, abs=1e-12) for row in rows]


def test_grpo_is_the_groups_own():
    wanted = [[1, -1, -1, 1], [3**-0.5, 3**-0.5, 3**-0.5, -(3**0.5)]]  # std 1/2 and sqrt(3)/4
    assert found("grpo") == near(wanted)


def test_leave_one_out_takes_the_mean_of_the_others():
    # 1 - (0 + 0 + 1) / 3, and so on
    assert found("rloo") == near([[2 / 3, -2 / 3, -2 / 3, 2 / 3], [1 / 3, 1 / 3, 1 / 3, -1]])


def test_leave_one_out_counts_graded_responses_alone():
    graded = torch.tensor([[True, True, False, True], [True, False, False, False]])
    # 1 - (0 + 1) / 2; a response alone has nobody to be compared with
    assert found("rloo", graded_PG=graded) == near([[0.5, -1, 0, 0.5], [0, 0, 0, 0]])


def test_reinforce_pp_knows_no_groups():
    mean, std = 5 / 8, math.sqrt(15) / 8  # five ones of eight
    up, down = (1 - mean) / std, -mean / std
    assert found("reinforce_pp") == near([[up, down, down, up], [up, up, up, down]])


CENTRED = [[0.5, -0.5, -0.5, 0.5], [0.25, 0.25, 0.25, -0.75]]
SPREAD = math.sqrt((4 * 0.25 + 3 * 0.0625 + 0.5625) / 8)  # their mean is 0


@pytest.mark.parametrize("name", ["batch_std", "reinforce_pp_baseline"])
def test_group_means_with_the_deviation_of_the_batch(name):
    assert found(name) == near([[value / SPREAD for value in row] for row in CENTRED])


def test_a_missing_response_is_in_neither_moment():
    """Two ones of three: the group mean is 2/3."""
    graded = torch.tensor([[True] * 4, [True, True, False, True]])
    graded_values = [0.5, -0.5, -0.5, 0.5, 1 / 3, 1 / 3, -2 / 3]
    spread = math.sqrt(sum(v * v for v in graded_values) / 7)
    assert found("batch_std", graded_PG=graded)[1] == pytest.approx(
        [1 / 3 / spread, 1 / 3 / spread, 0, -2 / 3 / spread]
    )


def test_gdpo_tells_apart_what_a_sum_hides():
    """Accuracy and format of four responses; the sums of the second and third are equal."""
    first = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[1.0, 0.0, 0.4, 0.0]], dtype=torch.float64)
    rewards = first + second
    components = {"accuracy": (1.0, first), "format": (0.5, second)}
    # apart: (1, 1, -1, -1), and for format mean 0.35, std sqrt(0.1675)
    parts = [
        a + 0.5 * (b - 0.35) / math.sqrt(0.1675)
        for a, b in zip((1, 1, -1, -1), (1.0, 0.0, 0.4, 0.0), strict=True)
    ]
    spread = math.sqrt(sum(v * v for v in parts) / 4)
    wanted = [v / spread for v in parts]
    assert found("gdpo", rewards, components=components)[0] == pytest.approx(wanted, abs=1e-12)


def test_a_reference_policys_accuracy_is_the_baseline_of_adaptthink():
    # R_ref 0.6 and a bonus of 0.05 without thinking: right +0.45, wrong -0.55; else +0.40, -0.60
    rewards = torch.tensor([[1.05, 0.05, 1.0, 0.0]], dtype=torch.float64)
    reference = torch.tensor([0.6], dtype=torch.float64)
    wanted = [[0.45, -0.55, 0.40, -0.60]]
    assert found("reference_accuracy", rewards, reference_P=reference) == near(wanted)


@pytest.mark.parametrize("name", [n for n in ADVANTAGES if n != "reference_accuracy"])
def test_equal_rewards_give_exact_zeros(name):
    """0.1 has no exact binary form: the mean of seven of them is not one of them."""
    rewards = torch.full((3, 7), 0.1, dtype=torch.float64)
    components = {"accuracy": (1.0, rewards)}
    flat = [a for row in found(name, rewards, components=components, eps=1e-20) for a in row]
    assert flat == [0.0] * 21


@pytest.mark.parametrize("name", [n for n in ADVANTAGES if n != "reference_accuracy"])
def test_what_could_not_be_graded_gets_nothing_whatever_stands_there(name):
    graded = torch.tensor([[True, True, False, True], [True, True, True, True]])
    rewards = [REWARDS_PG.clone() for _ in range(2)]
    rewards[1][0, 2] = 77.0
    both = [found(name, r, graded_PG=graded, components={"accuracy": (1.0, r)}) for r in rewards]
    assert both[0] == both[1]
    assert both[0][0][2] == 0.0


def test_token_scores_reach_back_with_their_own_discount():
    # the penalty at token 3 and a reward at token 5, discounts 0.99 and 1, summed apart
    penalty = discounted_token_scores([0, 0, -0.05, 0, 0], 0.99)
    reward = discounted_token_scores([0, 0, 0, 0, 2.0], 1.0)
    total = [a + b for a, b in zip(penalty, reward, strict=True)]
    assert total == pytest.approx([1.950995, 1.9505, 1.95, 2, 2], abs=1e-12)
    assert discounted_token_scores([1.0, 2.0], 0.0) == [1.0, 2.0]
