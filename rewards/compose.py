"""The weighted sum of named rewards that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards import registry
from rewards.types import Sample, Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One named reward of a recipe: its weight in the sum and the options of its function."""

    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)


class Scorer:
    """Scores groups of samples by a weighted sum of rewards; built once from a recipe.

    Raises:
        ValueError: an unknown reward or option; all problems are in one message, one a line.
    """

    def __init__(self, components: Mapping[str, Component]) -> None:
        errors = []
        for name, component in components.items():
            try:
                errors += registry.check_options(name, dict(component.options))
            except ValueError as error:
                errors.append(str(error))
        if errors:
            raise ValueError("\n".join(errors))
        self.components = dict(components)

    def score_group(self, samples: Sequence[Sample]) -> list[Score]:
        """Scores of all responses to one prompt, in order."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> Score:
        rewards = {
            name: registry.apply(name, sample, dict(component.options)) for name, component in self.components.items()
        }
        total = sum(self.components[name].weight * reward.score for name, reward in rewards.items())
        return Score(total, rewards)
