"""Which groups teach nothing."""

from __future__ import annotations

import torch

from grpo.algorithm.advantages import zero_variance


def test_a_group_teaches_nothing_only_when_all_its_rewards_are_equal():
    rewards_PG = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    assert zero_variance(rewards_PG).tolist() == [False, True, False]
