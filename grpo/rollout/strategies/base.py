"""What a strategy is: a function that fills a step with scored groups."""

from __future__ import annotations

from collections.abc import Callable

from grpo.common.names import Registry
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import Collected, GroupScorer
from grpo.runtime.protocols import Rollouts
from grpo.types import SamplingSettings

# (stream, number of prompts, settings, step, rollouts, scorer) -> groups. A strategy draws its own
# prompts, because dynamic sampling needs more of them than the batch has, and partial rollouts
# fewer.
Strategy = Callable[[PromptStream, int, SamplingSettings, int, Rollouts, GroupScorer], Collected]
STRATEGIES: Registry[Strategy] = Registry("rollout strategy")
