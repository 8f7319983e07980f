"""Problems from a file, every row checked before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.types import Problem


class DataError(ValueError):
    """A data file that cannot be used; the message has the file, the line and the fix."""


def load_jsonl(path: Path, limit: int | None = None) -> list[Problem]:
    """Problems of a JSONL file with `id`, `problem` (or `question`) and `answer` in each line.

    Raises:
        DataError: no such file, no row, or a bad row: not JSON, a field missing, empty or not text, an id twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if limit is not None and len(problems) == limit:
                    break
                if line.strip():
                    problems.append(_read_row(line, f"{path}, line {number}", path.stem))
                    first = seen.setdefault(problems[-1].id, number)
                    if first != number:
                        raise DataError(f"{path}, line {number}: id {problems[-1].id!r} is also in line {first}")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); convert it, or name the right file") from None
    if not problems:
        raise DataError(f"{path}: no problem in it; a data set needs at least one row")
    return problems


def _read_row(line: str, where: str, source: str) -> Problem:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with id, problem and answer, got {line.strip()[:60]}")
    level = row.get("level")
    return Problem(
        id=_text(row.get("id"), "id", where),
        question=_text(row.get("problem", row.get("question")), "problem", where),
        answer=_text(row.get("answer"), "answer", where),
        source=str(row.get("source", source)),
        level=None if level is None else str(level),
    )


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: field {name!r} is {'missing' if value is None else f'not text: {value!r}'}")
    if not value.strip() or "\x00" in value:
        raise DataError(f"{where}: field {name!r} {'holds a NUL byte' if value.strip() else 'is empty'}")
    return value
