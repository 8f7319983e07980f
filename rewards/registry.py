"""Rewards by name: functions of a sample, or of all samples of a group. A recipe names them and
weighs them.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import math
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grpo.common.files import plain
from grpo.common.names import hint
from rewards.types import InfrastructureError, NeedsWorkerError, Reward, Sample

# Group of entry points under which an installed package offers rewards.
ENTRY_POINTS = "grpo.rewards"

# Option of a reward whose other options may differ between data sets.
PER_DATA_SOURCE = "per_data_source"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One registered reward. `register` says what the fields mean.

    wants_earlier: it looks at rewards of other components of the same response (parameter
        `earlier`).
    options: names of the parameters that a recipe may set.
    """

    function: Callable[..., Any]
    bounded: bool
    group: bool
    owns_gold: bool
    per_token: bool
    check_gold: Callable[[str], Any] | None
    wants_earlier: bool
    options: tuple[str, ...]


_REGISTRY: dict[str, Entry] = {}


def register(
    name: str,
    *,
    bounded: bool = False,
    group: bool = False,
    owns_gold: bool = False,
    per_token: bool = False,
    check_gold: Callable[[str], Any] | None = None,
) -> Callable[[Any], Any]:
    """Make a reward function available to recipes as `rewards.components.<name>`.

    The function is `(sample, **options) -> Reward`, or with `group` `(samples, **options) ->
    list[Reward]`. A parameter named `earlier` receives the rewards of the other components: a
    mapping by name, for a group one for each sample.

    Args:
        bounded: its cost is linear in the response with a small factor, so it may run in the
            caller's process.
        group: it takes all samples of one prompt and returns one reward each.
        owns_gold: it decides whether a response is right. In a recipe with several such rewards,
            the row's `reward` says which one is computed.
        per_token: its rewards carry `token_scores`, one for each of `Sample.token_ids`.
        check_gold: raises ValueError for a gold that it cannot read. Implies `owns_gold`.

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
            owns_gold=owns_gold or check_gold is not None,
            per_token=per_token,
            check_gold=check_gold,
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
        raise ValueError(f"rewards.components.{name}: no such reward; {hint(name, _REGISTRY)}")
    return _REGISTRY[name]


def owns_gold(name: str) -> bool:
    """Is `name` a reward that decides whether a response is right? False where it is no registered
    one, as the components are that a model of preferences scores.
    """
    return name in _REGISTRY and _REGISTRY[name].owns_gold


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

    Values are checked against the signature of the function by pydantic, without conversions.
    Parameters whose type pydantic does not know are the function's own business.
    """
    where = f"rewards.components.{name}"
    function, accepted = lookup(name), entry(name).options
    errors = _option_errors(function, accepted, options, where)
    by_data_source = options.get(PER_DATA_SOURCE)
    for data_source, own in by_data_source.items() if isinstance(by_data_source, Mapping) else ():
        if isinstance(own, Mapping):
            at = f"{where}.{PER_DATA_SOURCE}.{data_source}"
            errors += _option_errors(function, accepted, own, at)
    return errors + [
        f"{where}.{key}: must be set"
        for key in entry(name).options
        if key not in options
        and parameters(name)[key].default is inspect.Parameter.empty
        and parameters(name)[key].kind is not inspect.Parameter.VAR_POSITIONAL
    ]


def check_arguments(kind: type, options: Mapping[str, Any], where: str) -> list[str]:
    """As `check_options`, for options that become the fields of a data class."""
    fields = inspect.signature(kind).parameters
    return _option_errors(kind, tuple(fields), options, where) + [
        f"{where}.{key}: must be set"
        for key, field in fields.items()
        if key not in options and field.default is inspect.Parameter.empty
    ]


_SPELT = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "none_required": "null",
    "dict_type": "a block of keys and values",
    "mapping_type": "a block of keys and values",
    "list_type": "a list",
    "tuple_type": "a list",
    "is_instance_of": "a list",
}


def _option_errors(
    function: Callable[..., Any],
    accepted: Sequence[str],
    options: Mapping[str, Any],
    where: str,
) -> list[str]:
    # Here, so that a worker starts without it.
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    try:
        types = typing.get_type_hints(function)
    except NameError:  # an operator's function may name types that only their type checker imports
        types = {}
    errors = []
    for key, value in options.items():
        if key not in accepted:
            advice = hint(key, accepted) if accepted else "it takes no options"
            errors.append(f"{where}.{key}: unknown option; {advice}")
            continue
        kind = types.get(key, Any)
        try:
            adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
            adapter.validate_python(value)
        except PydanticUserError:  # a type that pydantic does not know
            continue
        except ValidationError as error:
            wanted: dict[str, list[str]] = {}  # path of a value -> what it may be
            values: dict[str, Any] = {}
            for fault in error.errors(include_url=False):
                # A union's choices stand in the location too. A recipe has no such keys.
                inside = [part for part in fault["loc"] if _holds(value, part)]
                path = ".".join([f"{where}.{key}", *map(str, inside)])
                values[path] = fault["input"]
                expected = str(fault.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
                spelt = expected if fault["type"] == "literal_error" else _SPELT.get(fault["type"])
                wanted.setdefault(path, []).append(spelt or fault["msg"])
                if not inside and type(None) in typing.get_args(kind):
                    wanted[path].append("null")
            errors += [
                f"{path}={values[path]!r}: must be {' or '.join(dict.fromkeys(choices))}"
                for path, choices in wanted.items()
            ]
    return errors


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list | tuple) and isinstance(part, int)


def call(
    name: str,
    samples: Sequence[Sample],
    options: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Reward]],
) -> list[Reward]:
    """The rewards of one sample, or of all samples of a group, whatever the function does.

    A finite number (of Python or numpy) is taken as a score. A function that raises or returns
    something else scores 0 with the reason `error`; `details` has the text of its failure. So the
    result is the same in this process and in a worker.

    Raises:
        NeedsWorkerError: it would cost more than this process should spend.
        InfrastructureError: the machine failed, not the reward.
    """
    found = entry(name)
    extra: dict[str, Any] = {}
    if found.wants_earlier:
        extra["earlier"] = list(earlier) if found.group else earlier[0]
    try:
        result = found.function(list(samples) if found.group else samples[0], **options, **extra)
        results = list(result) if found.group else [result]
        if len(results) != len(samples):
            raise ValueError(f"it returned {len(results)} rewards for {len(samples)} samples")
        return [_checked(one, found, sample) for one, sample in zip(results, samples, strict=True)]
    except (NeedsWorkerError, InfrastructureError):
        raise
    except MemoryError:
        return [Reward(0.0, "limit", {"limit": "memory"})] * len(samples)
    except SystemExit:
        return [Reward(0.0, "crash", {"error": "SystemExit"})] * len(samples)
    except Exception as error:  # anything a reward function may raise belongs to its answer
        details = {"error": f"{type(error).__name__}: {error}"[:300]}
        if frames := traceback.extract_tb(error.__traceback__)[1:]:
            last = frames[-1]
            details["where"] = f"{Path(last.filename).name}:{last.lineno} in {last.name}"
        return [Reward(0.0, "error", details)] * len(samples)


def _checked(result: Any, found: Entry, sample: Sample) -> Reward:
    """What a function returned as a `Reward` of plain Python values."""
    reward = result if isinstance(result, Reward) else Reward(result, "number")
    score = _number(reward.score)
    if score is None:
        shown = "a Reward with the score " if isinstance(result, Reward) else ""
        text = f"it returned {shown}{reward.score!r}"[:200]
        return Reward(0.0, "error", {"error": f"{text}; return a Reward or a finite number"})
    tokens = None
    if found.per_token:
        numbers = [_number(value) for value in reward.token_scores or ()]
        tokens = [number for number in numbers if number is not None]
        wanted = sample.num_tokens or len(sample.token_ids)
        if len(tokens) != wanted or len(tokens) != len(numbers):
            text = f"it returned {len(tokens)} finite token scores for {wanted} tokens"
            return Reward(0.0, "error", {"error": text})
    details = plain(dict(reward.details))
    return replace(
        reward, score=score, reason=str(reward.reason), details=details, token_scores=tokens
    )


def _number(value: Any) -> float | None:
    """A finite number of Python, numpy or torch; None for anything else."""
    try:
        value = value.item() if hasattr(value, "item") else value
        finite = isinstance(value, bool | int | float) and math.isfinite(value)
    except (ValueError, RuntimeError, OverflowError):  # several numbers, or one beyond a float
        return None
    return float(value) if finite else None
