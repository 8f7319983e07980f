"""Engine and learner disagree a little about the probability of the same token: the mismatch.

The samples come from the engine's distribution, so the gradient wants the factor
learner / engine on every term. It is fixed before the update and carries no gradient. It is not the
ratio of the objective: that one is the *staleness*, learner now / learner at the start of the step,
and it does change during the update. Mixing both in one ratio makes clipping depend on rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """How the mismatch is corrected."""

    kind: Literal["truncate", "mask"]  # cut large weights, or drop what lies outside the bounds
    level: Literal["token", "sequence", "geometric"] = "token"
    low: float = 0.0  # `mask` only
    high: float = 2.0


def correction_weights(
    old_logp_N: Tensor,
    behaviour_logp_N: Tensor,
    row_N: Tensor,
    num_rows: int,
    correction: Correction,
) -> Tensor:
    """[N] factors of the loss terms, without gradient. Exactly 1 where both log-probs are equal.

    The ratio exp(old - behaviour) is per token, the product over a response (`sequence`), or the
    geometric mean over it (`geometric`). `truncate` is min(ratio, high). `mask` keeps a ratio
    inside [low, high] and makes every other one 0. Denominators of the loss stay as they are.

    Args:
        old_logp_N: by the learner, at the start of the step.
        behaviour_logp_N: by the engine that sampled.
        row_N: the response of each token, in [0, num_rows).
        num_rows: R.
        correction: kind, level and bounds.

    Source: truncation: "Your efficient RL framework secretly brings you off-policy RL training"
        (Yao et al. 2025), per token; masks: IcePop (Ling team 2025) per token, and "When speed
        kills stability" (Liu et al. 2025) per sequence; the geometric mean: prime-rl, OpenRLHF.
    """
    log_ratio_N = (old_logp_N - behaviour_logp_N).detach()
    if correction.level != "token":
        sums_R = log_ratio_N.new_zeros(num_rows).index_add(0, row_N, log_ratio_N)
        if correction.level == "geometric":
            ones_N = torch.ones_like(log_ratio_N)
            lengths_R = log_ratio_N.new_zeros(num_rows).index_add(0, row_N, ones_N)
            sums_R = sums_R / lengths_R.clamp(min=1)
        log_ratio_N = sums_R[row_N]
    ratio_N = log_ratio_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if correction.kind == "truncate":
        return ratio_N.clamp(max=correction.high)
    inside_N = (ratio_N >= correction.low) & (ratio_N <= correction.high)
    return torch.where(inside_N, ratio_N, 0.0)


def effective_sample_share(mean: float, mean_square: float) -> float:
    """Share of the samples that weighted ones are worth: (sum w)^2 / (N sum w^2), in [0, 1].

    1 for equal weights, 1 / N where one weight has everything, 0 where all are 0.
    Source: Kong (1992), "A note on importance sampling using standardized weights".
    """
    return mean * mean / mean_square if mean_square else 0.0
