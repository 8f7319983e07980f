"""How a recipe is read: Hydra composes the YAML, pydantic checks it, and every problem is told at
once.

Nothing is translated or guessed. A key that the schema lacks is an error that names the nearest key
which exists.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from grpo.common.errors import RecipeError, UserError
from grpo.common.names import hint

Model = TypeVar("Model", bound="Settings")


class Settings(BaseModel):
    """A block of a recipe: frozen, without unknown keys, and without silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


def compose(name: str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Recipe `name` of `folder` as a plain tree, with its defaults list and the overrides applied.

    Overrides are written as Hydra writes them. They are forced in, so that an unknown key reaches
    the schema, which knows the nearest one. `???` stays where nothing was set.

    Raises:
        UserError: no such recipe, or something in it or in the overrides that Hydra cannot read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not (folder / f"{name}.yaml").is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise UserError(f"--config-name {name}: no such recipe in {folder}; {hint(name, known)}")
    try:
        groups, values = [], []
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            for override, text in zip(
                OverridesParser.create().parse_overrides(list(overrides)), overrides, strict=True
            ):
                # A group choice such as `model=tiny` selects a file of recipes/model/, which only
                # Hydra can do.
                is_group = (
                    isinstance(override.value(), str) and (folder / override.key_or_group).is_dir()
                )
                groups.append(text) if is_group else values.append(override)
            tree = hydra_compose(name, groups)
        OmegaConf.set_struct(tree, False)
        for override in values:
            if override.is_delete():
                key, _, last = override.key_or_group.rpartition(".")
                parent = OmegaConf.select(tree, key) if key else tree
                if parent is not None:
                    parent.pop(last, None)
            else:
                OmegaConf.update(
                    tree, override.key_or_group, override.value(), merge=False, force_add=True
                )
        composed = OmegaConf.to_container(tree, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = error.__cause__ or error
        raise UserError(
            f"cannot read recipe {name!r} with overrides {list(overrides)}: {cause}"
        ) from None
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def read(
    schema: type[Model],
    tree: Mapping[str, Any],
    recipe: str,
    conflicts: Callable[[Model], list[str]] = lambda _: [],
) -> Model:
    """The checked settings of a recipe.

    A setting with a problem is read as its default while the rest is checked, so that a person sees
    all problems at once. `conflicts` lists what no single field can see: combinations of settings
    that cannot work.

    Raises:
        RecipeError: everything that is wrong, one problem a line.
    """
    settings, problems = check(schema, tree)
    if settings is not None:
        problems += conflicts(settings)
    if settings is None or problems:
        raise RecipeError(recipe, problems)
    return settings


def check(schema: type[Model], tree: Mapping[str, Any]) -> tuple[Model | None, list[str]]:
    """Settings and all problems. Wrong settings are read as their defaults; None where a required
    one is wrong.
    """
    try:
        return _validate(schema, tree), []
    except ValidationError as error:
        faults = error.errors(include_url=False)
    problems = list(dict.fromkeys(message(schema, fault) for fault in faults))
    rest = json.loads(json.dumps(tree))
    for fault in faults:
        _remove(rest, fault["loc"])
    try:
        return _validate(schema, rest), problems
    except ValidationError:
        return None, problems


def _validate(schema: type[Model], tree: Mapping[str, Any]) -> Model:
    # As JSON, because strict pydantic then takes a list where the schema has a tuple, as YAML
    # writes both.
    return schema.model_validate_json(json.dumps(tree))


def _remove(tree: Any, location: tuple[int | str, ...]) -> None:
    """Take a wrong setting out of a plain tree. Parts of the location that name a union's choice
    are skipped.
    """
    parent: Any = None
    last: int | str = ""
    for part in location:
        if (isinstance(tree, dict) and part in tree) or (
            isinstance(tree, list) and isinstance(part, int)
        ):
            parent, last, tree = tree, part, tree[part]
    if isinstance(parent, dict):
        parent.pop(last, None)


_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
}


def message(schema: type[BaseModel], fault: Mapping[str, Any]) -> str:
    """One fault of pydantic as a sentence that names the setting, its value and the fix."""
    kind, value, context = fault["type"], fault.get("input"), fault.get("ctx") or {}
    models, shown = _along(schema, fault["loc"])
    path = ".".join(map(str, shown))
    if kind == "extra_forbidden":
        return f"{path}: unknown key; {hint(str(fault['loc'][-1]), models[-1].model_fields)}"
    if kind == "missing":
        return f"{path}: missing; it has no default"
    if kind in ("literal_error", "enum"):
        choices = [
            choice.strip("'")
            for choice in str(context["expected"]).replace(" or ", ", ").split(", ")
        ]
        near = hint(str(value), choices)
        return f"{path}: {value!r} is not one of {', '.join(choices)}" + (
            f"; {near}" if "mean" in near else ""
        )
    if kind in _KINDS:
        advice = "; write [...]" if _KINDS[kind] == "a list" else ""
        if _KINDS[kind] == "a number" and isinstance(value, str):
            advice = "; YAML wants a dot in 1.0e-4"
        return f"{path}: expected {_KINDS[kind]}, got {value!r}{advice}"
    if kind in _BOUNDS:
        key, text = _BOUNDS[kind]
        return f"{path}={value}: {text.format(context[key])}"
    if kind == "finite_number":
        return f"{path}={value}: must be a finite number"
    if kind == "value_error":  # a component's own check, whose message names the setting
        return f"{path}: {context['error']}" if path else str(context["error"])
    return f"{path}={value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _along(
    schema: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[list[type[BaseModel]], list[int | str]]:
    """Schemas that the way to a setting passes, and the keys of that way as a recipe has them."""
    models: list[type[BaseModel]] = [schema]
    shown: list[int | str] = []
    kinds: list[Any] = [schema]
    for part in location:
        fields = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        named = next((kind for kind in fields if part in kind.model_fields), None)
        if named is not None:
            models.append(named)
            kinds = _members(named.model_fields[str(part)].annotation)
        elif tagged := [
            kind for kind in fields if str(part) == kind.__name__ or _has_tag(kind, str(part))
        ]:
            models.append(tagged[0])  # pydantic names the choice of a union; a recipe does not
            kinds = tagged
            continue
        else:
            models += fields[:1]
            kinds = [
                member
                for kind in kinds
                for item in typing.get_args(kind)
                for member in _members(item)
            ]
        shown.append(part)
    return models, shown


def _members(annotation: Any) -> list[Any]:
    """The choices of a union, or the type itself."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for choice in typing.get_args(annotation) for member in _members(choice)]
    return [annotation]


def _has_tag(kind: type[BaseModel], tag: str) -> bool:
    """Is `tag` a value of a field of `kind` that has only fixed values, or a tag of its own?"""
    return tag in getattr(kind, "tags", ()) or any(
        tag in map(str, typing.get_args(field.annotation)) for field in kind.model_fields.values()
    )
