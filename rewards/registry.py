"""Rewards by name. A reward is a function `(sample, **options) -> Reward`; a recipe names it and weighs it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from rewards.types import Reward, Sample

RewardFn = Callable[..., Reward]

_REGISTRY: dict[str, RewardFn] = {}


def register(name: str) -> Callable[[RewardFn], RewardFn]:
    """Make a reward function available to recipes as `rewards.components.<name>`.

    Raises:
        ValueError: the name is taken by another function.
    """

    def add(function: RewardFn) -> RewardFn:
        if _REGISTRY.setdefault(name, function) is not function:
            raise ValueError(f"a reward named {name!r} is already registered by {_REGISTRY[name].__module__}")
        return function

    return add


def names() -> list[str]:
    """Names of all registered rewards, sorted."""
    return sorted(_REGISTRY)


def lookup(name: str) -> RewardFn:
    """The reward function called `name`.

    Raises:
        ValueError: no such reward; the message has the nearest name.
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known rewards: {', '.join(names())}"
        raise ValueError(f"rewards.components.{name}: no such reward{hint}")
    return _REGISTRY[name]


def check_options(name: str, options: dict[str, Any]) -> list[str]:
    """Problems with a component's options, as messages; empty when the reward accepts them all."""
    accepted = [p for p in inspect.signature(lookup(name)).parameters if p != "sample"]
    errors = []
    for key in options:
        if key not in accepted:
            near = difflib.get_close_matches(key, accepted, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(accepted) or 'no options'}"
            errors.append(f"rewards.components.{name}.{key}: unknown option; {hint}")
    return errors


def apply(name: str, sample: Sample, options: dict[str, Any]) -> Reward:
    """Score one sample with the reward called `name`."""
    return lookup(name)(sample, **options)
