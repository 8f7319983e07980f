"""What a preparation run does, from a recipe in recipes/data/ or from plain flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from data.cleaning import DEFAULT_STAGES, Stages
from data.cleaning.base import Stage
from data.sources.spec import FileSource, Source
from grpo.common.errors import RecipeError, UserError
from grpo.common.recipes import Settings, compose, read

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "data"


class PrepareRecipe(Settings):
    """A recipe of recipes/data/."""

    sources: dict[str, Source] = Field(min_length=1)
    """Problems to clean, by a name of your choice. A name begins the ids of rows without one."""
    against: dict[str, Source] = Field(default_factory=dict)
    """Evaluation sets. What overlaps with them goes out."""
    output: str
    """The clean problems, JSONL."""
    report: str | None = None
    """What each stage did, JSON. null: beside the output."""
    dropped: str | None = None
    """Dropped rows with stage and reason, JSONL. null: beside the output."""
    work_dir: str | None = None
    """Folder of each stage's result. With one, a run goes on where it was stopped."""
    workers: int = Field(1, ge=1)
    """Processes. The output does not depend on them."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows that may be skipped over all sources, beside those that a source allows itself."""
    stages: Stages  # type: ignore[valid-type]
    """The stages to run, in the recipe's order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """All of one run. Report and dropped rows stand beside the output unless they are given another
    place.
    """

    sources: Mapping[str, Source]
    against: Mapping[str, Source]
    output: Path
    report: Path
    dropped: Path
    stages: tuple[Stage, ...]
    work_dir: Path | None = None
    workers: int = 1
    max_bad_rows: int = 0


def from_flags(
    inputs: Sequence[str],
    against: Sequence[str],
    output: str,
    mapping: str = "plain",
    columns: Mapping[str, str] | None = None,
    **settings: Any,
) -> PrepareConfig:
    """The plain case: files in, the default stages, one file out.

    Raises:
        UserError: settings that cannot be.
    """
    source: dict[str, Any] = {"mapping": mapping, "columns": dict(columns or {})}
    raw = {
        "sources": {name: source | {"path": path} for name, path in _named(inputs).items()},
        "against": list(against),
        "stages": dict.fromkeys(DEFAULT_STAGES, None),
        "output": output,
    }
    return from_dict(raw | settings, "of the command line")


def from_recipe(
    name: str,
    overrides: Sequence[str],
    config_dir: Path | None,
    flags: Mapping[str, Any],
    inputs: Sequence[str],
) -> PrepareConfig:
    """A recipe of recipes/data/ with Hydra overrides. Flags of the command line come last and win.

    Raises:
        UserError: no such recipe, a bad override, or settings that cannot be.
    """
    raw = compose(name, overrides, config_dir or RECIPES)
    if inputs:
        if len(raw.get("sources") or {}) != 1:
            raise UserError(
                f"--input fits a recipe of one source, and {name} has several; "
                "use sources.NAME.path=FILE"
            )
        ((source_name, source),) = raw["sources"].items()
        named = {source_name: inputs[0]} if len(inputs) == 1 else _named(inputs)
        raw["sources"] = {key: (source or {}) | {"path": path} for key, path in named.items()}
    return from_dict(raw | {key: value for key, value in flags.items() if value}, name)


def from_dict(raw: Mapping[str, Any], name: str = "data") -> PrepareConfig:
    """A run from plain values, all of them checked before anything is read.

    Raises:
        UserError: everything that is wrong, one problem a line.
    """
    if missing := _missing(raw) or ([] if raw.get("output") else ["output"]):
        raise UserError(f"must be set: {', '.join(missing)}")
    tree = dict(raw)
    if not isinstance(against := tree.get("against") or {}, Mapping):
        against = {key: {"path": path} for key, path in _named(against).items()}
    tree["against"] = against
    stages = raw.get("stages")
    stages = dict.fromkeys(DEFAULT_STAGES) if stages is None else stages
    if isinstance(stages, Mapping):
        stages = {key: {} if options is None else options for key, options in stages.items()}
    recipe: Any = read(PrepareRecipe, tree | {"stages": stages}, name)
    output = Path(recipe.output).expanduser()
    config = PrepareConfig(
        sources=recipe.sources,
        against=recipe.against,
        stages=tuple(getattr(recipe.stages, stage) for stage in stages),
        output=output,
        report=Path(recipe.report or output.with_name(f"{output.stem}.report.json")),
        dropped=Path(recipe.dropped or output.with_name(f"{output.stem}.dropped.jsonl")),
        work_dir=Path(recipe.work_dir).expanduser() if recipe.work_dir else None,
        workers=recipe.workers,
        max_bad_rows=recipe.max_bad_rows,
    )
    if problems := _conflicts(config):
        raise RecipeError(name, problems)
    return config


def _conflicts(config: PrepareConfig) -> list[str]:
    """What is wrong between the files of a run."""
    written = [path.resolve() for path in (config.output, config.report, config.dropped)]
    read_files = {
        Path(source.path).expanduser().resolve()
        for source in (*config.sources.values(), *config.against.values())
        if isinstance(source, FileSource)
    }
    problems = [
        f"{path}: would be overwritten, but it is read as input"
        for path in written
        if path in read_files
    ]
    if len(set(written)) < len(written):
        problems.append(
            "output, report and dropped must be three files: "
            f"{config.output}, {config.report}, {config.dropped}"
        )
    return problems


def _named(paths: Sequence[str]) -> dict[str, str]:
    """A name for each file: its stem, numbered where two files share it."""
    named: dict[str, str] = {}
    for path in paths:
        stem = Path(path).name.split(".")[0] or "input"
        name, number = stem, 2
        while name in named:
            name, number = f"{stem}-{number}", number + 1
        named[name] = path
    return named


def _missing(raw: Any, prefix: str = "") -> list[str]:
    if isinstance(raw, Mapping):
        return [
            name
            for key, value in raw.items()
            for name in _missing(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [prefix] if raw == "???" else []
