"""The order in which problems are drawn: a new shuffle each epoch, a pure function of the seed and the cursor."""

from __future__ import annotations

import random


def draw(num_problems: int, seed: int, cursor: int, count: int) -> list[int]:
    """Indices of problems number `cursor` ... `cursor + count - 1` of an endless stream of shuffled epochs.

    Nothing but the cursor is state: the same cursor gives the same draw, in a run and after a restart.
    """
    indices: list[int] = []
    while len(indices) < count:
        epoch, offset = divmod(cursor + len(indices), num_problems)
        order = list(range(num_problems))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        indices += order[offset : offset + count - len(indices)]
    return indices
