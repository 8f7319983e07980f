"""Plain trees into typed, frozen dataclasses, strictly: every unknown key and wrong type is found
in one pass.

Nothing is translated or guessed. A key that the schema lacks is an error that names the nearest key
which exists.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


def read(cls: type[T], tree: Any, path: str = "") -> tuple[T | None, list[str]]:
    """Build dataclass `cls` from a mapping; returns the object and all problems.

    A setting with a problem is read as its default, so that what depends on the others can still be
    checked; where there is none, the object is None.
    """
    problems: list[str] = []
    value = _read_dataclass(cls, tree, path, problems)
    return value, problems


def _read_dataclass(cls: type, tree: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(tree, Mapping):
        problems.append(f"{path or 'the recipe'}: expected a mapping, got {tree!r}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in tree:
        if key not in fields:
            problems.append(
                f"{_join(path, str(key))}: unknown key; {_nearest(str(key), list(fields))}"
            )
    values = {}
    for name, field in fields.items():
        before = len(problems)
        if name in tree:
            value = _read_value(hints[name], tree[name], _join(path, name), problems)
            if len(problems) == before or dataclasses.is_dataclass(value):
                values[name] = value
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{_join(path, name)}: missing; it has no default")
    try:
        return cls(**values)
    except TypeError:  # a required setting is missing or wrong, and listed
        return None
    except ValueError as error:  # a component's own check of its settings
        problems.append(f"{path}: {error}")
        return None


def _read_value(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        choices = typing.get_args(kind)
        if value is None and type(None) in choices:
            return None
        (kind,) = (choice for choice in choices if choice is not type(None))
        return _read_value(kind, value, path, problems)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, path, problems)
    if origin is Literal:
        return _read_choice(typing.get_args(kind), value, path, problems)
    if origin in (tuple, list):
        items = _read_list(typing.get_args(kind)[0], value, path, problems)
        return items if items is None else origin(items)
    if kind is dict or origin in (dict, Mapping):
        return _read_dict(typing.get_args(kind), value, path, problems)
    return _read_scalar(kind, value, path, problems)


def _read_choice(choices: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
    if value not in choices or isinstance(value, bool) not in {
        isinstance(c, bool) for c in choices
    }:
        allowed = ", ".join(str(choice) for choice in choices)
        near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        problems.append(f"{path}: {value!r} is not one of {allowed}{hint}")
    return value


def _read_list(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, list | tuple):
        problems.append(f"{path}: expected a list, got {value!r}; write [{value}]")
        return None
    return [_read_value(kind, item, f"{path}[{i}]", problems) for i, item in enumerate(value)]


def _read_dict(kinds: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{path}: expected a mapping, got {value!r}")
        return None
    item_kind = kinds[1] if kinds else Any
    return {
        str(key): _read_value(item_kind, item, _join(path, str(key)), problems)
        for key, item in value.items()
    }


def _read_scalar(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        problems.append(f"{path}: expected a number, got {value!r}; YAML wants a dot in 1.0e-4")
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        problems.append(f"{path}: expected {_KIND_NAMES[kind]}, got {value!r}")
        return None
    return value


_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
