"""The GRPO objective as pure functions of tensors: no config object, no process group.

A loss here is a sum over this rank's tokens, already weighted for the *global* batch
(`token_weights`), so neither micro-batches nor the number of ranks can change the gradient. Undoing
DeepSpeed's average over ranks is the learner's job.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Aggregation = Literal["seq-mean-token-mean", "token-mean", "seq-sum-constant"]


class PolicyLoss(NamedTuple):
    """Sums over this rank's tokens; `clipped` and `ratio_max` are for the logs and carry no
    gradient.
    """

    loss: Tensor  # []
    clipped: Tensor  # [] number of tokens whose ratio was clipped with an effect on the loss
    ratio_max: Tensor  # []


def token_weights(lengths_B: Tensor, aggregation: Aggregation, constant: int) -> Tensor:
    """[B] weight of every token of a response, such that all weights together make the batch mean.

    Args:
        lengths_B: [B] response lengths in tokens of the *global* batch of one update, not of a
        micro-batch.
        aggregation: `seq-mean-token-mean`: mean over tokens, then over responses (GRPO);
            `token-mean`: mean over all tokens (DAPO, arXiv:2503.14476);
            `seq-sum-constant`: sum over tokens by a constant, mean over responses (Dr. GRPO,
            arXiv:2503.20783).
        constant: the divisor of `seq-sum-constant`, in tokens; the longest response that could be
            sampled.
    """
    num_responses = lengths_B.numel()
    lengths_B = lengths_B.clamp(min=1).to(
        torch.float32
    )  # an empty response has no token that could use its weight
    if aggregation == "seq-mean-token-mean":
        return 1.0 / (lengths_B * num_responses)
    if aggregation == "token-mean":
        return torch.full_like(lengths_B, 1.0) / lengths_B.sum()
    return torch.full_like(lengths_B, 1.0 / (constant * num_responses))


def policy_loss(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    weight_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> PolicyLoss:
    """Clipped GRPO surrogate -min(ratio A, clip(ratio) A), summed with weights over N response
    tokens.

    Args:
        logp_N: [N] log-probs of the sampled tokens under the policy being trained.
        old_logp_N: [N] the same tokens under the policy that sampled them; no gradient.
        advantage_N: [N] the advantage of the response that each token belongs to.
        weight_N: [N] from `token_weights`; 0 for padding.
        clip_low, clip_high: widths around a ratio of 1; high > low is DAPO's clip-higher.

    Source: DeepSeekMath (arXiv:2402.03300), equation 3, with the ratio per token.
    """
    ratio_N = (logp_N - old_logp_N).exp()
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high)
    plain_N, bounded_N = ratio_N * advantage_N, clipped_N * advantage_N
    loss = -(torch.minimum(plain_N, bounded_N) * weight_N).sum()
    real_N = weight_N > 0
    with torch.no_grad():
        clipped = ((bounded_N < plain_N) & real_N).sum()
        ratio_max = (
            torch.where(real_N, ratio_N, 0.0).max() if ratio_N.numel() else ratio_N.new_zeros(())
        )
    return PolicyLoss(loss, clipped, ratio_max)


def k3(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """[N] estimate of KL(policy || reference) from samples of the policy: exp(d) - d - 1, d = log
    ref - log policy.

    Never negative, unbiased, and low in variance. It is a term of the loss and not of the reward.
    Source: Schulman, "Approximating KL divergence" (2020), estimator k3; DeepSeekMath, equation 4.
    """
    d_N = reference_logp_N - logp_N
    return d_N.exp() - d_N - 1
