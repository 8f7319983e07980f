"""Estimates of KL(policy || reference) from samples of the policy.

Source of all three: Schulman, "Approximating KL divergence" (2020). Which one may be differentiated
is another question than which one is a good estimate. The gradient of k1 has mean 0, so it belongs
in the reward. The gradient of k2 is that of the KL, on-policy. The gradient of k3 is biased, and
GRPO uses it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def k1(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """[N] log policy - log reference. Unbiased, of either sign, high in variance."""
    return logp_N - reference_logp_N


def k2(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """[N] (log policy - log reference)^2 / 2. Biased as an estimate; its gradient is right."""
    return 0.5 * (logp_N - reference_logp_N).square()


def k3(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """[N] exp(d) - d - 1, with d = log reference - log policy.

    Never negative, unbiased, and low in variance. DeepSeekMath (arXiv:2402.03300), equation 4.
    """
    d_N = reference_logp_N - logp_N
    return d_N.exp() - d_N - 1


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
