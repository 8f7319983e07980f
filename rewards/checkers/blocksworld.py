"""Blocksworld plans: run the plan on the blocks and see whether it ends in the goal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewards.registry import register
from rewards.responses import last_tagged
from rewards.types import Reward, Sample

_MOVE = re.compile(
    r"\bmove\s+(?:block\s+)?([A-Za-z])\s+(?:on\s?to|to|on)\s+(?:the\s+)?(?:block\s+)?(table|[A-Za-z])\b",
    re.IGNORECASE,
)
_MAX_MOVES = 200
TABLE = "TABLE"


@dataclass(frozen=True, slots=True)
class BlocksworldGold:
    """The task, because every plan that works is right: stacks from bottom to top, as JSON."""

    initial: Sequence[Sequence[str]]
    goal: Sequence[Sequence[str]]
    moves: int  # length of a shortest plan

    def to_text(self) -> str:
        """The gold of a row."""
        return json.dumps({"initial": self.initial, "goal": self.goal, "moves": self.moves})

    @classmethod
    def from_text(cls, text: str) -> BlocksworldGold:
        """The inverse of `to_text`.

        Raises:
            ValueError: the text is not such JSON.
        """
        try:
            case = json.loads(text)
            stacks = [
                [[str(block) for block in stack] for stack in case[key]]
                for key in ("initial", "goal")
            ]
            return cls(stacks[0], stacks[1], int(case["moves"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(
                'the reward `blocksworld` needs a gold like {"initial": [["A", "B"]], '
                f'"goal": [["A"], ["B"]], "moves": 1}}, not {text[:50]!r}: {error}'
            ) from None


@register("blocksworld", bounded=True, check_gold=BlocksworldGold.from_text)
def blocksworld(sample: Sample, efficiency: bool = False) -> Reward:
    """1 when the plan can be carried out and ends in the goal, else 0.

    With `efficiency` a plan that works earns 1 + 1 / (1 + excess), excess being the share of moves
    beyond a shortest plan (E2H Reasoner's form), so that the best plan earns 2. The gold is a
    `BlocksworldGold`.
    """
    gold = BlocksworldGold.from_text(sample.gold)
    answer = last_tagged(sample)
    if isinstance(answer, Reward):
        return answer
    moves = _MOVE.findall(answer)
    if not moves:
        return Reward(0.0, "no_answer")
    if len(moves) > _MAX_MOVES:
        return Reward(0.0, "too_many_moves")
    state = run_plan(gold.initial, [(block.upper(), to.upper()) for block, to in moves])
    if isinstance(state, str):
        return Reward(0.0, "impossible_move", {"move": state})
    if state != _supports(gold.goal):
        return Reward(0.0, "goal_not_reached", {"moves": len(moves)})
    if not efficiency:
        return Reward(1.0, "correct", {"moves": len(moves)})
    excess = max(0, len(moves) - gold.moves) / max(1, gold.moves)
    return Reward(1.0 + 1.0 / (1.0 + excess), "correct", {"moves": len(moves)})


def run_plan(
    initial: Sequence[Sequence[str]], moves: Sequence[tuple[str, str]]
) -> dict[str, str] | str:
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


def _supports(stacks: Sequence[Sequence[str]]) -> dict[str, str]:
    """Block -> what it stands on."""
    return {
        block: under
        for stack in stacks
        for under, block in zip([TABLE, *stack], stack, strict=False)
    }
