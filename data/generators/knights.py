"""Knights say the truth, knaves lie; who is what? Exactly one assignment fits, found by trying all.

Level L has L + 1 people. Statements name others, compare two people, or count the knights.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product

from data.generators.levels import Generator, Item
from rewards.checkers.knights import KnightsGold

LEVELS = 6
NAMES = ("Ava", "Ben", "Cleo", "Dan", "Edda", "Finn", "Gus", "Hanna")

Truth = Callable[[Sequence[bool]], bool]  # kinds (True: knight) -> whether a statement holds


def _make(rng: random.Random, level: int) -> Item:
    size = level + 1
    names = rng.sample(NAMES, size)
    while True:
        statements = [_statement(rng, names, speaker) for speaker in range(size)]
        fitting = solutions([truth for _, truth in statements])
        if len(fitting) == 1:
            break
    said = "\n".join(
        f'{name} says: "{text}"' for name, (text, _) in zip(names, statements, strict=True)
    )
    question = (
        "On an island everyone is a knight or a knave. Knights always tell the truth, "
        "knaves always lie. "
        f"You meet {', '.join(names[:-1])} and {names[-1]}.\n{said}\n"
        'Who is what? Name each person, as in "Ava is a knight, Ben is a knave".'
    )
    kinds = fitting[0]
    return Item(question, spell(names, kinds), {"names": names})


def solutions(statements: Sequence[Truth]) -> list[tuple[bool, ...]]:
    """All assignments under which everyone's statement is as true as its speaker; True is a
    knight.
    """
    return [
        kinds
        for kinds in product((True, False), repeat=len(statements))
        if all(truth(kinds) == kinds[speaker] for speaker, truth in enumerate(statements))
    ]


def spell(names: Sequence[str], kinds: Sequence[bool]) -> str:
    """The answer in words."""
    return KnightsGold(dict(zip(names, kinds, strict=True))).to_text()


def _statement(rng: random.Random, names: Sequence[str], speaker: int) -> tuple[str, Truth]:
    others = [i for i in range(len(names)) if i != speaker]
    kind = rng.choice(("is", "same", "count", "or", "if"))
    a = rng.choice(others)
    knight = rng.random() < 0.5
    word = "knight" if knight else "knave"
    if kind == "is":
        return f"{names[a]} is a {word}.", lambda kinds: kinds[a] == knight
    if kind == "same":
        return f"{names[a]} and I are of the same kind.", lambda kinds: kinds[a] == kinds[speaker]
    if kind == "count":
        count = rng.randint(1, len(names) - 1)
        return (
            f"Exactly {count} of us {'is a knight' if count == 1 else 'are knights'}.",
            lambda kinds: sum(kinds) == count,
        )
    b = rng.choice([i for i in range(len(names)) if i != a])
    other = "I am" if b == speaker else f"{names[b]} is"
    if kind == "or":
        return (
            f"{names[a]} is a {word} or {other} a knave.",
            lambda kinds: kinds[a] == knight or not kinds[b],
        )
    return (
        f"If {names[a]} is a {word}, then {other} a knight.",
        lambda kinds: kinds[a] != knight or kinds[b],
    )


GENERATOR = Generator(name="knights", make=_make, levels=LEVELS, reward="knights")
