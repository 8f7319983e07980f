"""A source of problems as a recipe names it: a file, a Hugging Face data set, or a generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import mappings
from data.errors import DataError
from data.loading import huggingface
from data.loading.records import MAX_ROW_BYTES, read_records
from data.loading.rows import Validator
from data.options import check_options
from data.types import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Exactly one of `path`, `dataset` and `generator` says where the rows come from."""

    name: str
    path: str | None = None
    dataset: str | None = None  # Hugging Face: owner/name or a local folder
    revision: str | None = None  # commit of the data set; a branch can change under a recipe
    subset: str | None = None  # Hugging Face calls it the configuration name
    split: str = "train"
    generator: str | None = None
    count: int = 0  # problems drawn from the generator
    seed: int = 0
    level: int | None = None  # difficulty of the generator; None spreads over all of its levels
    mapping: str = "plain"
    columns: Mapping[str, str] = field(
        default_factory=dict
    )  # question, answer, id, level -> column
    weight: float = 1.0  # share of this source in a weighted mix, relative to the others
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.path, self.dataset, self.generator)) != 1:
            raise DataError(f"sources.{self.name}: set exactly one of path, dataset and generator")
        if self.weight < 0:
            raise DataError(f"sources.{self.name}.weight={self.weight} is negative")
        if self.generator is not None and self.count < 1:
            raise DataError(
                f"sources.{self.name}.count={self.count}: a generator never ends; say how many to draw"
            )
        if self.columns and self.mapping != "plain":
            raise DataError(
                f"sources.{self.name}: columns go with mapping=plain, not mapping={self.mapping}"
            )
        if unknown := set(self.columns) - {"question", "answer", "id", "level"}:
            raise DataError(
                f"sources.{self.name}.columns: {min(unknown)} is not question, answer, id or level"
            )
        mappings.lookup(self.mapping)

    @property
    def label(self) -> str:
        """How messages and reports call this source."""
        return self.path or self.dataset or f"generator {self.generator}"


def load_source(source: SourceConfig, validator: Validator) -> list[Problem]:
    """All good rows of one source; bad ones are in `validator.bad_rows`.

    Raises:
        DataError: the source as a whole cannot be read.
    """
    problems = _generate(source) if source.generator is not None else _read(source, validator)
    if source.weight == 1.0:
        return problems
    return [dataclasses.replace(p, extra={**p.extra, "weight": source.weight}) for p in problems]


def _read(source: SourceConfig, validator: Validator) -> list[Problem]:
    mapping = (
        mappings.columns(**source.columns) if source.columns else mappings.lookup(source.mapping)
    )
    if source.path is not None:
        records = read_records(Path(source.path), source.max_row_bytes)
    else:
        records = huggingface.read_dataset(
            source.dataset or "", source.revision, source.subset, source.split
        )
    return validator.problems(records, mapping, source.name, source.label)


def from_mapping(name: str, options: dict[str, Any]) -> SourceConfig:
    """A source from a recipe's `sources.<name>` block.

    Raises:
        DataError: an unknown key, or a value that does not fit.
    """
    check_options(SourceConfig, options | {"name": name}, f"sources.{name}")
    return SourceConfig(name=name, **options)


def _generate(source: SourceConfig) -> list[Problem]:
    from data.generators import (
        generate,
    )  # generators are a world of their own; files do not need them

    assert source.generator is not None
    return generate(source.generator, seed=source.seed, count=source.count, level=source.level)
