"""Mathematical answers: text -> tokens -> a whitelisted tree -> exact or high-precision comparison.

Nothing here evaluates text. The tokenizer knows a fixed list of commands, the parser builds nodes
from a fixed list of operations, and the evaluator checks sizes before it computes. What is not
understood is compared as text only.
"""

from rewards.maths.answer.reader import is_set_of_numbers
from rewards.maths.equality.compare import Rules, same_answer
from rewards.maths.equality.restated import in_other_unit, is_evaluated, restates
from rewards.maths.limits import IN_PROCESS, WORKER, LimitError, Limits

__all__ = [
    "IN_PROCESS",
    "WORKER",
    "LimitError",
    "Limits",
    "Rules",
    "in_other_unit",
    "is_evaluated",
    "is_set_of_numbers",
    "restates",
    "same_answer",
]
