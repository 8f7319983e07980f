"""What a strategy is: a function that fills a step with scored groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from grpo.common.names import Registry
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import Collected, GroupScorer
from grpo.runtime.protocols import Rollouts
from grpo.types import SamplingSettings

# (stream, number of prompts, settings, step, rollouts, scorer, groups so far) -> groups. A strategy
# draws its own prompts, because partial rollouts need fewer of them than the batch has. Which of
# the groups are trained on is not its business: `grpo.rollout.batch_rules` decides that.
Strategy = Callable[
    [PromptStream, int, SamplingSettings, int, Rollouts, GroupScorer, Counter[str]], Collected
]
STRATEGIES: Registry[Strategy] = Registry("rollout strategy")
