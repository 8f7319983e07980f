"""What flows through `rewards`: a `Sample` in, a `Reward` out, a weighted `Score` for the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reward:
    """One component's verdict on one response; `reason` explains a falling curve, `details` a single case."""

    score: float
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Everything that a reward may look at: one response and what it is judged against."""

    response: str
    gold: str
    question: str = ""
    prompt_opens_think: bool = False  # the prompt already ends in `<think>`, so the response must not repeat it
    truncated: bool = False  # finish_reason == "length", nothing else
    num_tokens: int = 0  # length of the response
    max_tokens: int = 0  # the limit under which it was sampled; 0 when unknown


@dataclass(frozen=True, slots=True)
class Score:
    """Weighted sum of the components of one response, with every component kept for the logs."""

    total: float
    components: Mapping[str, Reward]
