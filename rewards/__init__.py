"""Rule-based rewards: text in, `Reward` out. Knows nothing of training and can be used alone."""

from rewards import (
    blocksworld,
    boxes,
    choice,
    countdown,
    knights,
    language,
    length,
    multiplication,
    repetition,
    tools,
)  # they register their rewards
from rewards.accuracy import accuracy_reward, accuracy_rewards
from rewards.compose import Component, Scorer
from rewards.format import format_reward
from rewards.registry import register
from rewards.types import InfrastructureError, Reward, Sample, Score

__all__ = [
    "Component",
    "InfrastructureError",
    "Reward",
    "Sample",
    "Score",
    "Scorer",
    "accuracy_reward",
    "accuracy_rewards",
    "blocksworld",
    "boxes",
    "choice",
    "countdown",
    "format_reward",
    "knights",
    "language",
    "length",
    "multiplication",
    "register",
    "repetition",
    "tools",
]
