"""How a recipe is read: Hydra composes the YAML, pydantic checks it, and every problem is told at
once.

Nothing is translated or guessed. A key that the schema lacks is an error that names the nearest key
which exists.
"""

from __future__ import annotations

import itertools
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from grpo.common.errors import RecipeError, UserError
from grpo.common.names import hint

Model = TypeVar("Model", bound="Settings")


class Settings(BaseModel):
    """A block of a recipe: frozen, without unknown keys, and without silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


UNSET = "???"  # a value that the command line has to give


def _expand(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:  # no such user: then it is the name of a file
        return path


# A path in which `~` is the home folder
PathText = Annotated[str, Field(min_length=1), AfterValidator(_expand)]


def compose(
    name: str, overrides: Sequence[str], folder: Path, shared: Path | None = None
) -> dict[str, Any]:
    """Recipe `name` of `folder` as a plain tree, with its defaults list and the overrides applied.

    Overrides are written as Hydra writes them. They are forced in, so that an unknown key reaches
    the schema, which knows the nearest one. `???` stays where nothing was set.

    Args:
        name: of the recipe, without .yaml.
        overrides: `key=value`, `+key=value`, `++key=value`, `~key`, and `group=choice` where the
            recipe's defaults list has the group.
        folder: where the recipe is.
        shared: another folder whose recipes and groups a defaults list can name.

    Raises:
        UserError: no such recipe, or something in it or in the overrides that Hydra cannot read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    if not (folder / f"{name}.yaml").is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise UserError(f"--config-name {name}: no such recipe in {folder}; {hint(name, known)}")
    places = [folder.resolve()] + ([] if shared is None else [shared.resolve()])
    with _readable(f"recipe {name!r} with overrides {list(overrides)}"):
        groups = [f"hydra.searchpath=[{', '.join(map(_quoted, places[1:]))}]"]
        values = []
        for override in _parsed(overrides):
            # A group choice such as `model=tiny` selects a file of recipes/model/, which only
            # Hydra can do.
            key, value = override.key_or_group, override.value()
            if isinstance(value, str) and any((place / key).is_dir() for place in places):
                choices = {file.stem for place in places for file in (place / key).glob("*.yaml")}
                if value not in choices:
                    raise UserError(
                        f"{override.input_line}: no such choice; {hint(value, choices)}"
                    )
                groups.append(override.input_line)
            else:
                values.append(override)
        with initialize_config_dir(str(places[0]), version_base="1.3"):
            tree = hydra_compose(name, groups)
        OmegaConf.set_struct(tree, False)
        return _applied(tree, values)


def with_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A plain tree with overrides applied, for settings that have no recipe of their own.

    Args:
        tree: what stands there without them.
        overrides: as `compose` takes them, without choices of groups.

    Raises:
        UserError: an override that Hydra's grammar refuses.
    """
    from omegaconf import OmegaConf

    with _readable(f"overrides {list(overrides)}"):
        return _applied(OmegaConf.create(dict(tree)), _parsed(overrides))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """What Hydra, OmegaConf and YAML cannot read is an error of the user's."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"cannot read {what}: {error.__cause__ or error}") from None


def _parsed(overrides: Sequence[str]) -> list[Any]:
    """Overrides as Hydra understands them.

    Raises:
        UserError: one with several values.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    # Hydra's grammar refuses `key=~/folder`, which is what a person writes.
    overrides = [
        re.sub(r"^([+\w.]+)=(~(/[^\s'\"]*)?)$", r"\1='\2'", override) for override in overrides
    ]
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line}: several values; a run takes one, and [a, b] is a list"
            )
    return parsed


def _applied(tree: Any, overrides: Sequence[Any]) -> dict[str, Any]:
    """The tree as plain values, with overrides forced in."""
    from omegaconf import OmegaConf

    for override in overrides:
        key = override.key_or_group
        if override.is_delete():
            _delete(tree, key)
        else:
            OmegaConf.update(tree, key, override.value(), merge=False, force_add=True)
    composed = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def _quoted(folder: Path) -> str:
    return "'file://" + str(folder).replace("'", "\\'") + "'"


def _delete(tree: Any, key: str) -> None:
    """Take `key` out of a composed recipe.

    Raises:
        UserError: it is not there; a typo would otherwise delete nothing without a word.
    """
    from omegaconf import DictConfig, OmegaConf

    above, _, last = key.rpartition(".")
    parent = OmegaConf.select(tree, above) if above else tree
    if not isinstance(parent, DictConfig) or last not in parent:
        known = map(str, parent) if isinstance(parent, DictConfig) else ()
        raise UserError(f"~{key}: the recipe has no such key; {hint(last, known)}")
    parent.pop(last)


def read(
    schema: type[Model],
    tree: Mapping[str, Any],
    recipe: str,
    conflicts: Callable[[Model], list[str]] = lambda _: [],
    problems: Sequence[str] = (),
) -> Model:
    """The checked settings of a recipe.

    A setting with a problem is read as its default while the rest is checked, so that a person sees
    all problems at once. `conflicts` lists what no single field can see: combinations of settings
    that cannot work. Those that name a setting with a problem of its own are left out, because they
    speak of the default.

    Args:
        schema: what the recipe has to be.
        tree: as `compose` returns it.
        recipe: its name, for the message.
        conflicts: problems of settings that are fine one by one.
        problems: what was found before.

    Raises:
        RecipeError: everything that is wrong, one problem a line.
    """
    settings, wrong = check(schema, tree)
    found = [*problems, *wrong]
    if settings is not None:
        keys = {re.split(r"[=:]", problem, maxsplit=1)[0] for problem in wrong}
        found += [
            conflict
            for conflict in conflicts(settings)
            if not any(re.search(rf"{re.escape(key)}(?![\w])", conflict) for key in keys)
        ]
    if settings is None or found:
        raise RecipeError(recipe, found)
    return settings


def check(schema: type[Model], tree: Mapping[str, Any]) -> tuple[Model | None, list[str]]:
    """Settings and all problems.

    A wrong setting is read as its default. A required one is read as the first of its `examples`
    in the schema. Without one there are no settings, and None is returned.
    """
    rest = json.loads(json.dumps(tree, default=str))
    unset = list(_unset(rest))
    problems = [f"{'.'.join(path)}: not set; add {'.'.join(path)}=VALUE" for path in unset]
    for path in unset:
        _remove(rest, path)
    # Each round takes out what is wrong and puts in what is missing. A check of a whole block
    # waits until its settings are right, so it speaks in a later round.
    for turn in itertools.count():
        try:
            return _validate(schema, rest), list(dict.fromkeys(problems))
        except ValidationError as error:
            faults = error.errors(include_url=False)
        mended = False
        for fault in faults:
            models, shown = _along(schema, fault["loc"])
            if fault["type"] != "missing":
                problems.append(message(schema, fault))
                mended |= _remove(rest, shown)
                continue
            if turn == 0 and tuple(shown) not in unset:
                problems.append(message(schema, fault))
            field = models[-1].model_fields.get(str(shown[-1]))
            if field is not None and field.examples:
                mended |= _put(rest, shown, field.examples[0])
        if not mended:
            break
    return None, list(dict.fromkeys(problems))


def _validate(schema: type[Model], tree: Mapping[str, Any]) -> Model:
    # As JSON, because strict pydantic then takes a list where the schema has a tuple, as YAML
    # writes both.
    return schema.model_validate_json(json.dumps(tree))


def _unset(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The ways to all values that are `???`."""
    for key, value in tree.items():
        if value == UNSET:
            yield (*above, key)
        elif isinstance(value, dict):
            yield from _unset(value, (*above, key))


def _remove(tree: Any, location: Sequence[int | str]) -> bool:
    """Take a wrong setting out of a plain tree; of a list, the whole list. Was there one?"""
    parent, last = None, ""
    for part in location:
        if isinstance(tree, dict):
            if part not in tree:
                return False
            parent, last = tree, str(part)
        elif not (isinstance(tree, list) and isinstance(part, int) and part < len(tree)):
            break
        tree = tree[part]  # type: ignore[index]
    if parent is None:
        return False
    del parent[last]
    return True


def _put(tree: Any, location: Sequence[int | str], value: Any) -> bool:
    """Put a stand-in where a required setting is missing. Is there a place for it?"""
    for part in location[:-1]:
        if isinstance(tree, dict) and part not in tree:
            tree[part] = {}
        tree = tree[part] if isinstance(tree, dict) else None
    if not isinstance(tree, dict):
        return False
    tree[str(location[-1])] = value
    return True


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
    if kind in ("too_short", "too_long", "string_too_short"):
        what = "characters" if kind.startswith("string") else "items"
        least = kind.endswith("short")
        bound = context["min_length" if least else "max_length"]
        return f"{path}={value!r}: needs at {'least' if least else 'most'} {bound} {what}"
    if kind in _BOUNDS:
        key, text = _BOUNDS[kind]
        return f"{path}={value}: {text.format(_short(context[key]))}"
    if kind == "finite_number":
        return f"{path}={value}: must be a finite number"
    if kind == "value_error":  # a component's own check, whose message names the setting
        return f"{path}: {context['error']}" if path else str(context["error"])
    return f"{path}={value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _short(bound: Any) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


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


def hydra_text(value: Any) -> str:
    """A plain value as Hydra's grammar of overrides reads it.

    >>> hydra_text({"layers": [2, None], "name": "it's"})
    "{layers: [2, null], name: 'it\\\\'s'}"
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {hydra_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(hydra_text, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)
