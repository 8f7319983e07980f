"""Rule-based rewards: text in, `Reward` out. Knows nothing of training and can be used alone."""

from rewards import boxes, choice  # they register their rewards
from rewards.accuracy import accuracy_reward, accuracy_rewards
from rewards.checkers import blocksworld, countdown, knights, multiplication
from rewards.registry import register
from rewards.scorer import Component, Scorer
from rewards.shaping import language, length, repetition, tools
from rewards.shaping.format import format_reward
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
