"""GRPO: the clipped surrogate of PPO per token, with KL and entropy terms in the loss."""

from __future__ import annotations

import torch

from grpo.algorithm.kl import k3
from grpo.algorithm.objectives.base import (
    OBJECTIVES,
    Coefficients,
    Loss,
    LossInputs,
    masked_max,
    masked_mean,
)


@OBJECTIVES.register("grpo")
def grpo(inputs: LossInputs, coefficients: Coefficients) -> Loss:
    """-min(ratio A, clip(ratio) A) + kl_coef KL - entropy_coef H, summed over tokens with their
    weights.

    The ratio is per token, between the policy and the policy at the start of the step. KL is the k3
    estimate.
    Source: DeepSeekMath (arXiv:2402.03300), equation 3; clip-higher from DAPO (arXiv:2503.14476).
    """
    ratio_N = (inputs.logp_N - inputs.old_logp_N).exp()
    clipped_N = ratio_N.clamp(1 - coefficients.clip_low, 1 + coefficients.clip_high)
    plain_N, bounded_N = ratio_N * inputs.advantage_N, clipped_N * inputs.advantage_N
    loss = -(torch.minimum(plain_N, bounded_N) * inputs.weight_N).sum()
    means = {"clip_share": masked_mean((bounded_N < plain_N).float(), inputs.real_N)}
    if inputs.reference_logp_N is not None:
        kl_N = k3(inputs.logp_N, inputs.reference_logp_N)
        loss = loss + coefficients.kl_coef * (kl_N * inputs.weight_N).sum()
        means["kl"] = masked_mean(kl_N, inputs.real_N)
    if coefficients.entropy_coef:
        bonus = (inputs.entropy_N * inputs.weight_N).sum()
        loss = loss - coefficients.entropy_coef * bonus
    return Loss(loss, means, {"ratio_max": masked_max(ratio_N, inputs.real_N)})
