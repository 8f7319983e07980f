"""Generators by name. Each makes endless problems whose answers a reward can check.

Texts may repeat in a long stream of an easy level (there are only so many products of one-digit
numbers); ids do not.
"""

from __future__ import annotations

from itertools import islice

from data.errors import DataError
from data.generators import arithmetic, blocksworld, countdown, knights, multiplication, symbolic
from data.generators.base import Generator
from data.types import Problem

GENERATORS: dict[str, Generator] = {
    generator.name: generator
    for generator in (
        arithmetic.GENERATOR,
        multiplication.GENERATOR,
        countdown.GENERATOR,
        symbolic.GENERATOR,
        symbolic.NOOP_GENERATOR,
        blocksworld.GENERATOR,
        knights.GENERATOR,
    )
}


def generate(
    name: str, *, seed: int, count: int, level: int | None = None, start: int = 0
) -> list[Problem]:
    """`count` problems of a generator, from number `start` on.

    Raises:
        DataError: no such generator or level.
    """
    if name not in GENERATORS:
        raise DataError(f"generator {name!r} is not known; there are {', '.join(GENERATORS)}")
    try:
        return list(islice(GENERATORS[name].stream(seed, level, start), count))
    except ValueError as error:
        raise DataError(str(error)) from error
