"""GSPO: one ratio for a whole response."""

from __future__ import annotations

import torch

from grpo.algorithm.objectives.base import (
    Coefficients,
    LossInputs,
    TokenLoss,
    masked_mean,
    policy_term,
)


@policy_term("gspo", uses=("clip_low", "clip_high"))
def gspo(inputs: LossInputs, coefficients: Coefficients) -> TokenLoss:
    """-min(s A, clip(s) A) with s = exp(mean over the response's tokens of log ratio).

    All tokens of a response share s, so with `seq-mean-token-mean` the loss is the paper's mean
    over responses. Its clip widths are hundreds of times narrower than those of token ratios: 3e-4
    and 4e-4 in the paper.
    Source: GSPO (arXiv:2507.18071), equations 5 to 7.
    """
    mean_N = inputs.row_sums_N(inputs.log_ratio_N) / inputs.row_lengths_N()
    ratio_N = mean_N.exp()
    clipped_N = ratio_N.clamp(1 - coefficients.clip_low, 1 + coefficients.clip_high)
    plain_N, bounded_N = ratio_N * inputs.advantage_N, clipped_N * inputs.advantage_N
    means = {"clip_share": masked_mean((bounded_N < plain_N).float(), inputs.real_N)}
    return TokenLoss(-torch.minimum(plain_N, bounded_N), means)
