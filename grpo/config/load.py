"""From the name of a recipe and its overrides to checked settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.common.names import import_modules
from grpo.common.recipes import compose, read
from grpo.config.conflicts import impossible, impossible_sample, impossible_sft
from grpo.config.sample import SampleConfig
from grpo.config.schema import TrainConfig
from grpo.config.sft import SftConfig

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def load_config(name: str, overrides: Sequence[str], folder: Path | None = None) -> TrainConfig:
    """Read recipe `name` from `folder`, apply Hydra overrides, and check all of it.

    The recipes of the project can be named in the defaults list of a recipe in any folder.

    Raises:
        UserError: no such recipe, or an override that Hydra's grammar refuses.
        RecipeError: modules that cannot be imported, unknown keys, wrong types, values out of range
            and impossible combinations, all at once.
    """
    tree, missing = _composed(name, overrides, folder)
    return read(TrainConfig, tree, name, impossible, missing)


def load_sft_config(name: str, overrides: Sequence[str], folder: Path | None = None) -> SftConfig:
    """As `load_config`, for a recipe of `grpo sft`.

    Raises:
        UserError: as `load_config`.
        RecipeError: as `load_config`.
    """
    tree, missing = _composed(name, overrides, folder)
    return read(SftConfig, tree, name, impossible_sft, missing)


def load_sample_config(
    name: str, overrides: Sequence[str], folder: Path | None = None
) -> SampleConfig:
    """As `load_config`, for a recipe of `grpo sample`.

    Raises:
        UserError: as `load_config`.
        RecipeError: as `load_config`.
    """
    tree, missing = _composed(name, overrides, folder)
    return read(SampleConfig, tree, name, impossible_sample, missing)


def load_run_config(run_dir: Path) -> tuple[str, TrainConfig]:
    """The recipe that a run was made by, from the `config.yaml` and `run.json` of its folder.

    Returns:
        The name of the recipe, and its settings.

    Raises:
        UserError: the folder holds no run of `grpo train`.
        RecipeError: this version does not read its settings.
    """
    import yaml  # here, because a recipe that is refused must not wait for it

    try:
        tree = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        state = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        name = str(state["recipe"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f"{run_dir}: holds no run of grpo train ({type(error).__name__}: {error}); name the "
            "folder that has its config.yaml"
        ) from None
    if not isinstance(tree, dict) or "rollout" not in tree:
        raise UserError(f"{run_dir}: its config.yaml is not that of a run of grpo train")
    missing = _import("modules", tree.get("modules"))
    missing += _import("rewards.modules", tree.get("rewards", {}).get("modules"))
    return name, read(TrainConfig, tree, name, impossible, missing)


def _composed(
    name: str, overrides: Sequence[str], folder: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """A recipe as a tree, and the modules of it that cannot be imported."""
    tree = compose(name, overrides, folder or RECIPES, RECIPES)
    # The operator's modules register names that the schema and the conflicts look up.
    missing = _import("modules", tree.get("modules"))
    rewards = tree.get("rewards")
    if isinstance(rewards, dict):
        missing += _import("rewards.modules", rewards.get("modules"))
    return tree, missing


def _import(key: str, modules: Any) -> list[str]:
    """Import what `key` lists; a module that cannot be imported becomes a problem."""
    problems = []
    for module in modules if isinstance(modules, Iterable) and not isinstance(modules, str) else ():
        if not isinstance(module, str) or not module:
            continue  # the schema says so
        try:
            import_modules([module])
        except ImportError as error:
            problems.append(f"{key}: cannot import {module!r}: {error}; is it on PYTHONPATH?")
    return problems
