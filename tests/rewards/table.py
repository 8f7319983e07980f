"""The case tables: one `answer | gold` a line, under headings that name the kind; and the blind
cases.

The blind cases are whole responses, written and labelled from the rules by somebody who had not
seen the grader, and graded for the first time when it was finished.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Case = tuple[str, str, str]  # kind, answer, gold


def load(name: str) -> list[Case]:
    """The cases of a table beside this file."""
    cases, kind = [], ""
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            kind = line[2:]
        elif line.strip():
            answer, _, gold = line.rpartition(" | ")
            cases.append((kind, answer, gold))
    return cases


EQUAL = load("equal_cases.txt")
DIFFERENT = load("different_cases.txt")


def blind() -> list[dict[str, Any]]:
    """`kind`, `response`, `gold` and whether it is `right`."""
    text = (Path(__file__).parent / "blind_cases.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def blind_three() -> list[dict[str, Any]]:
    """A third blind set, by somebody who saw neither the grader nor these tables. Keys as in
    `blind_with_questions`.

    94.7% were graded right before anything was mended after it, 98.5% since.
    """
    text = (Path(__file__).parent / "blind_three.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def blind_with_questions() -> list[dict[str, Any]]:
    """A second blind set: `kind`, `question`, `response`, `gold` and whether they are `equal`.

    91.2% were graded right before anything was mended after it, 99.6% since.
    """
    text = (Path(__file__).parent / "blind_with_questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
