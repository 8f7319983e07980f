"""Plain sampling: every prompt that is drawn becomes one group, whatever its rewards are."""

from __future__ import annotations

from collections import Counter

from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import Collected, GroupScorer, sample_groups
from grpo.rollout.strategies.base import STRATEGIES
from grpo.runtime.protocols import Rollouts
from grpo.types import SamplingSettings


@STRATEGIES.register("plain")
def plain(
    stream: PromptStream,
    num_prompts: int,
    settings: SamplingSettings,
    step: int,
    rollouts: Rollouts,
    scorer: GroupScorer,
    drawn: Counter[str],
) -> Collected:
    """Draw, sample all, score all."""
    return sample_groups(stream.next(num_prompts), settings, step, rollouts, scorer, drawn)
