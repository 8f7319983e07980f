"""What a generator is: an endless, seeded stream of problems with a difficulty knob.

Problem `index` of a level depends on (generator, seed, level, index) alone, so a stream can be
entered anywhere, split over machines, and resumed, without keeping any state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.types import Problem


@dataclass(frozen=True, slots=True)
class Item:
    """One generated problem, before it has an id."""

    question: str
    answer: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Generator:
    """A named maker of items. `reward` is the registered reward that checks its answers."""

    name: str
    make: Callable[[random.Random, int], Item]
    levels: int  # difficulty 1..levels
    reward: str = "accuracy"

    def problem(self, seed: int, level: int, index: int) -> Problem:
        """Problem number `index` of a level.

        Raises:
            ValueError: no such level.
        """
        if not 1 <= level <= self.levels:
            raise ValueError(f"generator {self.name}: level={level} is outside 1..{self.levels}")
        item = self.make(random.Random(f"{self.name}/{seed}/{level}/{index}"), level)
        return Problem(
            id=f"{self.name}-s{seed}-l{level}-{index}",
            question=item.question,
            answer=item.answer,
            source=self.name,
            level=str(level),
            extra={**item.extra, "reward": self.reward},
        )

    def stream(self, seed: int, level: int | None = None, start: int = 0) -> Iterator[Problem]:
        """Problems from `start` on, without end; without a level, the levels take turns."""
        index = start
        while True:
            if level is None:
                yield self.problem(seed, index % self.levels + 1, index // self.levels)
            else:
                yield self.problem(seed, level, index)
            index += 1
