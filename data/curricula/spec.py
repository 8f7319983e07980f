"""How training draws its problems, as recipes write it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from grpo.common.recipes import Settings

Schedule = Literal["classic", "balanced", "cosine", "gaussian"]


class CurriculumSpec(Settings):
    """A kind of curriculum, and the settings that it looks at."""

    kind: Literal["uniform", "weighted", "easy_to_hard", "prioritised"] = "uniform"
    """uniform: all problems equally often. weighted: sources by weight. easy_to_hard: levels, the
    easy ones first. prioritised: what fails often comes often."""
    weights: dict[str, float] = Field(default_factory=dict)
    """weighted: weight by source. Empty: the weights of the sources themselves."""
    schedule: Schedule = "gaussian"
    """easy_to_hard: how the levels follow each other."""
    num_levels: int | None = Field(None, ge=1)
    """easy_to_hard: levels to make of `pass_rate`. null: the data's own `level`."""
    beta: float = Field(0.5, gt=0, allow_inf_nan=False)
    """easy_to_hard, gaussian: below 1 leaves the easy levels sooner."""
    sigma: float = Field(0.5, gt=0, allow_inf_nan=False)
    """easy_to_hard, gaussian: width of the bell, in levels."""
    min_weight: float = Field(0.05, gt=0, allow_inf_nan=False)
    """prioritised: what is always solved is still drawn with this weight."""

    @model_validator(mode="after")
    def _looks_at_all_that_is_set(self) -> CurriculumSpec:
        for name, field in type(self).model_fields.items():
            value, default = getattr(self, name), field.get_default(call_default_factory=True)
            if name != "kind" and value != default and name not in _SETTINGS[self.kind]:
                raise ValueError(
                    f"{name}={value}: kind={self.kind} does not look at it; remove one"
                )
        if any(not 0 <= weight < float("inf") for weight in self.weights.values()):
            raise ValueError(f"weights={self.weights}: a weight is a number that is not negative")
        return self


_SETTINGS: dict[str, tuple[str, ...]] = {
    "uniform": (),
    "weighted": ("weights",),
    "easy_to_hard": ("schedule", "num_levels", "beta", "sigma"),
    "prioritised": ("min_weight",),
}
