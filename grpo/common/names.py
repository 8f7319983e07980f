"""Things by name: registries, and the hint that a wrong name deserves."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them.

    >>> hint("acuracy", ["accuracy", "format"])
    "did you mean 'accuracy'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"


class Registry(Generic[T]):
    """Parts that a recipe names, such as objectives, rollout strategies and problem generators.

    A module that adds one calls `register` when it is imported. A recipe makes such modules known
    with `modules`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind  # what messages call one of them
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a part available under `name`.

        Raises:
            ValueError: another part has this name.
        """

        def add(part: T) -> T:
            if self._parts.setdefault(name, part) is not part:
                raise ValueError(f"a {self.kind} named {name!r} is already registered")
            return part

        return add

    def __getitem__(self, name: str) -> T:
        """The part called `name`.

        Raises:
            ValueError: no such part; the message has the nearest name.
        """
        if name not in self._parts:
            raise ValueError(f"no {self.kind} is called {name!r}; {hint(name, self._parts)}")
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))


def import_modules(modules: Sequence[str]) -> None:
    """Import the operator's own modules, which register parts of theirs.

    Raises:
        ImportError: one cannot be imported.
    """
    for module in modules:
        importlib.import_module(module)
