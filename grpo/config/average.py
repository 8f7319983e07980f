"""The settings of `grpo average`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from grpo.common.errors import RecipeError, UserError
from grpo.common.recipes import PathText, Settings, read, with_overrides
from grpo.config.schema import Positive


class AverageConfig(Settings):
    """What `grpo average` reads: `grpo average models=[LONG,SHORT] output_dir=FOLDER`. Kimi k1.5
    (arXiv:2501.12599, section 2.4) averages a model with long thoughts and one with short ones.
    """

    models: Annotated[tuple[PathText, ...], Field(min_length=2, examples=[("long", "short")])]
    """Local Hugging Face folders of one architecture and tokenizer."""
    weights: tuple[Positive, ...] | None = None
    """One weight for each model; together they are 1. Null: equal ones."""
    output_dir: Annotated[PathText, Field(examples=["averaged"])]
    """The folder that gets `policy/`, a model folder, and `summary.json`."""

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each model."""
        return self.weights or (1 / len(self.models),) * len(self.models)


def average_problems(config: AverageConfig) -> list[str]:
    """What no single field can see."""
    weights = config.weights
    if weights is None:
        return []
    if len(weights) != len(config.models):
        return [
            f"weights={list(weights)}: {len(weights)} weights for {len(config.models)} models; "
            "give one for each"
        ]
    if not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-6):
        return [
            f"weights={list(weights)}: their sum is {math.fsum(weights):g}, and that of an average "
            "is 1; divide them by it"
        ]
    return []


def load_average_config(overrides: Sequence[str]) -> AverageConfig:
    """Settings from `key=value` words, written as Hydra writes them.

    Raises:
        UserError: an override that Hydra's grammar refuses, or settings that are wrong, all of them
            at once.
    """
    try:
        return read(AverageConfig, with_overrides({}, overrides), "grpo average", average_problems)
    except RecipeError as error:  # there is no recipe
        raise UserError(str(error).replace("recipe 'grpo average'", "the average", 1)) from None
