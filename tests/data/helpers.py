"""Small problem sets for the tests, and where the real ones are when they are there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data.generators import LEVELLED
from data.prepare import main
from data.types import Problem

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"  # beside the repository
EVALUATION_SETS = ("gsm8k_test", "math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench")

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared data sets are not beside the repository"
)


def problem(question: str, answer: str = "1", **fields: Any) -> Problem:
    """A problem whose id is its question unless given."""
    return Problem(
        **{"id": question, "source": "test", **fields, "question": question, "answer": answer}
    )


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def prepare(folder: Path, *arguments: str | Path) -> int:
    """Run the command line with the three files in `folder`; returns the exit code."""
    places = [
        "--output",
        folder / "clean.jsonl",
        "--report",
        folder / "report.json",
        "--dropped",
        folder / "dropped.jsonl",
    ]
    return main([str(argument) for argument in (*arguments, *places)])


def generate(
    name: str, *, seed: int, count: int, level: int | None = None, start: int = 0
) -> list[Problem]:
    """`count` problems of a generator, from number `start` on."""
    return list(islice(LEVELLED[name].stream(seed, level, start), count))
