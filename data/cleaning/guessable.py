"""Answers that are easily guessed: option letters, yes or no, true or false (Kimi k1.5 drops
them).
"""

from __future__ import annotations

import re
from typing import ClassVar

from data.cleaning.base import Context, Dropped, Result, Stage
from data.types import Problem

_LETTER = re.compile(r"[\s$({\\]*(?:text(?:bf|rm)?|mathrm|mathbf)?[\s({]*([A-Ha-h])[\s)}.$]*")
_OPTION = re.compile(
    r"(?:^|[\s({$])\(?\\?(?:text(?:bf|rm)?|mathrm|mathbf)?\s*[({]*\s*([A-H])\s*[).:}]", re.M
)
_TRUTH = re.compile(
    r"[\s$({\\]*(?:text(?:bf|rm)?|mathrm)?[\s({]*(yes|no|true|false)[\s)}.$]*", re.I
)
_MIN_OPTIONS = 3


class DropChoices(Stage):
    """Takes out multiple choice and true/false problems; a guess is right too often to be a
    signal.
    """

    name: ClassVar[str] = "drop_choices"

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        reasons = [_reason(problem) for problem in problems]
        pairs = list(zip(problems, reasons, strict=True))
        dropped = [
            Dropped(problem=p, stage=self.name, reason=reason) for p, reason in pairs if reason
        ]
        return Result([p for p, reason in pairs if not reason], dropped)


def _reason(problem: Problem) -> str | None:
    if _TRUTH.fullmatch(problem.answer):
        return "true_false"
    if (
        _LETTER.fullmatch(problem.answer)
        and len(set(_OPTION.findall(problem.question))) >= _MIN_OPTIONS
    ):
        return "multiple_choice"
    return None
