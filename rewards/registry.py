"""Rewards by name: functions of a sample, or of all samples of a group; a recipe names them and
weighs them.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewards.types import Reward, Sample

RewardFn = Callable[..., Reward]
GroupFn = Callable[..., list[Reward]]

ENTRY_POINTS = (
    "grpo.rewards"  # group of entry points under which an installed package offers rewards
)

PER_DATA_SOURCE = (
    "per_data_source"  # option of a reward whose other options may differ between data sets
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One registered reward.

    bounded: its cost is linear in the response with a small factor, so it may run in the caller's
        process.
    group: it takes all samples of one prompt and returns one reward each.
    wants_earlier: it looks at rewards of other components of the same response (parameter
        `earlier`).
    options: names of the parameters that a recipe may set.
    """

    function: Callable[..., Any]
    bounded: bool
    group: bool
    wants_earlier: bool
    options: tuple[str, ...]


_REGISTRY: dict[str, Entry] = {}


def register(name: str, *, bounded: bool = False, group: bool = False) -> Callable[[Any], Any]:
    """Make a reward function available to recipes as `rewards.components.<name>`.

    The function is `(sample, **options) -> Reward`, or with `group` `(samples, **options) ->
    list[Reward]`. A parameter named `earlier` receives the rewards of the other components: a
    mapping by name, for a group one for each sample.

    Raises:
        ValueError: the name is taken by another function.
    """

    def add(function: Any) -> Any:
        parameters = inspect.signature(function).parameters
        options = tuple(
            p.name
            for p in list(parameters.values())[1:]
            if p.name not in ("earlier", "limits") and p.kind is not inspect.Parameter.VAR_KEYWORD
        )
        entry = Entry(
            function=function,
            bounded=bounded,
            group=group,
            wants_earlier="earlier" in parameters,
            options=options,
        )
        if _REGISTRY.setdefault(name, entry).function is not function:
            taken = _REGISTRY[name].function.__module__
            raise ValueError(f"a reward named {name!r} is already registered by {taken}")
        return function

    return add


def names() -> list[str]:
    """Names of all registered rewards, sorted."""
    return sorted(_REGISTRY)


def load_modules(modules: Sequence[str]) -> None:
    """Import the operator's own modules, which register their rewards.

    Raises:
        ImportError: a module that the recipe names cannot be imported.
    """
    for module in modules:
        importlib.import_module(module)


def load_entry_points() -> None:
    """Import what installed packages offer under the entry point group `grpo.rewards`."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry_point.load()


def entry(name: str) -> Entry:
    """The entry of the reward called `name`.

    Raises:
        ValueError: no such reward; the message has the nearest name.
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known rewards: {', '.join(names())}"
        raise ValueError(f"rewards.components.{name}: no such reward{hint}")
    return _REGISTRY[name]


def lookup(name: str) -> Callable[..., Any]:
    """The reward function called `name`.

    Raises:
        ValueError: no such reward.
    """
    return entry(name).function


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """The parameters of the reward called `name`.

    Raises:
        ValueError: no such reward.
    """
    return inspect.signature(lookup(name)).parameters


def check_options(name: str, options: Mapping[str, Any]) -> list[str]:
    """Problems with a component's options, as messages; empty when the reward accepts them all.

    A value must be of the type that the function's signature says, where it says text, number,
    truth value, mapping or `Literal`; other types are the function's own business.
    """
    where = f"rewards.components.{name}"
    errors = _option_errors(name, options, where)
    by_data_source = options.get(PER_DATA_SOURCE)
    for data_source, own in by_data_source.items() if isinstance(by_data_source, Mapping) else ():
        if isinstance(own, Mapping):
            errors += _option_errors(name, own, f"{where}.{PER_DATA_SOURCE}.{data_source}")
    missing = [
        key
        for key in entry(name).options
        if key not in options and _is_required(parameters(name)[key])
    ]
    return errors + [f"{where}.{key}: must be set" for key in missing]


def _option_errors(name: str, options: Mapping[str, Any], where: str) -> list[str]:
    accepted = entry(name).options
    hints = _hints(lookup(name))
    errors = []
    for key, value in options.items():
        if key not in accepted:
            near = difflib.get_close_matches(key, accepted, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"it takes {', '.join(accepted) or 'no options'}"
            )
            errors.append(f"{where}.{key}: unknown option; {hint}")
        elif not _fits(value, hints.get(key, Any)):
            errors.append(f"{where}.{key}={value!r}: must be {_spell(hints[key])}")
    return errors


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # an operator's function may name types that only their type checker imports
        return {}


def _is_required(parameter: inspect.Parameter) -> bool:
    return (
        parameter.default is inspect.Parameter.empty
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    )


_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(one, typing.get_args(hint)[1]) for one in value.values()
        )
    if hint not in _PLAIN:
        return True
    if hint is float:
        return (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and not math.isnan(value)
        )
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_spell, typing.get_args(hint)))
    return _PLAIN.get(hint, "a block of keys and values")


def apply(
    name: str,
    sample: Sample,
    options: Mapping[str, Any],
    earlier: Mapping[str, Reward] | None = None,
) -> Reward:
    """Score one sample with the reward called `name`."""
    found = entry(name)
    extra = {"earlier": earlier or {}} if found.wants_earlier else {}
    reward: Reward = found.function(sample, **options, **extra)
    return reward
