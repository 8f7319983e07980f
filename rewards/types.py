"""What flows through `rewards`: a `Sample` in, a `Reward` out, a `Score` for the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpo.common.errors import UserError


class NeedsWorkerError(Exception):
    """Grading this answer may cost more than this process should spend. A worker that can be killed
    has to do it.
    """


class InfrastructureError(RuntimeError):
    """Workers cannot start, or die on known-good answers: scores would say something about the
    machine.
    """


class WorkerStartError(InfrastructureError):
    """No worker could be started, so nothing was graded."""


class RewardFailedError(UserError):
    """A reward function fails on nearly all samples. Training on would be training on nothing."""


@dataclass(frozen=True, slots=True)
class Reward:
    """One component's verdict on one response.

    `reason` explains a falling curve, `details` a single case. `details` holds what JSON can hold,
    since rewards cross process borders and go into logs.
    """

    score: float
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    token_scores: Sequence[float] | None = None  # of a per-token reward: one for each token
    graded: bool = True  # False: the machine failed, which says nothing about the response


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Everything that a reward may look at: one response and what it is judged against."""

    response: str
    gold: str
    question: str = ""
    data_source: str = ""  # name of the data set, for options that differ between them
    # The components that score this row: one or several names; "": every checker.
    reward: str | Sequence[str] = ""
    # The prompt already ends in `<think>`, so the response must not repeat it.
    prompt_opens_think: bool = False
    truncated: bool = False  # finish_reason == "length", nothing else
    num_tokens: int = 0  # length of the response
    max_tokens: int = 0  # the limit under which it was sampled; 0 when unknown
    token_ids: Sequence[int] = ()  # of the response, as trained; only if `Scorer.needs_tokens`
    token_texts: Sequence[str] = ()  # the text of each of `token_ids`; only if `needs_tokens`

    @property
    def named(self) -> tuple[str, ...]:
        """The names in `reward`."""
        return names_of(self.reward)


def names_of(reward: str | Sequence[str] | None) -> tuple[str, ...]:
    """The components that a row's `reward` names; none where it names none."""
    return ((reward,) if reward else ()) if isinstance(reward, str) else tuple(reward or ())


@dataclass(frozen=True, slots=True)
class Score:
    """Weighted sum of the components of one response, with every component kept for the logs.

    A component that does not apply to the row (another one owns its correctness) is not in
    `components`.
    """

    total: float
    components: Mapping[str, Reward]
    token_scores: Sequence[float] | None = None  # weighted sum of the per-token components
    graded: bool = True  # False: leave it out of the group's baseline, and count it
