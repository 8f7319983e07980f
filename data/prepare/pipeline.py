"""Runs stages one after the other. With a work folder, finished stages are not run again.

The result of stage k depends on the problems that went in, on its options, and on the results
before it. A hash of all that names the saved result; when anything changes, that stage and all
after it run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.cleaning.base import Context, Dropped, Result, Stage
from data.types import Problem
from grpo.common.files import write_atomically

# raise it when a stage's algorithm changes, so that saved results are not taken for current ones
_VERSION = 2


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did, for the report."""

    stage: Stage
    num_in: int
    result: Result

    def to_json(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return {
            "stage": self.stage.name,
            "options": self.stage.options(),
            "in": self.num_in,
            "kept": len(self.result.kept),
            "dropped": len(self.result.dropped),
            "reasons": self.result.reasons,
            "notes": dict(self.result.notes),
        }


def run_pipeline(
    problems: list[Problem],
    stages: Sequence[Stage],
    context: Context,
    work_dir: Path | None = None,
    progress: Callable[[StageReport], None] = lambda report: None,
) -> list[StageReport]:
    """All stages in order; the last report's `kept` is the clean set.

    Args:
        work_dir: where each stage's result is kept; None keeps nothing.
        progress: called after each stage.
    """
    reports: list[StageReport] = []
    key = _hash_problems(problems) if work_dir else ""
    for number, stage in enumerate(stages, start=1):
        key = hashlib.sha256(
            f"{_VERSION}\n{key}\n{stage.fingerprint(context)}".encode()
        ).hexdigest()
        folder = work_dir / f"{number:02d}-{stage.name}" if work_dir else None
        result = _load(folder, key, problems) if folder else None
        if result is None:
            result = stage.run(problems, context)
            if folder:
                _save(folder, key, result)
        reports.append(StageReport(stage, len(problems), result))
        progress(reports[-1])
        problems = result.kept
    return reports


def _hash_problems(problems: Sequence[Problem]) -> str:
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(problem.to_row(), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _save(folder: Path, key: str, result: Result) -> None:
    """Kept and dropped rows first, the file that makes them valid last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").unlink(missing_ok=True)
    write_atomically(
        {
            folder / "kept.jsonl": [problem.to_row() for problem in result.kept],
            folder / "dropped.jsonl": [
                {
                    "problem": drop.problem.to_row(),
                    "stage": drop.stage,
                    "reason": drop.reason,
                    "matched_id": drop.matched_id,
                    "similarity": drop.similarity,
                    "details": dict(drop.details),
                }
                for drop in result.dropped
            ],
        }
    )
    write_atomically({folder / "done.json": {"key": key, "notes": dict(result.notes)}})


def _load(folder: Path, key: str, problems: Sequence[Problem]) -> Result | None:
    done = folder / "done.json"
    if not done.is_file():
        return None
    state = json.loads(done.read_text())
    if state["key"] != key:
        return None
    kept = [Problem.from_row(json.loads(line)) for line in _lines(folder / "kept.jsonl")]
    dropped = []
    for line in _lines(folder / "dropped.jsonl"):
        row = json.loads(line)
        dropped.append(Dropped(**{**row, "problem": Problem.from_row(row["problem"])}))
    return Result(kept, dropped, state["notes"])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]
