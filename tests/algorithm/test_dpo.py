"""DPO of pairs: worked numbers, and the same gradient however the responses are dealt."""

from __future__ import annotations

import math

import pytest
import torch

from grpo.algorithm.dpo import dpo
from tests.closeness import close


def test_loss_margins_and_derivatives_of_two_pairs():
    found = dpo(torch.tensor([2.0, -1.0]), torch.tensor([-1.0, 1.0]), beta=0.5)
    # margins 0.5 * 3 and 0.5 * -2; log(1 + exp(-1.5)) = 0.201413, log(1 + e) = 1.313262
    assert found.margin_P.tolist() == [1.5, -1.0]
    assert found.loss.item() == pytest.approx((0.201413 + 1.313262) / 2, abs=1e-6)
    # 0.5 / 2 * sigmoid(-1.5) = 0.25 * 0.182426, and 0.25 * sigmoid(1) = 0.25 * 0.731059
    assert found.rejected_gradient_P.tolist() == pytest.approx([0.0456065, 0.1827647], abs=1e-6)
    assert found.chosen_gradient_P.tolist() == (-found.rejected_gradient_P).tolist()


def test_a_policy_that_is_the_reference_has_the_loss_log_2():
    found = dpo(torch.zeros(3), torch.zeros(3), beta=0.1)
    assert found.loss.item() == pytest.approx(math.log(2))


def test_pairs_that_are_far_apart_stay_finite():
    found = dpo(torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4]), beta=1.0)
    assert found.loss.item() == pytest.approx(1e4)
    assert found.chosen_gradient_P.tolist() == [0.0, -0.5]


def test_the_sum_over_single_responses_has_the_gradient_of_the_loss_of_whole_pairs():
    torch.manual_seed(0)
    weight = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, 5, dtype=torch.float64)
    tokens = [torch.randint(5, (n, 2)) for n in (3, 1, 4, 2, 2, 6)]  # (context, token) rows

    def logp(matrix, sequence):
        return matrix.log_softmax(-1)[sequence[:, 0], sequence[:, 1]].sum()

    def way(sequence):
        return logp(weight, sequence) - logp(reference, sequence)

    chosen, rejected = (torch.stack([way(t) for t in tokens[i::2]]) for i in (0, 1))
    wanted = torch.autograd.grad(
        -torch.log(torch.sigmoid(0.7 * (chosen - rejected))).mean(), weight
    )
    pairs = dpo(chosen.detach(), rejected.detach(), beta=0.7)
    found = torch.zeros_like(weight)
    for i in (5, 0, 2, 4, 1, 3):  # each response is a micro-batch of its own, in any order
        coefficient = (pairs.chosen_gradient_P, pairs.rejected_gradient_P)[i % 2][i // 2]
        found += torch.autograd.grad(coefficient * logp(weight, tokens[i]), weight)[0]
    assert found.flatten().tolist() == close(wanted[0].flatten().tolist())
