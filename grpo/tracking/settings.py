"""The `tracking` section of a recipe."""

from dataclasses import dataclass, field
from typing import Literal

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbConfig:
    """Where and how runs go to wandb."""

    mode: WandbMode = (
        "auto"  # auto: online when a key is found, offline otherwise; WANDB_MODE overrides auto
    )
    project: str = "grpo"
    entity: str | None = None  # None: the key's default entity
    name: str | None = None  # None: recipe and name of the run folder
    group: str | None = None  # runs that belong together, e.g. the seeds of one recipe
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """What a run records beside its metrics, and where it is copied to."""

    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: bool = True
    plots: bool = True
    rollout_tokens: bool = True  # token ids, log-probs and versions beside the texts of rollouts/
