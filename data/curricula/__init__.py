"""Which problems a step trains on: mixes and curricula."""

from __future__ import annotations

from data.curricula.draw import (
    Bucketed,
    Curriculum,
    Prioritised,
    by_level,
    classic,
    cosine,
    easy_to_hard,
    gaussian,
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
    "classic",
    "cosine",
    "easy_to_hard",
    "gaussian",
    "levels_by_rate",
    "make_curriculum",
    "uniform",
    "weighted",
]
