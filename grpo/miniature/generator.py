"""The generator `arithmetic` and the maker of examples `worked_arithmetic`, sources of recipes that
have `modules: [grpo.miniature]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from data.examples import MAKERS, Example, Message
from data.generators import GeneratorSource, Split, register
from data.types import Problem
from grpo.common.recipes import Settings, check
from grpo.miniature.arithmetic import (
    ArithmeticSpec,
    Expression,
    distinct_problems,
    worked_response,
)


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


class WorkedSpec(Settings):
    """Options of `worked_arithmetic`."""

    num_examples: Annotated[int, Field(ge=1)]
    """Different expressions, each with its steps and its answer."""
    arithmetic: ArithmeticSpec = ArithmeticSpec()
    """Which expressions there are."""


@MAKERS.register("worked_arithmetic")
def worked_arithmetic(options: Mapping[str, Any], seed: int, split: Split) -> list[Example]:
    """Worked answers to expressions of one split, as `data.train.made_by` of `grpo sft` names it.

    Raises:
        ValueError: options that the spec does not have, or fewer expressions than that.
    """
    spec, problems = check(WorkedSpec, options)
    if spec is None or problems:
        raise ValueError("; ".join(problems))
    examples = []
    for problem in distinct_problems(spec.arithmetic, split, spec.num_examples, seed=seed):
        numbers = tuple(map(int, re.findall(r"\d+", problem.question)))
        expression = Expression(numbers, tuple(re.findall(r"[-+*]", problem.question)))
        turns = Message("user", problem.question), Message("assistant", worked_response(expression))
        examples.append(Example(turns, problem.id))
    return examples
