"""The cleaning stages by name, in the order in which the plain command line runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import create_model

from data.cleaning.answers import NormaliseAnswers
from data.cleaning.base import Stage
from data.cleaning.decontaminate import Decontaminate
from data.cleaning.duplicates import ConflictingAnswers, ExactDuplicates, NearDuplicates
from data.cleaning.embeddings import EmbeddingDuplicates
from data.cleaning.gradable import Gradable
from data.cleaning.guessable import DropChoices
from data.cleaning.length import PromptLength
from data.cleaning.rates import GuessRate, PassRate
from data.cleaning.select_s1 import SelectS1
from grpo.common.recipes import Settings, read

STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        NormaliseAnswers,
        Decontaminate,
        ConflictingAnswers,
        ExactDuplicates,
        NearDuplicates,
        EmbeddingDuplicates,
        Gradable,
        DropChoices,
        PromptLength,
        PassRate,
        GuessRate,
        SelectS1,
    )
}

# Decontamination comes before the duplicate stages, so that each overlap is reported as one.
DEFAULT_STAGES = (
    "normalise_answers",
    "decontaminate",
    "conflicting_answers",
    "exact_duplicates",
    "near_duplicates",
    "gradable",
)

# `stages` of a recipe: a block for each stage that is to run. Their order is the recipe's.
Stages = create_model(
    "Stages",
    __base__=Settings,
    **{name: (stage | None, None) for name, stage in STAGES.items()},  # type: ignore[call-overload]
)


def make_stage(name: str, options: Mapping[str, Any]) -> Stage:
    """A stage from a recipe's `stages.<name>` block.

    Raises:
        RecipeError: no such stage, an unknown option, a wrong value, or a missing one.
    """
    stages: Any = read(Stages, {name: dict(options)}, "stages")
    stage: Stage = getattr(stages, name)
    return stage
