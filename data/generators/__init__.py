"""Generators by name: endless problems whose answers a reward can check.

Texts may repeat in a long stream of an easy level (there are only so many products of one-digit
numbers). Ids do not.
"""

from __future__ import annotations

from data.generators import arithmetic, blocksworld, countdown, knights, multiplication, symbolic
from data.generators.levels import Generator, Item
from data.generators.registry import GENERATORS, GeneratorSource, Split, register

LEVELLED: dict[str, Generator] = {
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
for _generator in LEVELLED.values():
    _generator.register()

__all__ = ["GENERATORS", "LEVELLED", "Generator", "GeneratorSource", "Item", "Split", "register"]
