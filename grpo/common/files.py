"""Files that appear whole or not at all, and the one JSON dialect of the project.

A number that JSON cannot write (NaN, infinity) is written as text: "nan", "inf" or "-inf". Null
would hide that a loss was NaN, and a bare NaN is not JSON.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from grpo.common.errors import UserError

# Text, bytes, a JSON document, or the rows of a JSONL file.
Content = str | bytes | Mapping[str, Any] | Iterable[Mapping[str, Any]]

# Some readers take these for the end of a line (`str.splitlines` does). As escapes they mean the
# same.
_LINE_BREAKS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


def work_folder(here: Path | None = None) -> Path:
    """Where relative output folders begin: GRPO_HOME, or else the current folder.

    `ray job submit --working-dir .` runs a job in a copy of the folder, which Ray deletes after the
    job. What a run leaves there would be lost. So there it is `grpo` in the home folder.

    Args:
        here: in place of the current folder.
    """
    if named := os.environ.get("GRPO_HOME"):
        return Path(named).expanduser().absolute()
    here = Path.cwd() if here is None else here
    if any(part.startswith("_ray_pkg_") for part in here.parts):
        return Path.home() / "grpo"
    return here


def plain(value: Any) -> Any:
    """`value` as the types that JSON and YAML share. Unknown types become their `str`: recording
    never fails.
    """
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return plain(value.tolist())
    return str(value)


def json_line(row: Mapping[str, Any]) -> str:
    """One row of a JSONL file, without the line break."""
    return json.dumps(plain(row), ensure_ascii=False, allow_nan=False).translate(_LINE_BREAKS)


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a JSONL file, in one write: a reader sees the whole line or nothing of it.

    Raises:
        UserError: the file cannot be written, such as on a full disk. No part of the line stays.
    """
    # backslashreplace writes half a surrogate pair as the JSON escape that it came from
    line = (json_line(row) + "\n").encode("utf-8", errors="backslashreplace")
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_yaml(path: Path, value: Mapping[str, Any], comments: Iterable[str] = ()) -> None:
    """Write YAML in the order of `value`, below `comments`, which get one line each.

    Raises:
        UserError: as `write_atomically`.
    """
    import yaml  # type: ignore[import-untyped]

    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    body = yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=False, width=110)
    write_atomically({path: head + body})


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file that we wrote. A last line that a crash cut off is left out.

    Raises:
        json.JSONDecodeError: a line before the last is not JSON.
    """
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise


def write_atomically(files: Mapping[Path, Content]) -> None:
    """Write all files under temporary names, then give them their names. Nobody ever sees a part of
    one.

    Raises:
        UserError: a folder or file cannot be written. Nothing new stands under a final name then.
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
            raise UserError(
                f"{error.filename or 'output'}: cannot be written: {error.strerror or error}"
            ) from error


def check_writable(files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Find out before the work, and without leaving anything, what could not be written after it.

    Raises:
        UserError: a file is a folder, or the folder that it goes to is none or is not ours to write
        to.
    """
    for file in files:
        if file.is_dir():
            raise UserError(f"{file}: is a folder, not a file to write")
        _check_folder(file.parent, file)
    for folder in folders:
        _check_folder(folder, folder)


def _check_folder(folder: Path, wanted: Path) -> None:
    """Look at `folder`, or at the nearest one above it that exists, in which the missing ones will
    be made.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{wanted}: cannot be written: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{wanted}: cannot be written: no permission to write to {there}")


def _write(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        with path.open("wb") as raw:
            raw.write(content)
            raw.flush()
            os.fsync(raw.fileno())
        return
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        if isinstance(content, str):
            file.write(content)
        elif isinstance(content, Mapping):
            json.dump(plain(content), file, ensure_ascii=False, indent=2, allow_nan=False)
            file.write("\n")
        else:
            for row in content:
                file.write(json_line(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
