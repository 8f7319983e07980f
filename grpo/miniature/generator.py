"""The generator `arithmetic`, a source of recipes that have `modules: [grpo.miniature]`."""

from __future__ import annotations

from data.generators import GeneratorSource, Split, register
from data.types import Problem
from grpo.miniature.arithmetic import ArithmeticSpec, distinct_problems


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
