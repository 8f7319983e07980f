"""Estimates of KL(policy || reference) from samples of the policy."""

from __future__ import annotations

from torch import Tensor


def k3(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """[N] estimate per token: exp(d) - d - 1, with d = log reference - log policy.

    Never negative, unbiased, and low in variance. It is a term of the loss and not of the reward.
    Source: Schulman, "Approximating KL divergence" (2020), estimator k3; DeepSeekMath, equation 4.
    """
    d_N = reference_logp_N - logp_N
    return d_N.exp() - d_N - 1
