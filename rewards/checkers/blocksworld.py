"""Blocksworld plans: run the plan on the blocks and see whether it ends in the goal."""

from __future__ import annotations

import json
import re
from typing import Any

from rewards.extract import final_part, tagged
from rewards.registry import register
from rewards.types import Reward, Sample

_MOVE = re.compile(
    r"\bmove\s+(?:block\s+)?([A-Za-z])\s+(?:on\s?to|to|on)\s+(?:the\s+)?(?:block\s+)?(table|[A-Za-z])\b",
    re.IGNORECASE,
)
_MAX_MOVES = 200
TABLE = "TABLE"


@register("blocksworld", bounded=True)
def blocksworld(sample: Sample, efficiency: bool = False) -> Reward:
    """1 when the plan can be carried out and ends in the goal, else 0.

    With `efficiency` a plan that works earns 1 + 1 / (1 + excess), excess being the share of moves
    beyond a shortest plan (E2H Reasoner's form), so that the best plan earns 2. The gold is JSON
    with
    `initial`,
    `goal` and `moves`.
    """
    if sample.truncated:
        return Reward(0.0, "truncated")
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    if final is None:
        return Reward(0.0, "unclosed_thought")
    answers = tagged(final)
    moves = _MOVE.findall(answers[-1] if answers else final)
    if not moves:
        return Reward(0.0, "no_answer")
    if len(moves) > _MAX_MOVES:
        return Reward(0.0, "too_many_moves")
    task: dict[str, Any] = json.loads(sample.gold)
    state = run_plan(task["initial"], [(block.upper(), to.upper()) for block, to in moves])
    if isinstance(state, str):
        return Reward(0.0, "impossible_move", {"move": state})
    if state != _supports(task["goal"]):
        return Reward(0.0, "goal_not_reached", {"moves": len(moves)})
    if not efficiency:
        return Reward(1.0, "correct", {"moves": len(moves)})
    excess = max(0, len(moves) - task["moves"]) / max(1, task["moves"])
    return Reward(1.0 + 1.0 / (1.0 + excess), "correct", {"moves": len(moves)})


def run_plan(initial: list[list[str]], moves: list[tuple[str, str]]) -> dict[str, str] | str:
    """What each block stands on after the plan, or the first move that cannot be made.

    Args:
        initial: stacks of blocks, bottom to top.
        moves: (block, block below or "TABLE").
    """
    below = _supports(initial)
    for block, to in moves:
        covered = set(below.values())
        known = block in below and (to == TABLE or to in below)
        if not known or block == to or block in covered or (to != TABLE and to in covered):
            return f"move {block} to {to.lower() if to == TABLE else to}"
        below[block] = to
    return below


def _supports(stacks: list[list[str]]) -> dict[str, str]:
    """Block -> what it stands on."""
    return {
        block: under
        for stack in stacks
        for under, block in zip([TABLE, *stack], stack, strict=False)
    }
