"""Are the values of a recipe of the types that a dataclass says? Recipes are text; mypy never sees
them.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from data.errors import DataError


def check_options(
    cls: type, options: Mapping[str, Any], where: str, exclude: Iterable[str] = ()
) -> None:
    """Refuse options that `cls` does not have, values of other types, and missing ones.

    Args:
        cls: a dataclass of plain types, unions, literals, tuples and mappings.
        where: how the message calls the block, such as `stages.near_duplicates`.
        exclude: fields that a recipe may not set.

    Raises:
        DataError: names the option, its value, and what it may be.
    """
    fields = {
        field.name: field for field in dataclasses.fields(cls) if field.name not in set(exclude)
    }
    hints = typing.get_type_hints(cls)
    for key, value in options.items():
        if key not in fields:
            raise DataError(f"{where}.{key}: unknown option{hint(key, fields)}")
        if not _fits(value, hints[key]):
            raise DataError(f"{where}.{key}={value!r}: must be {_spell(hints[key])}")
    for key, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and key not in options:
            raise DataError(f"{where}.{key}: must be set")


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names) or 'none'}"


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if origin is not None:  # a mapping
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _spell(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_spell, arguments))
    if origin is tuple:
        return "a list"
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(hint, "a block of keys and values")
