"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data.errors import DataError

# Some readers take these for the end of a line (`str.splitlines` does); as escapes they mean the
# same.
_LINE_BREAKS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}

Content = (
    Mapping[str, Any] | Iterable[Mapping[str, Any]]
)  # one JSON document, or the rows of a JSONL file


def write_atomically(files: Mapping[Path, Content]) -> None:
    """Write all files under temporary names, then give them their names: nobody sees a part of one.

    Raises:
        DataError: a folder or file cannot be written; nothing new stands under a final name then.
    """
    with ExitStack() as cleanup:
        ready: list[tuple[Path, Path]] = []
        try:
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                check_writable([path])
                temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                cleanup.callback(temporary.unlink, missing_ok=True)
                _write(temporary, content)
                ready.append((temporary, path))
            for temporary, path in ready:
                temporary.replace(path)
        except OSError as error:
            raise DataError(
                f"{error.filename or 'output'}: cannot be written: {error.strerror or error}"
            ) from error


def check_writable(files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Find out before the work, and without leaving anything, what could not be written after it.

    Raises:
        DataError: a file is a folder, or the folder that it goes to is none or is not ours to write
        to.
    """
    for file in files:
        if file.is_dir():
            raise DataError(f"{file}: is a folder, not a file to write")
        _check_folder(file.parent, file)
    for folder in folders:
        _check_folder(folder, folder)


def _check_folder(folder: Path, wanted: Path) -> None:
    """`folder`, or the nearest one above it that is there, in which the missing ones will be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise DataError(f"{wanted}: cannot be written: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{wanted}: cannot be written: no permission to write to {there}")


def _dump(row: Any) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # NaN and infinity of a Parquet column are not JSON
        return json.dumps(_finite(row), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, content: Content) -> None:
    # half a surrogate pair, as backslashreplace writes it, is a JSON escape
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        if isinstance(content, Mapping):
            json.dump(content, file, ensure_ascii=False, indent=2)
            file.write("\n")
        else:
            for row in content:
                # a Parquet column may hold a date or a decimal; as text it is still itself
                line = _dump(row)
                file.write(line.translate(_LINE_BREAKS) + "\n")
        file.flush()
        os.fsync(file.fileno())
