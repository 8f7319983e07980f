"""The cleaning stages by name, in the order in which the plain command line runs them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

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
from data.errors import DataError

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


def make_stage(name: str, options: Mapping[str, Any]) -> Stage:
    """A stage from a recipe's `stages.<name>` block.

    Raises:
        DataError: no such stage, an unknown option, or one that is missing.
    """
    if name not in STAGES:
        raise DataError(f"stages.{name}: no such stage{_hint(name, STAGES)}")
    fields = {field.name: field for field in dataclasses.fields(STAGES[name])}
    for key, value in options.items():
        if key not in fields:
            raise DataError(f"stages.{name}.{key}: unknown option{_hint(key, fields)}")
        default = fields[key].default
        if isinstance(default, (int, float)) and (
            isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, (int, float))
        ):
            raise DataError(f"stages.{name}.{key}={value!r}: needs a {type(default).__name__}")
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and options.get(key) is None:
            raise DataError(f"stages.{name}.{key}: must be set")
    return STAGES[name](**options)


def _hint(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"
