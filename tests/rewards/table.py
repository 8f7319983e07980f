"""The case tables: one `answer | gold` a line, under headings that name the kind."""

from __future__ import annotations

from pathlib import Path

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
