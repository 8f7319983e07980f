"""What a preparation run does, from a recipe in recipes/data/ (Hydra) or from plain flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.cleaning import DEFAULT_STAGES, make_stage
from data.cleaning.base import Stage
from grpo.common.errors import UserError
from data.sources.source import SourceConfig, from_mapping

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "data"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """All of one run. Report and dropped rows stand beside the output unless they are given another
    place.
    """

    sources: tuple[SourceConfig, ...]
    output: Path
    report: Path
    dropped: Path
    stages: tuple[Stage, ...]
    against: tuple[SourceConfig, ...] = ()
    work_dir: Path | None = None
    workers: int = 1
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("no sources: give --input FILE, or sources in the recipe")
        if self.workers < 1 or self.max_bad_rows < 0:
            raise UserError(
                f"workers={self.workers}, max_bad_rows={self.max_bad_rows}: at least 1 and 0 are needed"
            )
        written = [self.output.resolve(), self.report.resolve(), self.dropped.resolve()]
        read = [Path(s.path).resolve() for s in (*self.sources, *self.against) if s.path]
        if len(set(written)) < len(written):
            raise UserError(
                f"output, report and dropped must be three files: {self.output}, {self.report}, {self.dropped}"
            )
        for path in written:
            if path in read:
                raise UserError(f"{path}: would be overwritten, but it is read as input")


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
    return from_dict(raw | settings)


def from_recipe(
    name: str,
    overrides: Sequence[str],
    config_dir: str | None,
    flags: Mapping[str, Any],
    inputs: Sequence[str],
) -> PrepareConfig:
    """A recipe of recipes/data/ with Hydra overrides; flags of the command line come last and win.

    Raises:
        UserError: no such recipe, a bad override, or settings that cannot be.
    """
    raw = compose(name, overrides, Path(config_dir) if config_dir else RECIPES)
    if inputs:
        if len(raw.get("sources") or {}) != 1:
            raise UserError(
                f"--input fits a recipe of one source; {name} has several: use sources.NAME.path=FILE"
            )
        ((source_name, source),) = raw["sources"].items()
        named = {source_name: inputs[0]} if len(inputs) == 1 else _named(inputs)
        raw["sources"] = {key: (source or {}) | {"path": path} for key, path in named.items()}
    return from_dict(raw | {key: value for key, value in flags.items() if value})


def compose(name: str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """The recipe as plain values; `???` stays where nothing was set."""
    from hydra import compose as hydra_compose  # the plain flags need no Hydra
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not (folder / f"{name}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
        raise UserError(f"recipe {name!r}: not in {folder}; there are {known}")
    # forced in, so that options which the recipe leaves out can be set; what does not exist is
    # refused by us
    forced = [override if override[:1] in "+~" else f"++{override}" for override in overrides]
    try:
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            composed = OmegaConf.to_container(hydra_compose(name, forced), resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = error.__cause__ or error
        raise UserError(f"recipe {name}: {' '.join(str(cause).split())[:400]}") from error
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def from_dict(raw: Mapping[str, Any]) -> PrepareConfig:
    """A run from plain values, all of them checked before anything is read.

    Raises:
        UserError: names the setting and what is wrong with it.
    """
    missing = _missing(raw)
    if missing or not raw.get("output"):
        raise UserError(f"must be set: {', '.join(missing or ['output'])}")
    if unknown := sorted(set(raw) - set(PrepareConfig.__dataclass_fields__)):
        raise UserError(
            f"{unknown[0]}: unknown; a recipe has {', '.join(PrepareConfig.__dataclass_fields__)}"
        )
    output = Path(raw["output"])
    against = raw.get("against") or {}
    if not isinstance(against, Mapping):
        against = {name: {"path": path} for name, path in _named(against).items()}
    work_dir = raw.get("work_dir")
    stages = raw.get("stages")
    if stages is None:
        stages = dict.fromkeys(DEFAULT_STAGES)
    return PrepareConfig(
        sources=tuple(_source(name, block) for name, block in (raw.get("sources") or {}).items()),
        against=tuple(_source(name, block) for name, block in against.items()),
        stages=tuple(make_stage(name, _tuples(options or {})) for name, options in stages.items()),
        output=output,
        report=Path(raw.get("report") or output.with_name(f"{output.stem}.report.json")),
        dropped=Path(raw.get("dropped") or output.with_name(f"{output.stem}.dropped.jsonl")),
        work_dir=Path(work_dir) if work_dir else None,
        workers=_whole(raw, "workers", 1),
        max_bad_rows=_whole(raw, "max_bad_rows", 0),
    )


def _source(name: str, block: Mapping[str, Any] | None) -> SourceConfig:
    if block is not None and not isinstance(block, Mapping):
        raise UserError(f"sources.{name}={block!r}: must be a block of keys and values")
    return from_mapping(
        name, {key: value for key, value in (block or {}).items() if value is not None}
    )


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


def _whole(raw: Mapping[str, Any], key: str, default: int) -> int:
    value = raw.get(key, default)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{key}={value!r}: needs a whole number")
    return value


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of a recipe as tuples: a stage is frozen, all the way down."""
    return {
        key: tuple(tuple(x) if isinstance(x, list) else x for x in value)
        if isinstance(value, list)
        else value
        for key, value in options.items()
    }


def _missing(raw: Any, prefix: str = "") -> list[str]:
    if isinstance(raw, Mapping):
        return [
            name
            for key, value in raw.items()
            for name in _missing(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [prefix] if raw == "???" else []
