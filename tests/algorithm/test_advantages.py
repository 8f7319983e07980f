import pytest
import torch

from grpo.algorithm.advantages import group_advantages, zero_variance

# The walk-through of four outputs with accuracy 0 or 1 and format 0 or 0.1; mean 0.575.
REWARDS_PG = torch.tensor([[0.1, 1.1, 1.0, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        ("population", (-0.9972, 1.1022, 0.8923, -0.9972)),  # std 0.47631
        ("sample", (-0.8636, 0.9545, 0.7727, -0.8636)),  # std 0.55
        ("none", (-0.475, 0.525, 0.425, -0.475)),  # Dr. GRPO
    ],
)
def test_advantages_match_the_worked_numbers_for_each_std(std, expected):
    advantages = group_advantages(REWARDS_PG, std=std, eps=1e-6)[0].tolist()
    assert advantages == pytest.approx(expected, abs=1e-4)


def test_all_equal_rewards_give_exactly_zero_and_not_noise_over_epsilon():
    # 0.1 has no exact binary form: the mean of seven of them is not one of them.
    rewards_PG = torch.full((1, 7), 0.1, dtype=torch.float64)
    assert group_advantages(rewards_PG, eps=1e-20).abs().max().item() == 0.0
    assert zero_variance(rewards_PG).tolist() == [True]


def test_groups_do_not_see_each_other():
    other = torch.tensor([[5.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    together = group_advantages(torch.cat([REWARDS_PG, other]))
    assert torch.equal(together[:1], group_advantages(REWARDS_PG))


def test_a_response_that_could_not_be_graded_neither_counts_nor_learns():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    graded = torch.tensor([[True, True, False, True], [True, False, False, False]])
    found = group_advantages(rewards, graded_PG=graded, std="none")
    assert found[0].tolist() == pytest.approx([1 / 3, -2 / 3, 0.0, 1 / 3])
    assert found[1].tolist() == [0.0] * 4  # one alone has no baseline
