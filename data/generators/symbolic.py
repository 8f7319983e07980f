"""Word problems in the manner of GSM-Symbolic: names and numbers vary, the reasoning does not.

Level 1 is the plain story, level 2 adds one clause to the reasoning, level 3 two (GSM-Symbolic's
base, P1 and P2). A NoOp variant has one more sentence with a number that looks relevant and is not;
the answer stays. The stories are our own (`data.generators.stories`), because those of the paper
may not be changed or sold.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data.generators.levels import Generator, Item
from data.generators.stories import NAMES, STORIES, Story
from data.types import Problem

LEVELS = 3
Vary = Literal["names", "numbers", "both"]


@dataclass(frozen=True, slots=True)
class Instance:
    """A story with its blanks filled in."""

    story: Story
    name: str
    values: Mapping[str, int]
    num_extras: int = 0

    def question(self, noop: bool = False) -> str:
        """The text; with `noop`, the story's useless sentence stands before the last sentences."""
        extras = [extra.text for extra in self.story.extras[: self.num_extras]]
        parts = [
            self.story.text,
            *extras,
            *([self.story.noop] if noop else []),
            self.story.question,
        ]
        return " ".join(parts).format(name=self.name, **self.values)

    def answer(self) -> int:
        """The value of the answer expression."""
        value = self.story.answer(self.values)
        for extra in self.story.extras[: self.num_extras]:
            value = extra.change(value, self.values)
        return value

    def steps(self) -> list[int]:
        """The result of each step of the solution; the last one is the answer."""
        known = dict(self.values)
        results = []
        for target, step in self.story.steps:
            known[target] = step(known)
            results.append(known[target])
        for extra in self.story.extras[: self.num_extras]:
            results.append(extra.change(results[-1], self.values))
        return results

    def holds(self) -> bool:
        """True when the conditions of the story hold and no quantity is negative."""
        return self.story.condition(self.values) and min(self.steps()) > 0


def draw(story: Story, rng: random.Random, num_extras: int = 0) -> Instance:
    """Numbers are drawn until the story's conditions hold."""
    name = rng.choice(NAMES)
    while True:
        values = {
            key: rng.randrange(low, high + 1, step)
            for key, (low, high, step) in story.ranges.items()
        }
        instance = Instance(story, name, values, num_extras)
        if instance.holds():
            return instance


def evaluation_set(
    index: int, *, seed: int = 0, vary: Vary = "both", level: int = 1, noop: bool = False
) -> list[Problem]:
    """Instance set number `index`: one problem of each story. Sets differ in names, in numbers, or
    in both.

    Accuracy is reported as mean and deviation over the sets; a model that reasons has the same on
    all of them.
    """
    problems = []
    for story in STORIES:
        fixed = draw(story, random.Random(f"symbolic/{seed}/{story.title}"), level - 1)
        fresh = draw(story, random.Random(f"symbolic/{seed}/{story.title}/{index}"), level - 1)
        name = fixed.name if vary == "numbers" else fresh.name
        values = fixed.values if vary == "names" else fresh.values
        instance = Instance(story, name, values, level - 1)
        problem_id = (
            f"symbolic-s{seed}-l{level}-{story.title}-{vary}-{index}{'-noop' if noop else ''}"
        )
        problems.append(
            Problem(
                id=problem_id,
                question=instance.question(noop),
                answer=str(instance.answer()),
                source="symbolic",
                level=str(level),
                extra={"story": story.title, "set": index},
            )
        )
    return problems


def _make(rng: random.Random, level: int, noop: bool = False) -> Item:
    story = rng.choice(STORIES)
    instance = draw(story, rng, level - 1)
    return Item(instance.question(noop), str(instance.answer()), {"story": story.title})


def _make_noop(rng: random.Random, level: int) -> Item:
    return _make(rng, level, noop=True)


GENERATOR = Generator(name="symbolic", make=_make, levels=LEVELS)
NOOP_GENERATOR = Generator(name="symbolic_noop", make=_make_noop, levels=LEVELS)
