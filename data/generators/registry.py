"""The generators by name. One that is registered can be a `source` of any recipe.

A generator is a settings class and a function. The class says what a recipe may set, the function
makes the problems:

    class SumsSource(GeneratorSource):
        sums: SumsOptions = SumsOptions()  # the generator's own block, `sums: {max_term: 9}`

    @register("sums", SumsSource)
    def sums(source: SumsSource, *, seed: int, split: Split | None) -> list[Problem]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field

from data.types import Problem
from grpo.common.names import Registry
from grpo.common.recipes import Settings

Split = Literal["train", "held_out"]


class GeneratorSource(Settings):
    """What every generator can be told. `source` is the name under which it is registered."""

    tags: ClassVar[tuple[str, ...]] = ("generator",)

    source: str
    num_problems: int = Field(ge=1)
    """Problems to make. A generator never ends, so there is no default."""
    seed: int | None = Field(None, ge=0)
    """Seed of the problems. null: the run's seed for training problems, 0 for held-out ones."""
    split: Split | None = None
    """Which half of the problems. null: `train` for data.train, `held_out` for data.held_out. The
    two have no question in common, whatever the seeds."""
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Share in a weighted mix, relative to the other sources."""

    @property
    def label(self) -> str:
        """How messages and reports call this source."""
        return f"generator {self.source}"


class Generate(Protocol):
    """Makes `source.num_problems` problems of one split; `split` None takes both.

    Raises:
        ValueError: there are not so many problems.
    """

    def __call__(self, source: Any, *, seed: int, split: Split | None) -> list[Problem]:  # noqa: D102
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered generator."""

    settings: type[GeneratorSource]
    generate: Generate


GENERATORS: Registry[Entry] = Registry("generator")

Function = TypeVar("Function", bound=Callable[..., list[Problem]])


def register(name: str, settings: type[GeneratorSource]) -> Callable[[Function], Function]:
    """Decorator that makes a generator available to recipes as `source: NAME`.

    Raises:
        ValueError: another generator, or a source that is none, has this name.
    """
    if name in ("file", "huggingface", "mix", "generator"):
        raise ValueError(f"a generator cannot be called {name!r}: that is another kind of source")

    def add(function: Function) -> Function:
        GENERATORS.register(name)(Entry(settings, function))
        return function

    return add
