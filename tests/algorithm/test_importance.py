"""The correction of the engine's probabilities, and the estimators and controllers beside it."""

from __future__ import annotations

import math

import pytest
import torch

from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.controllers import adapted_entropy_coef, adapted_kl_coef
from grpo.algorithm.importance import Correction, correction_weights, effective_sample_share
from grpo.algorithm.kl import k1, k2

# Two responses: token ratios (2, 1/2, 4) and (1/8,)
LOG_RATIOS = [math.log(2), -math.log(2), math.log(4), -math.log(8)]
ROWS = torch.tensor([0, 0, 0, 1])


def weights(**correction) -> list[float]:
    old = torch.tensor(LOG_RATIOS, dtype=torch.float64, requires_grad=True)
    behaviour = torch.zeros(4, dtype=torch.float64)
    found = correction_weights(old, behaviour, ROWS, 2, Correction(**correction))
    assert not found.requires_grad
    return found.tolist()


def test_token_ratios_are_cut_above_and_never_below():
    assert weights(kind="truncate", high=3.0) == pytest.approx([2, 0.5, 3, 0.125])


def test_a_mask_drops_what_lies_outside_and_keeps_the_ratio_inside():
    assert weights(kind="mask", low=0.25, high=3.0) == pytest.approx([2, 0.5, 0, 0])


def test_a_sequence_has_the_product_of_its_tokens():
    found = weights(kind="truncate", level="sequence", high=100.0)
    assert found == pytest.approx([4, 4, 4, 0.125])
    assert weights(kind="mask", level="sequence", low=0.5, high=3.0) == [0, 0, 0, 0]


def test_the_geometric_mean_does_not_grow_with_the_length():
    found = weights(kind="truncate", level="geometric", high=100.0)
    assert found == pytest.approx([4 ** (1 / 3)] * 3 + [0.125])


def test_effective_share_of_equal_unequal_and_missing_weights():
    assert effective_sample_share(1.0, 1.0) == 1.0
    assert effective_sample_share(0.25, 0.25) == 0.25  # one of four has weight 1
    assert effective_sample_share(1.5, 2.5) == pytest.approx(0.9)  # weights 1 and 2
    assert effective_sample_share(0.0, 0.0) == 0.0


def test_k1_and_k2_at_two_distances():
    logp, reference = torch.tensor([-1.0, -1.0]), torch.tensor([-0.8, -1.2])
    assert k1(logp, reference).tolist() == pytest.approx([-0.2, 0.2])
    assert k2(logp, reference).tolist() == pytest.approx([0.02, 0.02])


def test_the_gradient_of_k1_has_mean_0_and_that_of_k2_is_the_gradient_of_the_kl():
    """Exact expectations over five tokens."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(0)
    p = logits.detach().softmax(0)

    def expected(estimate):
        (grad,) = torch.autograd.grad(
            (p * estimate(logits.log_softmax(0), reference)).sum(), logits
        )
        return grad

    (exact,) = torch.autograd.grad(
        (logits.softmax(0) * (logits.log_softmax(0) - reference)).sum(), logits
    )
    assert expected(k1).abs().max().item() < 1e-15
    assert expected(k2).tolist() == pytest.approx(exact.tolist(), abs=1e-14)
    assert exact.abs().max().item() > 0.1


def test_prompt_mean_weighs_prompts_alike_and_tokens_of_a_prompt_alike():
    lengths = torch.tensor([1, 3, 10, 0])  # two prompts of two responses
    found = token_weights(lengths, "prompt-mean", 0, group_size=2).tolist()
    assert found == pytest.approx([1 / 8, 1 / 8, 1 / 20, 1 / 20])
    empty = token_weights(torch.tensor([0, 0, 2, 2]), "prompt-mean", 0, group_size=2)
    assert empty.isfinite().all()


def test_the_kl_coefficient_moves_by_at_most_a_fifth_over_the_horizon():
    moved = {
        kl: adapted_kl_coef(0.1, kl, target=0.02, horizon=1000, samples=500)
        for kl in (0.0, 0.019, 0.022, 1.0)
    }
    assert moved == pytest.approx(
        {0.0: 0.1 * 0.9, 0.019: 0.1 * 0.975, 0.022: 0.1 * 1.05, 1.0: 0.1 * 1.1}
    )


def test_the_entropy_coefficient_walks_in_steps_between_its_bounds():
    settings = {"target": 0.2, "step": 1e-4, "highest": 2.5e-4}
    assert adapted_entropy_coef(1e-4, 0.1, **settings) == pytest.approx(2e-4)
    assert adapted_entropy_coef(2e-4, 0.1, **settings) == pytest.approx(2.5e-4)
    assert adapted_entropy_coef(1e-4, 0.3, **settings) == pytest.approx(0.0)
    assert adapted_entropy_coef(0.0, 0.3, **settings) == 0.0
