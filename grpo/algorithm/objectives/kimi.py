"""Kimi k1.5's policy mirror descent."""

from __future__ import annotations

from grpo.algorithm.objectives.base import Coefficients, LossInputs, TokenLoss, policy_term


@policy_term("kimi", uses=("mirror_tau",), aggregations=("seq-sum-constant",), always=True)
def kimi(inputs: LossInputs, coefficients: Coefficients) -> TokenLoss:
    """-A log pi(y) + tau / 2 (log pi(y) / pi_old(y))^2, both log-probs sums over the response.

    The square of a response is spread evenly over its tokens, so with `seq-sum-constant` the sum
    over tokens is the paper's loss, divided by the constant. Advantages are r - mean(r)
    (`advantage_std: none`). The paper also begins each iteration with a fresh optimizer.
    Source: Kimi k1.5 (arXiv:2501.12599), section 2.3.2, equation 3.
    """
    way_N = inputs.row_sums_N(inputs.log_ratio_N)  # log of the ratio of the whole response
    pull_N = 0.5 * coefficients.mirror_tau * way_N.square() / inputs.row_lengths_N()
    return TokenLoss(-inputs.advantage_N * inputs.logp_N + pull_N)
