"""The record that everything here makes or reads: a problem with its checkable answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_FIELDS = ("id", "problem", "answer", "source", "level", "reward")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question whose answer a rule can check, or one that a model of preferences scores and that
    has no answer. `id` is unique within a data set.
    """

    id: str
    question: str
    answer: str  # "" only where `reward` names no checker
    source: str
    level: str | None = None
    # Components of a recipe that score it, one or several; None: every checker.
    reward: str | tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(
        default_factory=dict, hash=False, compare=False
    )  # columns kept as they came

    def to_row(self) -> dict[str, Any]:
        """The problem as one row of our JSONL: `id`, `problem`, `answer`, `source`, `level`,
        `reward`, other columns.
        """
        row: dict[str, Any] = {"id": self.id, "problem": self.question, "answer": self.answer}
        row["source"] = self.source
        for name, value in (("level", self.level), ("reward", self.reward)):
            if value is not None:
                row[name] = list(value) if isinstance(value, tuple) else value
        return row | {key: value for key, value in self.extra.items() if key not in row}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Problem:
        """The inverse of `to_row`, for rows that `to_row` wrote."""
        reward = row.get("reward")
        return cls(
            id=row["id"],
            question=row["problem"],
            answer=row["answer"],
            source=row["source"],
            level=row.get("level"),
            reward=tuple(reward) if isinstance(reward, list) else reward,
            extra={key: value for key, value in row.items() if key not in _FIELDS},
        )
