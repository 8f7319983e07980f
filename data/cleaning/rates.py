"""Filters by what a model did: pass rates (too easy, too hard) and guess rates (right without
thinking).

Both read JSONL rows of `id` and `pass_rate` (0 to 1), which an evaluation run writes. Difficulty as
in Kimi k1.5 (section 7c): the pass rate of some ten hot samples; the guess filter asks for the
answer without a chain of thought.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from data.cleaning.base import Context, Dropped, Result, Stage
from data.sources.records import read_records
from data.types import Problem
from grpo.common.errors import UserError
from grpo.common.recipes import PathText

Missing = Literal["keep", "drop", "stop"]


class RateStage(Stage):
    """What both filters share: a file of rates, and what to do with a problem that is not in it."""

    path: PathText
    missing: Missing = "stop"

    def check(self) -> None:
        """See `Stage.check`."""
        read_rates(Path(self.path))

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        rates = read_rates(Path(self.path))
        absent = [problem.id for problem in problems if problem.id not in rates]
        if absent and self.missing == "stop":
            raise UserError(
                f"{self.path}: no pass_rate for {len(absent)} of {len(problems)} "
                "problems, the first "
                f"{absent[0]!r}; measure them, or set stages.{self.name}.missing to keep or drop"
            )
        kept: list[Problem] = []
        dropped: list[Dropped] = []
        for problem in problems:
            rate = rates.get(problem.id)
            reason = (
                self.reason(rate)
                if rate is not None
                else "no_rate"
                if self.missing == "drop"
                else None
            )
            if rate is not None:
                problem = dataclasses.replace(problem, extra={**problem.extra, self.column: rate})
            if reason is None:
                kept.append(problem)
            else:
                dropped.append(Dropped(problem=problem, stage=self.name, reason=reason))
        return Result(kept, dropped, {"without_rate": len(absent)})

    column: ClassVar[str]

    @abstractmethod
    def reason(self, rate: float) -> str | None:
        """Why a problem of this rate goes out, or None."""

    def fingerprint(self, context: Context) -> str:
        """See `Stage.fingerprint`."""
        own = json.dumps([self.name, self.options()], sort_keys=True)
        path = Path(self.path)
        return own + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")


class PassRate(RateStage):
    """Keeps pass rates over `above` and under `below`: all wrong or all right teaches nothing."""

    name: ClassVar[str] = "pass_rate"
    column: ClassVar[str] = "pass_rate"
    above: float = 0.0
    below: float = 1.0

    def reason(self, rate: float) -> str | None:
        """See `RateStage.reason`."""
        if rate <= self.above:
            return "too_hard"
        return "too_easy" if rate >= self.below else None


class GuessRate(RateStage):
    """Drops problems that are answered right without thinking in more than `at_most` of the
    tries.
    """

    name: ClassVar[str] = "guess_rate"
    column: ClassVar[str] = "guess_rate"
    at_most: float = 0.0

    def reason(self, rate: float) -> str | None:
        """See `RateStage.reason`."""
        return "guessable" if rate > self.at_most else None


def read_rates(path: Path) -> dict[str, float]:
    """`id` -> `pass_rate` of a JSONL file.

    Raises:
        UserError: an unreadable file, a row without the two, a rate outside 0..1, or an id with two
        rates.
    """
    rates: dict[str, float] = {}
    for record in read_records(path):
        row = record.row
        if row is None:
            raise UserError(f"{path}, line {record.line}: {record.fault}")
        problem_id, rate = row.get("id"), row.get("pass_rate")
        if not isinstance(problem_id, (str, int)) or isinstance(problem_id, bool):
            raise UserError(
                f"{path}, line {record.line}: id: needs a text; the row has "
                f"{', '.join(sorted(row))[:200]}"
            )
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise UserError(
                f"{path}, line {record.line}: pass_rate: {rate!r} is not a number from 0 to 1"
            )
        if rates.setdefault(str(problem_id), float(rate)) != rate:
            raise UserError(
                f"{path}, line {record.line}: id {problem_id!r} has two different pass rates"
            )
    return rates
