"""Which problems a step trains on: mixes and curricula."""

from __future__ import annotations

from data.curricula.draw import (
    Bucketed,
    Curriculum,
    Prioritised,
    by_level,
    easy_to_hard,
    levels_by_rate,
    make_curriculum,
    uniform,
    weighted,
)
from data.curricula.spec import CurriculumSpec, Schedule

__all__ = [
    "Bucketed",
    "Curriculum",
    "CurriculumSpec",
    "Prioritised",
    "Schedule",
    "by_level",
    "easy_to_hard",
    "levels_by_rate",
    "make_curriculum",
    "uniform",
    "weighted",
]
