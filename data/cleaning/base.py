"""What a cleaning stage is: problems in, problems out, and a reason for each that was taken out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from data.types import Problem
from grpo.common.recipes import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A problem that a stage took out. Overlaps name what they overlap with, and how much (0
    to 1).
    """

    problem: Problem
    stage: str
    reason: str
    matched_id: str | None = None
    similarity: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """One row of the file of dropped problems: the problem's own fields first."""
        row = self.problem.to_row() | {"stage": self.stage, "reason": self.reason}
        if self.matched_id is not None:
            row["matched_id"] = self.matched_id
        if self.similarity is not None:
            row["similarity"] = round(self.similarity, 4)
        return row | dict(self.details)


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage did. `notes` are figures for the report."""

    kept: list[Problem]
    dropped: list[Dropped] = field(default_factory=list)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped for each reason, by name."""
        return dict(sorted(Counter(drop.reason for drop in self.dropped).items()))


@dataclass(frozen=True, slots=True)
class Context:
    """What all stages of a run share."""

    against: Sequence[Problem] = ()  # evaluation problems that must not be trained on
    workers: int = 1


class Stage(Settings, ABC):
    """One step of the pipeline. Its fields are its options in a recipe, with their defaults."""

    name: ClassVar[str]

    def check(self) -> None:
        """Refuse, before any work, what is known to fail: a file or a model that is not there.

        Raises:
            UserError: what is missing.
        """
        return None  # most stages need nothing

    @abstractmethod
    def run(self, problems: list[Problem], context: Context) -> Result:
        """The problems that pass, in their order, and those that do not."""

    def options(self) -> dict[str, Any]:
        """The settings of this stage, for the report and for deciding whether a saved result still
        holds.
        """
        return self.model_dump(mode="json")

    def fingerprint(self, context: Context) -> str:
        """All but the problems on which the result depends; stages that read files add their
        content.
        """
        return json.dumps([self.name, self.options()], sort_keys=True)
