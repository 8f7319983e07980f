"""What flows through the loop: Problem -> Prompt -> Group(Response ...) -> ScoredGroup -> Batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from data.types import Problem
from rewards import Score


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the model sees it."""

    problem: Problem
    text: str
    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One response to generate. It depends on nothing but itself, so a lost one can be made again."""

    key: int  # the caller's index; responses arrive in any order
    prompt_token_ids: list[int]
    seed: int | None


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response. Text and tokens are the same thing: a stop string that belongs to the
    answer is in both.
    """

    key: int
    token_ids: list[int]
    text: str
    logprobs: list[float]  # the engine's, of the sampled tokens, at the sampling temperature
    finish_reason: str  # "stop" or "length"
    weight_version: int  # of the weights that made it
    seed: int | None

    @property
    def truncated(self) -> bool:
        """True when the length limit ended it, and only then."""
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Group:
    """All G responses to one prompt."""

    prompt: Prompt
    responses: list[Response]


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group and the score of each of its responses."""

    group: Group
    scores: list[Score]


@dataclass(frozen=True, slots=True)
class TrainSample:
    """What the learner needs of one response; `advantage` is shared by all its tokens."""

    prompt_token_ids: list[int]
    response_token_ids: list[int]
    engine_logprobs: list[float]
    advantage: float


@dataclass(frozen=True, slots=True)
class Batch:
    """The responses of one step, with the weight version that made all of them."""

    samples: list[TrainSample]
    temperature: float
    weight_version: int


def sample_seed(run_seed: int, step: int, problem_id: str, index: int) -> int:
    """Seed of one sample, in [0, 2^63): a hash of what identifies it, so that it can be made again
    alone.
    """
    digest = hashlib.sha256(f"{run_seed}/{step}/{problem_id}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
