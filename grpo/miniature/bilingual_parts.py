"""What recipes name of the bilingual miniature: the base model `bilingual`, the generator of
problems of that name, and the maker of examples `worked_bilingual`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.examples import MAKERS, Example, Message
from data.generators import GeneratorSource, Split, register
from data.types import Problem
from grpo.common.recipes import Settings, check
from grpo.learner.model_folder import BUILDERS
from grpo.miniature import arithmetic, bilingual
from grpo.miniature.arithmetic import ArithmeticSpec
from grpo.miniature.base_model import BaseModelSpec, build_base_model
from grpo.miniature.bilingual import BilingualCorpusSpec

# One product and one sum: a line that pays in each language. Three numbers are learned in minutes.
THREE_NUMBERS = ArithmeticSpec(lengths=(3,))


class BilingualBaseSpec(BaseModelSpec):
    """A base model that has read English and Chinese."""

    problems: ArithmeticSpec = THREE_NUMBERS
    corpus: BilingualCorpusSpec = BilingualCorpusSpec()  # type: ignore[assignment]
    vocab_size: int = 384  # words of two languages, and characters of three bytes

    def documents(self) -> Iterator[str]:
        """The text that it learns, without end."""
        return bilingual.corpus(self.problems, self.corpus, seed=self.seed)

    def code(self) -> tuple[Path, ...]:
        """The files that make the text."""
        return Path(arithmetic.__file__), Path(bilingual.__file__)


@BUILDERS.register("bilingual")
def build(options: Mapping[str, Any], cache_dir: Path) -> Path:
    """The base model of `model: {base: bilingual, base_options: ...}`.

    Raises:
        ValueError: options that the spec does not have, or that cannot be.
    """
    spec, faults = check(BilingualBaseSpec, options)
    if spec is None or faults:
        raise ValueError("; ".join(faults))
    return build_base_model(spec, cache_dir)


class BilingualSource(GeneratorSource):
    """Expressions as questions, half English and half Chinese. The two splits share none."""

    arithmetic: ArithmeticSpec = THREE_NUMBERS
    """Which expressions there are."""


@register("bilingual", BilingualSource)
def bilingual_problems(source: BilingualSource, *, seed: int, split: Split | None) -> list[Problem]:
    """Questions on different expressions of one split, `train` unless it is named.

    Raises:
        ValueError: the split has fewer expressions than that.
    """
    return bilingual.problems(source.arithmetic, split or "train", source.num_problems, seed=seed)


class WorkedBilingualSpec(Settings):
    """Options of `worked_bilingual`."""

    num_examples: Annotated[int, Field(ge=1)]
    """Different expressions, each with its steps and its answer."""
    arithmetic: ArithmeticSpec = THREE_NUMBERS
    """Which expressions there are."""


@MAKERS.register("worked_bilingual")
def worked_bilingual(options: Mapping[str, Any], seed: int, split: Split) -> list[Example]:
    """Right answers in the language of their question.

    Raises:
        ValueError: options that the spec does not have, or fewer expressions than that.
    """
    spec, faults = check(WorkedBilingualSpec, options)
    if spec is None or faults:
        raise ValueError("; ".join(faults))
    examples = []
    for problem in bilingual.problems(spec.arithmetic, split, spec.num_examples, seed=seed):
        expression, language = bilingual.parse_question(problem.question)
        steps = expression.steps()
        response = bilingual.worked_response(steps, [language] * len(steps))
        turns = Message("user", problem.question), Message("assistant", response)
        examples.append(Example(turns, problem.id))
    return examples
