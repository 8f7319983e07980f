"""Blocksworld: reorder stacks of blocks, one block at a time. Level L has L + 2 blocks.

The gold is the task as JSON with the length of a shortest plan, found by breadth-first search;
`rewards.checkers.blocksworld` runs a model's plan on it, so every plan that works is right.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

from data.generators.levels import Generator, Item
from rewards.checkers.blocksworld import BlocksworldGold

LEVELS = 4  # 3 to 6 blocks; 6 blocks have 4,051 arrangements, so the search is quick

Stacks = tuple[tuple[str, ...], ...]  # bottom to top; sorted, as the order of stacks means nothing


def _make(rng: random.Random, level: int) -> Item:
    names = [chr(ord("A") + i) for i in range(level + 2)]
    initial = _arrange(rng, names)
    goal = _arrange(rng, names)
    while goal == initial:
        goal = _arrange(rng, names)
    plan = shortest_plan(initial, goal)
    gold = BlocksworldGold(initial, goal, len(plan)).to_text()
    question = (
        "Blocks stand on a table, alone or in stacks. In one move you take a block that "
        "has nothing on it, "
        "and put it on the table or on another block that has nothing on it.\n"
        f"Now: {describe(initial)}\nGoal: {describe(goal)}\n"
        "Give a plan with one move on a line, as in `move A to B` or `move A to table`."
    )
    return Item(question, gold, {"plan": "\n".join(f"move {block} to {to}" for block, to in plan)})


def describe(stacks: Stacks) -> str:
    """The stacks in words, each from bottom to top."""
    return " ".join(
        ", ".join([f"{stack[0]} is on the table", *(f"{b} is on {a}" for a, b in pairwise(stack))])
        + "."
        for stack in stacks
    )


def shortest_plan(initial: Stacks, goal: Stacks) -> list[tuple[str, str]]:
    """Moves (block, block or "table") of a shortest plan."""
    came_from: dict[Stacks, tuple[Stacks, tuple[str, str]] | None] = {initial: None}
    queue = deque([initial])
    while queue:
        state = queue.popleft()
        if state == goal:
            break
        for move, following in _moves(state):
            if following not in came_from:
                came_from[following] = (state, move)
                queue.append(following)
    plan = []
    step = came_from[goal]
    while step is not None:
        plan.append(step[1])
        step = came_from[step[0]]
    return plan[::-1]


def _moves(state: Stacks) -> Iterator[tuple[tuple[str, str], Stacks]]:
    for i, source in enumerate(state):
        block, rest = source[-1], source[:-1]
        others = [stack for n, stack in enumerate(state) if n != i] + ([rest] if rest else [])
        if rest:
            yield (block, "table"), _sorted([*others, (block,)])
        for n, target in enumerate(state):
            if n != i:
                moved = [stack for stack in others if stack is not target]
                yield (block, target[-1]), _sorted([*moved, (*target, block)])


def _arrange(rng: random.Random, names: Sequence[str]) -> Stacks:
    stacks: list[list[str]] = []
    for name in rng.sample(names, len(names)):
        place = rng.randint(0, len(stacks))
        if place == len(stacks):
            stacks.append([name])
        else:
            stacks[place].append(name)
    return _sorted([tuple(stack) for stack in stacks])


def _sorted(stacks: Sequence[tuple[str, ...]]) -> Stacks:
    return tuple(sorted(stacks))


GENERATOR = Generator(name="blocksworld", make=_make, levels=LEVELS, reward="blocksworld")
