"""Which problems a step trains on: mixes and curricula. (Seed, step) and the cursor decide a draw.

A curriculum is two questions. From which bucket does each slot of the step come? That is a
probability over buckets, which may move with progress u = step / num_steps. And which problem of
the bucket? The next one of its current epoch, an order shuffled anew for each epoch, so that every
problem is seen once before any is seen twice. The buckets are levels (easy to hard), sources
(weighted), or one of everything (uniform). Slots are drawn per *prompt*: all samples of a group
share a problem.

`Prioritised` is the exception: it draws problems by their failure rate and has no epochs.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from data.curricula.spec import CurriculumSpec, Schedule
from data.types import Problem

Probabilities = Callable[
    [float], Sequence[float]
]  # progress u in [0, 1] -> [K] probability of each bucket


class Curriculum(Protocol):
    """What the trainer needs: the next problems, and a cursor that can be saved."""

    success: dict[str, float]
    """Success rates by problem id that draws depend on; none where they depend on none."""

    def draw(self, count: int) -> list[Problem]:
        """The problems of the next step."""
        ...

    def update(self, success: Mapping[str, float]) -> None:
        """New success rates by problem id."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The cursor, as plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        ...


class Bucketed:
    """Slots over buckets, epochs within each bucket."""

    def __init__(
        self,
        buckets: Sequence[Sequence[Problem]],
        probabilities: Probabilities,
        *,
        seed: int,
        num_steps: int,
    ) -> None:
        if not all(buckets):
            raise ValueError("a curriculum needs at least one bucket, and a problem in each")
        self.buckets = [list(bucket) for bucket in buckets]
        self.probabilities = probabilities
        self.seed = seed
        self.num_steps = num_steps
        self.step = 0
        self.success: dict[str, float] = {}
        self.drawn = [0] * len(self.buckets)  # problems drawn from each bucket so far
        self._orders: list[tuple[int, list[int]]] = [(-1, [])] * len(
            self.buckets
        )  # epoch, order: a cache

    def draw(self, count: int) -> list[Problem]:
        """The problems of the next step."""
        progress = min(1.0, self.step / max(1, self.num_steps))
        rng = random.Random(f"slots/{self.seed}/{self.step}")
        slots = rng.choices(range(len(self.buckets)), list(self.probabilities(progress)), k=count)
        self.step += 1
        return [self._next(bucket) for bucket in slots]

    def update(self, success: Mapping[str, float]) -> None:
        """Nothing: success does not move these draws."""

    def state_dict(self) -> dict[str, Any]:
        """The cursor, as plain values."""
        return {
            "step": self.step,
            "drawn": list(self.drawn),
            "sizes": [len(bucket) for bucket in self.buckets],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood.

        Raises:
            ValueError: the buckets are not those of the saved cursor.
        """
        sizes = [len(bucket) for bucket in self.buckets]
        if list(state["sizes"]) != sizes:
            raise ValueError(
                f"the saved cursor is of buckets of {state['sizes']} problems, these have {sizes}"
            )
        self.step, self.drawn = int(state["step"]), list(state["drawn"])

    def _next(self, bucket: int) -> Problem:
        problems = self.buckets[bucket]
        epoch, position = divmod(self.drawn[bucket], len(problems))
        if self._orders[bucket][0] != epoch:
            order = list(range(len(problems)))
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._orders[bucket] = (epoch, order)
        self.drawn[bucket] += 1
        return problems[self._orders[bucket][1][position]]


class Prioritised:
    """Draws problem i with probability proportional to 1 - s_i, its failure rate (Kimi k1.5,
    section 7d).

    `floor` is the least weight, so that a problem that is always solved is still looked at now and
    then (ours, not theirs). Unknown rates count as 0. Without repeats inside a step, unless the
    step is larger than the set.
    """

    def __init__(self, problems: Sequence[Problem], *, seed: int, floor: float = 0.05) -> None:
        if not problems:
            raise ValueError("a curriculum needs at least one problem")
        self.problems = list(problems)
        self.seed = seed
        self.floor = floor
        self.step = 0
        self.success = {p.id: _pass_rate(p) for p in problems if "pass_rate" in p.extra}

    def weights(self) -> list[float]:
        """[N] unnormalised probability of each problem."""
        return [
            max(self.floor, 1.0 - self.success.get(problem.id, 0.0)) for problem in self.problems
        ]

    def update(self, success: Mapping[str, float]) -> None:
        """New success rates by problem id, as measured in training."""
        self.success.update(success)

    def draw(self, count: int) -> list[Problem]:
        """The problems of the next step."""
        rng = random.Random(f"prioritised/{self.seed}/{self.step}")
        self.step += 1
        weights = self.weights()
        chosen: list[int] = []
        while len(chosen) < count:
            # Efraimidis-Spirakis: the k largest of u^(1/w) are a weighted draw without replacement
            keys = [
                (math.log(1.0 - rng.random()) / weight if weight > 0 else -math.inf, i)
                for i, weight in enumerate(weights)
            ]
            chosen += [i for _, i in sorted(keys, reverse=True)[: count - len(chosen)]]
        return [self.problems[i] for i in chosen]

    def state_dict(self) -> dict[str, Any]:
        """The cursor and the rates, as plain values."""
        return {"step": self.step, "success": dict(self.success)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.step, self.success = int(state["step"]), dict(state["success"])


def make_curriculum(
    spec: CurriculumSpec, problems: Sequence[Problem], *, seed: int, num_steps: int
) -> Curriculum:
    """The curriculum that a recipe asks for.

    Raises:
        ValueError: problems without what it needs: levels, pass rates, sources with a weight.
    """
    if spec.kind == "weighted":
        return weighted(problems, seed=seed, weights=spec.weights or None)
    if spec.kind == "easy_to_hard":
        buckets = (
            levels_by_rate(problems, spec.num_levels) if spec.num_levels else by_level(problems)
        )
        return easy_to_hard(
            buckets, spec.schedule, seed=seed, num_steps=num_steps, beta=spec.beta, sigma=spec.sigma
        )
    if spec.kind == "prioritised":
        return Prioritised(problems, seed=seed, floor=spec.min_weight)
    return uniform(problems, seed=seed)


def uniform(problems: Sequence[Problem], *, seed: int) -> Bucketed:
    """Every problem equally often, in epochs."""
    return Bucketed([problems], lambda progress: [1.0], seed=seed, num_steps=1)


def weighted(
    problems: Sequence[Problem], *, seed: int, weights: Mapping[str, float] | None = None
) -> Bucketed:
    """Sources in the proportion of their weights, whatever their sizes.

    Args:
        weights: source -> weight; by default each problem's own `weight`, as a recipe's sources
            give it.

    Raises:
        ValueError: a source without a weight, or weights that are all zero.
    """
    by_source: dict[str, list[Problem]] = {}
    for problem in problems:
        # A member of a mix is one source, whatever sets its rows came from.
        name = str(problem.extra.get("mix_source", problem.source))
        by_source.setdefault(name, []).append(problem)
    if weights is not None and (unknown := sorted(set(by_source) ^ set(weights))):
        raise ValueError(
            f"weights and sources do not match in {unknown[0]!r}; sources: "
            f"{', '.join(sorted(by_source))}"
        )
    shares = {
        name: weights[name] if weights else _weight(rows[0]) for name, rows in by_source.items()
    }
    names = sorted(name for name in by_source if shares[name] > 0)
    if not names:
        raise ValueError("all weights are zero")
    return Bucketed(
        [by_source[name] for name in names],
        lambda progress: [shares[name] for name in names],
        seed=seed,
        num_steps=1,
    )


def easy_to_hard(
    levels: Sequence[Sequence[Problem]],
    schedule: Schedule,
    *,
    seed: int,
    num_steps: int,
    beta: float = 0.5,
    sigma: float = 0.5,
    floor: bool = True,
) -> Bucketed:
    """E2H Reasoner (section 14): levels from easy to hard, with probabilities that move with
    progress.

    Args:
        levels: as `by_level` or `levels_by_rate` makes them.
    """
    count = len(levels)
    schedules: dict[str, Probabilities] = {
        "classic": lambda u: classic(u, count),
        "balanced": lambda u: [1.0 / count] * count,
        "cosine": lambda u: cosine(u, count),
        "gaussian": lambda u: gaussian(u, count, beta, sigma, floor),
    }
    if schedule not in schedules:
        raise ValueError(f"curriculum {schedule!r} is not known; there are {', '.join(schedules)}")
    return Bucketed(levels, schedules[schedule], seed=seed, num_steps=num_steps)


def by_level(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Problems by their `level`, the lowest first.

    Raises:
        ValueError: a problem without a level.
    """
    levels: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.level is None:
            raise ValueError(
                f"problem {problem.id} has no level; give levels in the data or bin pass "
                "rates into levels"
            )
        levels.setdefault(problem.level, []).append(problem)
    return [levels[level] for level in sorted(levels, key=_level_order)]


def levels_by_rate(problems: Sequence[Problem], count: int) -> list[list[Problem]]:
    """`count` levels of nearly equal size by pass rate, the easiest first; ties keep their order.

    Raises:
        ValueError: a problem without a pass rate, or fewer problems than levels.
    """
    if missing := [problem.id for problem in problems if "pass_rate" not in problem.extra]:
        raise ValueError(f"{len(missing)} problems have no pass_rate, the first is {missing[0]}")
    if len(problems) < count:
        raise ValueError(f"{len(problems)} problems cannot make {count} levels")
    ordered = sorted(problems, key=_pass_rate, reverse=True)
    cuts = [round(len(ordered) * k / count) for k in range(count + 1)]
    return [ordered[a:b] for a, b in itertools.pairwise(cuts)]


def classic(u: float, count: int) -> list[float]:
    """[K] all on level floor(u K): one level after the other."""
    level = min(count - 1, int(u * count))
    return [float(i == level) for i in range(count)]


def cosine(u: float, count: int) -> list[float]:
    """[K] from easy to hard: w (K - i) / S + (1 - w) (i + 1) / S with w = (1 + cos pi u) / 2."""
    w, total = 0.5 * (1 + math.cos(math.pi * u)), count * (count + 1) / 2
    return [(w * (count - i) + (1 - w) * (i + 1)) / total for i in range(count)]


def gaussian(
    u: float, count: int, beta: float = 0.5, sigma: float = 0.5, floor: bool = True
) -> list[float]:
    """[K] a bell that moves from the first level to the last, its centre at u^beta (K - 1).

    With `floor` no level falls below 2 / (K (K + 1)), the published default.
    """
    centre = u**beta * (count - 1)
    bell = [math.exp(-((i - centre) ** 2) / (2 * sigma**2)) for i in range(count)]
    least = 2 / (count * (count + 1)) if floor and count > 1 else 0.0
    return [least + (1 - count * least) * height / sum(bell) for height in bell]


def _weight(problem: Problem) -> float:
    weight = problem.extra.get("weight", 1.0)
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not 0 <= weight < math.inf
    ):
        raise ValueError(
            f"problem {problem.id} has weight {weight!r}: a number that is not negative is needed"
        )
    return weight


def _pass_rate(problem: Problem) -> float:
    rate = problem.extra["pass_rate"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ValueError(
            f"problem {problem.id} has pass_rate {rate!r}: a share in [0, 1] is needed"
        )
    return rate


def _level_order(level: str) -> tuple[int, float, str]:
    """Numbers by value, other names after them by name."""
    try:
        return (0, float(level), level)
    except ValueError:
        return (1, 0.0, level)
