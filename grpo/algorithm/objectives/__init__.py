"""What is minimised: one small file for each objective, over one typed input, chosen once by name.

A new objective is a new file with a function `(LossInputs, Coefficients) -> Loss` under
`OBJECTIVES.register`.
"""

from grpo.algorithm.objectives import grpo
from grpo.algorithm.objectives.base import OBJECTIVES, Coefficients, Loss, LossInputs, Objective

__all__ = ["OBJECTIVES", "Coefficients", "Loss", "LossInputs", "Objective", "grpo"]
