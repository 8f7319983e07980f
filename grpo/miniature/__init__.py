"""R1-Zero in miniature: a base model that is pre-trained here, problems, and a probe of how it answers.

Nothing in the core imports it. A recipe makes its parts known with `modules: [grpo.miniature]`.
"""

from __future__ import annotations

from data.generators import GeneratorSource, Split, register
from data.types import Problem
from grpo.miniature import answer_style, base_model
from grpo.miniature.arithmetic import ArithmeticSpec, distinct_problems

__all__ = ["ArithmeticSource", "answer_style", "arithmetic_problems", "base_model"]


class ArithmeticSource(GeneratorSource):
    """Expressions of a few numbers. The two splits share none, nor any part of one."""

    arithmetic: ArithmeticSpec = ArithmeticSpec()
    """Which expressions there are."""


@register("arithmetic", ArithmeticSource)
def arithmetic_problems(
    source: ArithmeticSource, *, seed: int, split: Split | None
) -> list[Problem]:
    """Different problems of one split, `train` unless it is named.

    Raises:
        ValueError: the split has fewer problems than that.
    """
    return distinct_problems(source.arithmetic, split or "train", source.num_problems, seed=seed)
