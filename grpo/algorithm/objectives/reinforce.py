"""REINFORCE: the policy gradient and nothing else."""

from __future__ import annotations

from grpo.algorithm.objectives.base import Coefficients, LossInputs, TokenLoss, policy_term


@policy_term("reinforce", on_policy=True)
def reinforce(inputs: LossInputs, coefficients: Coefficients) -> TokenLoss:
    """-A log pi. Without a ratio it is right for the first update of a batch only.

    Source: Williams (1992), "Simple statistical gradient-following algorithms", equation 4.
    """
    return TokenLoss(-inputs.advantage_N * inputs.logp_N)
