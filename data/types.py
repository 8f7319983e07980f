"""What `data` hands out: problems with a checkable answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question whose answer a rule can check. `id` is unique within a data set."""

    id: str
    question: str
    answer: str
    source: str
    level: str | None = None
