"""GRPO: the clipped surrogate of PPO per token, which DAPO and Dr. GRPO share."""

from __future__ import annotations

import torch

from grpo.algorithm.objectives.base import (
    Coefficients,
    LossInputs,
    TokenLoss,
    masked_mean,
    policy_term,
)


@policy_term("grpo", uses=("clip_low", "clip_high", "dual_clip"))
def grpo(inputs: LossInputs, coefficients: Coefficients) -> TokenLoss:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A), the ratio per token.

    The ratio is between the policy and the policy at the start of the step. With `dual_clip` c the
    loss of a token with A < 0 is at most -c A: a token that became much likelier is no longer
    pushed without bound.
    Source: DeepSeekMath (arXiv:2402.03300), equation 3; clip-higher from DAPO (arXiv:2503.14476);
        dual clip from arXiv:1912.09729.
    """
    ratio_N = inputs.log_ratio_N.exp()
    clipped_N = ratio_N.clamp(1 - coefficients.clip_low, 1 + coefficients.clip_high)
    plain_N, bounded_N = ratio_N * inputs.advantage_N, clipped_N * inputs.advantage_N
    gain_N = torch.minimum(plain_N, bounded_N)
    means = {"clip_share": masked_mean((bounded_N < plain_N).float(), inputs.real_N)}
    if coefficients.dual_clip is not None:
        floor_N = coefficients.dual_clip * inputs.advantage_N
        held_N = (inputs.advantage_N < 0) & (gain_N < floor_N)
        gain_N = torch.where(held_N, floor_N, gain_N)
        means["dual_clip_share"] = masked_mean(held_N.float(), inputs.real_N)
    return TokenLoss(-gain_N, means)
