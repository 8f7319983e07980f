"""Conditions that end a stage, by name. `docs/stages.md` has the rule of each.

A condition is judged after every step on the history of its stage and holds at that step or does
not. It has no memory of its own: the windows look back. A new one is a class or function here or
in a module of the recipe's `modules`, under `@TRIGGERS.register(name)`: something that makes a
condition of what the recipe says after the name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from grpo.common.names import Registry, hint
from grpo.stages import trend

TOKENS = "generated_tokens"  # the metric that `max_tokens` adds up


@dataclass(slots=True)
class History:
    """What a stage has seen so far. Every stage begins with an empty one."""

    steps: int = 0
    tokens: float = 0.0
    windows: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """The last (step, value) pairs of each metric that is asked for, oldest first."""

    def last(self, metric: str, window: int) -> list[tuple[int, float]] | None:
        """The last `window` values of a metric; None as long as there are fewer."""
        points = self.windows.get(metric, [])
        return points[-window:] if len(points) >= window else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Does a condition hold, and by which numbers?"""

    holds: bool | None
    """None: it cannot be told, because a window is not full or has too few independent values."""
    says: str


class Condition(Protocol):
    """Something that holds at a step of a stage, or does not."""

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""

    def needs(self) -> dict[str, int]:
        """Metrics that it looks at, and how many values of each."""

    def latest(self) -> int | None:
        """Steps of a stage after which it holds for certain, whatever the metrics; None: never."""


Parser = Callable[[Any], Condition]
TRIGGERS: Registry[Parser] = Registry("trigger")
Made = TypeVar("Made", bound=Condition)


def parse(setting: Any) -> Condition:
    """The condition that a recipe describes: `{NAME: SETTING}`.

    Raises:
        ValueError: no such trigger, or a setting that it cannot use. Members of `any` and `all`
            are all looked at, one problem a line.
    """
    if not isinstance(setting, Mapping) or len(setting) != 1:
        raise ValueError(
            f"{setting!r}: a condition is one trigger with its setting, such as "
            "{max_steps: 1000}; several go into {any: [...]} or {all: [...]}"
        )
    ((name, value),) = setting.items()
    make = TRIGGERS[str(name)]
    try:
        return make(value)
    except ValueError as error:
        lines = [f"{name}: {line}" for line in str(error).splitlines()]
        raise ValueError("\n".join(lines)) from None


def _settings(cls: Callable[..., Made]) -> Parser:
    """A parser for a dataclass: one value is its first field, a list its fields in order, and a
    mapping names them."""

    def make(setting: Any) -> Made:
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if isinstance(setting, list | tuple):
            if len(setting) > len(fields):
                raise ValueError(f"{list(setting)}: at most {len(fields)}: {', '.join(fields)}")
            setting = dict(zip(fields, setting, strict=False))
        elif not isinstance(setting, Mapping):
            setting = {next(iter(fields)): setting}
        problems = [f"{key}: unknown; {hint(str(key), fields)}" for key in set(setting) - {*fields}]
        for name, one in fields.items():
            if name not in setting:
                if one.default is dataclasses.MISSING:
                    problems.append(f"{name}: missing; it has no default")
                continue
            value = setting[name]
            kind = {"int": int, "float": int | float, "str": str}[str(one.type)]
            if isinstance(value, bool) or not isinstance(value, kind):
                word = {"int": "a whole number", "float": "a number", "str": "a metric's name"}
                problems.append(f"{name}={value!r}: expected {word[str(one.type)]}")
            elif isinstance(value, float) and not math.isfinite(value):
                problems.append(f"{name}={value}: must be a finite number")
        if problems:
            raise ValueError("\n".join(problems))
        return cls(**setting)

    return make


def trigger(name: str) -> Callable[[type[Made]], type[Made]]:
    """Decorator that registers a dataclass as a trigger whose fields are its settings."""

    def add(cls: type[Made]) -> type[Made]:
        TRIGGERS.register(name)(_settings(cls))
        return cls

    return add


# Bounds


@trigger("max_steps")
@dataclass(frozen=True, slots=True)
class MaxSteps:
    """So many steps of this stage are done."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: must be at least 1")

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        return Verdict(history.steps >= self.steps, f"{history.steps} of {self.steps} steps")

    def needs(self) -> dict[str, int]:
        """No metric."""
        return {}

    def latest(self) -> int | None:
        """After its own number of steps."""
        return self.steps


@trigger("max_tokens")
@dataclass(frozen=True, slots=True)
class MaxTokens:
    """So many response tokens were generated in this stage."""

    tokens: float

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise ValueError(f"tokens={self.tokens}: must be greater than 0")

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        return Verdict(
            history.tokens >= self.tokens, f"{history.tokens:.4g} of {self.tokens:.4g} tokens"
        )

    def needs(self) -> dict[str, int]:
        """The tokens of a step. The history adds them up itself."""
        return {TOKENS: 1}

    def latest(self) -> int | None:
        """How many tokens a step has is not known before."""
        return None


# Trends and levels


class _Window:
    """What the conditions on a window of one metric have in common. Each has these fields."""

    __slots__ = ()

    metric: str
    window: int
    confidence: float

    def __post_init__(self) -> None:
        if self.window < 8:
            raise ValueError(f"window={self.window}: fewer than 8 values tell no trend from noise")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence={self.confidence}: must be in [0.5, 1)")

    def needs(self) -> dict[str, int]:
        """Its metric, and the values in its window."""
        return {self.metric: self.window}

    def latest(self) -> int | None:
        """A metric may never get there."""
        return None

    def unknown(self, history: History) -> Verdict:
        """Too few values, or values too much alike: nothing can be said, so nothing holds."""
        seen = len(history.windows.get(self.metric, []))
        return Verdict(None, f"{self.metric}: cannot tell from {min(seen, self.window)} values")

    def change(self, history: History) -> tuple[trend.Estimate, int] | None:
        """The change from the first to the last step of the window, as a share of the mean's
        size, and the steps between them; None where nothing can be said."""
        points = history.last(self.metric, self.window)
        line = trend.slope(points) if points else None
        if points is None or line is None or line[1] == 0:
            return None
        per_step, level = line
        span = points[-1][0] - points[0][0]
        unit = span / abs(level)
        change = trend.Estimate(per_step.value * unit, per_step.error * unit, per_step.freedom)
        return change, span

    def average(self, history: History) -> trend.Estimate | None:
        """The mean of the window; None where nothing can be said."""
        points = history.last(self.metric, self.window)
        return trend.mean([value for _, value in points]) if points else None


@trigger("rising")
@dataclass(frozen=True, slots=True)
class Rising(_Window):
    """A metric goes up over its window, by more than `min_rise` of its mean."""

    metric: str
    window: int = 100
    min_rise: float = 0.02
    confidence: float = 0.999  # a stage asks at a thousand steps, so one in twenty is no proof

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        if (found := self.change(history)) is None:
            return self.unknown(history)
        change, span = found
        least = change.below(self.confidence)
        return Verdict(
            least > self.min_rise,
            f"{self.metric} rises {change.value:.1%} in {span} steps (at least {least:.1%}, "
            f"limit {self.min_rise:.1%})",
        )


@trigger("falling")
@dataclass(frozen=True, slots=True)
class Falling(_Window):
    """A metric goes down over its window, by more than `min_fall` of its mean."""

    metric: str
    window: int = 100
    min_fall: float = 0.02
    confidence: float = 0.999

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        if (found := self.change(history)) is None:
            return self.unknown(history)
        change, span = found
        least = -change.above(self.confidence)
        return Verdict(
            least > self.min_fall,
            f"{self.metric} falls {-change.value:.1%} in {span} steps (at least {least:.1%}, "
            f"limit {self.min_fall:.1%})",
        )


@trigger("plateau")
@dataclass(frozen=True, slots=True)
class Plateau(_Window):
    """A metric no longer rises: over its window by less than `max_rise`, if at all."""

    metric: str
    window: int = 200
    max_rise: float = 0.05
    confidence: float = 0.95

    def judge(self, history: History) -> Verdict:
        """Does it hold now? Noise makes the bound wider, so it never makes a plateau."""
        if (found := self.change(history)) is None:
            return self.unknown(history)
        change, span = found
        most = change.above(self.confidence)
        return Verdict(
            most < self.max_rise,
            f"{self.metric} changes {change.value:+.1%} in {span} steps (at most {most:+.1%}, "
            f"limit {self.max_rise:+.1%})",
        )


@trigger("above")
@dataclass(frozen=True, slots=True)
class Above(_Window):
    """The mean of a metric over its window is above a threshold."""

    metric: str
    threshold: float
    window: int = 50
    confidence: float = 0.95

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        if (average := self.average(history)) is None:
            return self.unknown(history)
        return Verdict(
            average.below(self.confidence) > self.threshold,
            f"{self.metric} is {average.value:.4g} over {self.window} values (at least "
            f"{average.below(self.confidence):.4g}, limit {self.threshold:g})",
        )


@trigger("below")
@dataclass(frozen=True, slots=True)
class Below(_Window):
    """The mean of a metric over its window is below a threshold."""

    metric: str
    threshold: float
    window: int = 50
    confidence: float = 0.95

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        if (average := self.average(history)) is None:
            return self.unknown(history)
        return Verdict(
            average.above(self.confidence) < self.threshold,
            f"{self.metric} is {average.value:.4g} over {self.window} values (at most "
            f"{average.above(self.confidence):.4g}, limit {self.threshold:g})",
        )


# Combinations


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one member holds at this step."""

    members: tuple[Condition, ...]

    def judge(self, history: History) -> Verdict:
        """Does it hold now? The words name the members that do."""
        verdicts = [member.judge(history) for member in self.members]
        true = [verdict for verdict in verdicts if verdict.holds]
        unknown = [verdict for verdict in verdicts if verdict.holds is None]
        told = " or ".join(verdict.says for verdict in true or verdicts)
        return Verdict(True if true else None if unknown else False, told)

    def needs(self) -> dict[str, int]:
        """What its members look at."""
        return together(member.needs() for member in self.members)

    def latest(self) -> int | None:
        """When the first member holds for certain."""
        return min((t for m in self.members if (t := m.latest()) is not None), default=None)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every member holds at this same step."""

    members: tuple[Condition, ...]

    def judge(self, history: History) -> Verdict:
        """Does it hold now? The first member that does not is the answer."""
        told, holds = [], True
        for member in self.members:
            verdict = member.judge(history)
            if verdict.holds is False:
                return verdict
            holds &= bool(verdict.holds)
            told.append(verdict.says)
        return Verdict(holds or None, " and ".join(told))

    def needs(self) -> dict[str, int]:
        """What its members look at."""
        return together(member.needs() for member in self.members)

    def latest(self) -> int | None:
        """When the last member holds for certain."""
        bounds = [bound for member in self.members if (bound := member.latest()) is not None]
        return max(bounds) if len(bounds) == len(self.members) else None


@dataclass(frozen=True, slots=True)
class Not:
    """Its member does not hold at this step. What cannot be told is no "not" either."""

    member: Condition

    def judge(self, history: History) -> Verdict:
        """Does it hold now?"""
        verdict = self.member.judge(history)
        holds = None if verdict.holds is None else not verdict.holds
        return Verdict(holds, f"not: {verdict.says}")

    def needs(self) -> dict[str, int]:
        """What its member looks at."""
        return self.member.needs()

    def latest(self) -> int | None:
        """Nobody knows."""
        return None


def _members(make: Callable[[tuple[Condition, ...]], Condition]) -> Parser:
    def of(setting: Any) -> Condition:
        if not isinstance(setting, list | tuple) or not setting:
            raise ValueError(f"{setting!r}: expected a list of conditions; write [...]")
        members, problems = [], []
        for one in setting:
            try:
                members.append(parse(one))
            except ValueError as error:
                problems += str(error).splitlines()
        if problems:
            raise ValueError("\n".join(problems))
        return make(tuple(members))

    return of


TRIGGERS.register("not")(lambda setting: Not(parse(setting)))
TRIGGERS.register("any")(_members(AnyOf))
TRIGGERS.register("all")(_members(AllOf))


def together(needs: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The longest window of each metric."""
    longest: dict[str, int] = {}
    for one in needs:
        for metric, window in one.items():
            longest[metric] = max(window, longest.get(metric, 0))
    return longest
