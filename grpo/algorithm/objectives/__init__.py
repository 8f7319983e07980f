"""What is minimised: one small file for each objective, over one typed input, chosen once by name.

A new objective is a new file with a function `(LossInputs, Coefficients) -> TokenLoss` under
`policy_term`. One that needs another shape registers a whole `Objective` with
`OBJECTIVES.register`.
"""

from grpo.algorithm.objectives import cispo, grpo, gspo, kimi, reinforce
from grpo.algorithm.objectives.base import (
    OBJECTIVES,
    Coefficients,
    Loss,
    LossInputs,
    Objective,
    PolicyTerm,
    TokenLoss,
    policy_term,
)

__all__ = [
    "OBJECTIVES",
    "Coefficients",
    "Loss",
    "LossInputs",
    "Objective",
    "PolicyTerm",
    "TokenLoss",
    "cispo",
    "grpo",
    "gspo",
    "kimi",
    "policy_term",
    "reinforce",
]
