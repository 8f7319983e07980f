"""What flows through `rewards`: a `Sample` in, a `Reward` out, a weighted `Score` for the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class NeedsWorkerError(Exception):
    """Grading this answer may cost more than this process should spend; a worker that can be killed
    has to do it.
    """


class InfrastructureError(RuntimeError):
    """Workers cannot start, or die on known-good answers: scores would say something about the
    machine.
    """


@dataclass(frozen=True, slots=True)
class Reward:
    """One component's verdict on one response; `reason` explains a falling curve, `details` a
    single case.

    `details` holds what JSON can hold, since rewards cross process borders and go into logs.
    """

    score: float
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Everything that a reward may look at: one response and what it is judged against."""

    response: str
    gold: str
    question: str = ""
    data_source: str = ""  # name of the data set, for options that differ between them
    prompt_opens_think: bool = (
        False  # the prompt already ends in `<think>`, so the response must not repeat it
    )
    truncated: bool = False  # finish_reason == "length", nothing else
    num_tokens: int = 0  # length of the response
    max_tokens: int = 0  # the limit under which it was sampled; 0 when unknown


@dataclass(frozen=True, slots=True)
class Score:
    """Weighted sum of the components of one response, with every component kept for the logs."""

    total: float
    components: Mapping[str, Reward]
