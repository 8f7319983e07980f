"""CISPO: the ratio is a weight that is cut, and no token loses its gradient."""

from __future__ import annotations

from grpo.algorithm.objectives.base import (
    Coefficients,
    LossInputs,
    TokenLoss,
    masked_mean,
    policy_term,
)


@policy_term("cispo", uses=("clip_high",))
def cispo(inputs: LossInputs, coefficients: Coefficients) -> TokenLoss:
    """-stop_gradient(min(ratio, 1 + clip_high)) A log pi.

    There is no lower bound, as in the paper's runs and in ScaleRL's.
    Source: MiniMax-M1 (arXiv:2506.13585), equations 4 and 5; ScaleRL (arXiv:2510.13786).
    """
    ratio_N = inputs.log_ratio_N.exp().detach()
    weight_N = ratio_N.clamp(max=1 + coefficients.clip_high)
    means = {"clip_share": masked_mean((weight_N < ratio_N).float(), inputs.real_N)}
    return TokenLoss(-weight_N * inputs.advantage_N * inputs.logp_N, means)
