"""Generators with levels: endless, seeded streams of problems with a difficulty knob.

Problem `index` of a level depends on (generator, seed, level, index) alone. So a stream can be
entered anywhere, split over machines, and resumed, without keeping any state.

A question belongs to the training or to the held-out half by a hash of its text, so the halves
share no question whatever the seeds. A problem of a half is the first of its own endless draws that
falls into that half.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import Field, create_model

from data.generators.registry import GeneratorSource, Split, register
from data.types import Problem

HELD_OUT_SHARE = 0.1  # of all questions
_MAX_DRAWS = 10_000  # an easy level may have no question of a half; then this many draws end it


@dataclass(frozen=True, slots=True)
class Item:
    """One generated problem, before it has an id."""

    question: str
    answer: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class LevelledSource(GeneratorSource):
    """A generator with levels of difficulty, from 1."""

    level: int | None = Field(None, ge=1)
    """Difficulty. null spreads the problems over all levels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generator:
    """A named maker of items. `reward` is the registered reward that checks its answers."""

    name: str
    make: Callable[[random.Random, int], Item]
    levels: int  # difficulty 1..levels
    reward: str = "accuracy"

    def problem(self, seed: int, level: int, index: int, split: Split | None = None) -> Problem:
        """Problem number `index` of a level.

        Raises:
            ValueError: no such level, or a level without a question of this split.
        """
        if not 1 <= level <= self.levels:
            raise ValueError(f"generator {self.name}: level={level} is outside 1..{self.levels}")
        rng = random.Random(f"{self.name}/{seed}/{level}/{index}")
        for _ in range(_MAX_DRAWS):
            item = self.make(rng, level)
            if split is None or is_held_out(item.question) == (split == "held_out"):
                break
        else:
            raise ValueError(
                f"generator {self.name}: level={level} seems to have no {split} question"
            )
        suffix = "-held-out" if split == "held_out" else ""
        return Problem(
            id=f"{self.name}-s{seed}-l{level}-{index}{suffix}",
            question=item.question,
            answer=item.answer,
            source=self.name,
            level=str(level),
            reward=self.reward,
            extra=item.extra,
        )

    def stream(
        self, seed: int, level: int | None = None, start: int = 0, split: Split | None = None
    ) -> Iterator[Problem]:
        """Problems from `start` on, without end; without a level, the levels take turns."""
        index = start
        while True:
            if level is None:
                yield self.problem(seed, index % self.levels + 1, index // self.levels, split)
            else:
                yield self.problem(seed, level, index, split)
            index += 1

    def register(self) -> None:
        """Make it a `source` of recipes, with its range of levels."""
        settings = create_model(
            f"{self.name}_source",
            __base__=LevelledSource,
            level=(int | None, Field(None, ge=1, le=self.levels)),
        )

        @register(self.name, settings)
        def generate(source: LevelledSource, *, seed: int, split: Split | None) -> list[Problem]:
            return list(islice(self.stream(seed, source.level, split=split), source.num_problems))


def is_held_out(question: str) -> bool:
    """The half that a question belongs to: the same on every machine and for every seed."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64
