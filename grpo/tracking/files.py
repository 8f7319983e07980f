"""Writing the files of a run so that a crash leaves either the old file or the new one, never half
of one.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any


def plain(value: Any) -> Any:
    """`value` as the types that JSON and YAML share.

    Non-finite floats become the strings "nan", "inf" and "-inf": JSON has no word for them, and
    null would hide that a loss was NaN. Anything unknown becomes its `str`, so that recording never
    fails on a type.
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
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays, without importing either
        return plain(value.tolist())
    return str(value)


def json_line(row: Mapping[str, Any]) -> str:
    """One JSON object on one line. ASCII only, so no control character, separator or lone surrogate
    of the model's text can split the line or break its encoding."""
    return json.dumps(plain(row), ensure_ascii=True, allow_nan=False) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """Write a whole file, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(
        path, json.dumps(plain(value), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    )


def write_yaml(path: Path, value: Mapping[str, Any], comments: Iterable[str] = ()) -> None:
    """YAML in the order of `value`, below `comments` (one line each)."""
    import yaml  # type: ignore[import-untyped]

    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    write_atomic(
        path, head + yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=False, width=110)
    )


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_atomic(path, "".join(json_line(row) for row in rows))


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line, in one write: a reader sees the line whole or not at all."""
    with path.open("ab", buffering=0) as file:
        file.write(json_line(row).encode("ascii"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that may still be written to: a last line without its newline is left out."""
    whole, _, _torn = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """One row a step, in order of steps: the objects of `metrics.jsonl` that share a step are
    merged.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(run_dir / "metrics.jsonl"):
        by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]
