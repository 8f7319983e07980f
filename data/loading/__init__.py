"""Sources in, validated problems out."""

from __future__ import annotations

from pathlib import Path

from data.loading.rows import Validator
from data.loading.source import SourceConfig, load_source
from data.types import Problem

__all__ = ["SourceConfig", "Validator", "load_file", "load_source"]


def load_file(path: Path, mapping: str = "plain", max_bad_rows: int = 0) -> list[Problem]:
    """All problems of one file, in order, every row validated.

    Raises:
        DataError: the file cannot be read, or has more bad rows than allowed.
    """
    validator = Validator(max_bad_rows)
    source = SourceConfig(name=path.name.split(".")[0], path=str(path), mapping=mapping)
    problems = load_source(source, validator)
    validator.check()
    return problems
