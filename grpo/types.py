"""What flows through the loop: Problem -> Prompt -> Group(Response ...) -> ScoredGroup ->
TrainSample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.types import Problem
from rewards import Score

# One advantage for a response, shared by its trained tokens, or one for every token of the sample.
Advantage = float | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the model sees it."""

    problem: Problem
    text: str
    token_ids: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSettings:
    """How the engines sample. One type, passed whole from the recipe to the engine."""

    num_samples: int  # G, responses for each prompt
    temperature: float  # 0 is greedy
    max_tokens: int  # of a response
    top_p: float = 1.0  # below 1 in evaluations only: it breaks the on-policy ratio of training
    stop: tuple[str, ...] = ()  # strings that end a response and belong to it
    cut: tuple[
        str, ...
    ] = ()  # strings that end a response and are taken off, tokens and text alike
    seed: int | None = None  # of the run; None leaves the engine's own randomness
    prompt_opens_think: bool = False
    ignore_eos: bool = False  # always max_tokens long; for measurements
    segment_tokens: int | None = None  # of a response that one step generates; None: all
    prompts_in_flight: int | None = None  # groups that partial rollouts work on at one time


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One response to generate. It depends on nothing but itself, so a lost one can be
    made again.
    """

    key: int  # the caller's index; responses arrive in any order
    prompt_token_ids: list[int]
    seed: int | None
    begun: Response | None = None  # what there is of the response already; the rest is generated


@dataclass(frozen=True, slots=True)
class Response:
    """What an engine made of one request.

    Text and tokens are the same thing: a stop string that belongs to the answer is in both.
    """

    key: int
    token_ids: list[int]
    text: str
    logprobs: list[float]  # the engine's, of the sampled tokens, at the sampling temperature
    # "stop", "length", "segment" for what another step goes on with, or "abort" for what was taken
    # back unfinished
    finish_reason: str
    weight_version: int  # of the weights that made the last token
    seed: int | None
    version_spans: tuple[tuple[int, int, int], ...] = ()  # (start, stop, version) where it changed

    @classmethod
    def from_plain(cls, row: Mapping[str, Any]) -> Response:
        """The response whose `asdict` JSON has held, which knows no tuples."""
        spans = tuple((start, stop, version) for start, stop, version in row["version_spans"])
        return cls(**{**row, "version_spans": spans})

    @property
    def truncated(self) -> bool:
        """True when the length limit ended it, and only then."""
        return self.finish_reason == "length"

    def versions_T(self) -> NDArray[np.int32]:
        """[T] version of the weights that made each token."""
        versions_T = np.full(len(self.token_ids), self.weight_version, np.int32)
        for start, stop, version in self.version_spans:
            versions_T[start:stop] = version
        return versions_T


@dataclass(frozen=True, slots=True)
class Group:
    """All G responses to one prompt."""

    prompt: Prompt
    responses: list[Response]


@dataclass(slots=True, eq=False)
class BegunGroup:
    """A group that partial rollouts work on over several steps."""

    prompt: Prompt
    number: int  # of all groups that the run has begun
    responses: list[Response | None]  # G of them; None: nothing yet

    @property
    def is_whole(self) -> bool:
        """Is every response finished?"""
        return all(r is not None and r.finish_reason != "segment" for r in self.responses)


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group and the score of each of its responses."""

    group: Group
    scores: list[Score]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a sample with one author: the prompt, a response, or what a tool or a user put
    in between.
    """

    role: str  # "prompt", "response", or any other author
    start: int  # tokens [start, stop) of the sample
    stop: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainSample:
    """A whole sequence that the learner trains on, token by token. T tokens.

    Tokens that the policy did not choose (prompts, tool outputs, forced continuations) have a False
    mask. They are context and nothing else. Several turns, budget forcing, partial rollouts and
    process rewards are all combinations of these arrays, so the learner knows none of them.

    Raises:
        ValueError: arrays of different lengths, or a mask on the first token, which nothing
            predicts.
    """

    token_ids_T: NDArray[np.int32]
    loss_mask_T: NDArray[np.bool_]
    behaviour_logp_T: NDArray[np.float32]  # as the engine reported them; 0 where the mask is False
    weight_version_T: NDArray[np.int32]  # of the weights that made each token; -1 where none did
    counts_only: bool = False  # its tokens stand in denominators; nothing of it is computed
    segments: tuple[Segment, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.token_ids_T), len(self.loss_mask_T)}
        lengths |= {len(self.behaviour_logp_T), len(self.weight_version_T)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"the arrays of a sample have {sorted(lengths)} tokens; they must agree"
            )
        if self.loss_mask_T[0]:
            raise ValueError(
                "the first token of a sample is masked as trained, but nothing predicts it"
            )

    @property
    def num_tokens(self) -> int:
        """Length of the whole sequence."""
        return len(self.token_ids_T)

    @property
    def num_trained(self) -> int:
        """Tokens that carry loss."""
        return int(self.loss_mask_T.sum())

    @classmethod
    def from_turns(
        cls,
        turns: Sequence[Prompt | Response | tuple[str, Sequence[int]]],
        **metadata: Any,
    ) -> TrainSample:
        """A sample from its turns in order.

        A `Prompt` is context, a `Response` is trained, and (text, token ids) is context by somebody
        else, such as the output of a tool.
        """
        ids: list[int] = []
        mask: list[bool] = []
        logps: list[float] = []
        versions: list[int] = []
        segments = []
        for turn in turns:
            start = len(ids)
            if isinstance(turn, Response):
                ids += turn.token_ids
                logps += turn.logprobs[: len(turn.token_ids)]
                versions += turn.versions_T().tolist()
                segments.append(Segment("response", start, len(ids), turn.text))
                mask += [True] * len(turn.token_ids)
                continue
            tokens: Sequence[int]
            if isinstance(turn, Prompt):
                role, text, tokens = "prompt", turn.text, turn.token_ids
            else:
                role, (text, tokens) = "context", turn
            ids += tokens
            segments.append(Segment(role, start, len(ids), text))
            mask += [False] * len(tokens)
            logps += [0.0] * len(tokens)
            versions += [-1] * len(tokens)
        return cls(
            token_ids_T=np.array(ids, np.int32),
            loss_mask_T=np.array(mask, np.bool_),
            behaviour_logp_T=np.array(logps, np.float32),
            weight_version_T=np.array(versions, np.int32),
            segments=tuple(segments),
            metadata=metadata,
        )

    @classmethod
    def from_tokens(
        cls,
        prompt: Sequence[int],
        response: Sequence[int],
        logprobs: Sequence[float],
        version: int = 0,
    ) -> TrainSample:
        """A sample of one prompt and one response, from bare token ids."""
        mask = np.arange(len(prompt) + len(response)) >= len(prompt)
        return cls(
            token_ids_T=np.array([*prompt, *response], np.int32),
            loss_mask_T=mask,
            behaviour_logp_T=np.array(
                [*[0.0] * len(prompt), *logprobs[: len(response)]], np.float32
            ),
            weight_version_T=np.where(mask, version, -1).astype(np.int32),
        )

    def without_texts(self) -> TrainSample:
        """What the learner needs: arrays only."""
        return replace(self, segments=(), metadata={})

    def advantage_N(self, advantage: Advantage) -> NDArray[np.float32]:
        """[N] advantages of the trained tokens: one number is shared by all, [T] numbers are taken
        at the mask.
        """
        if isinstance(advantage, np.ndarray):
            assert advantage.shape == self.token_ids_T.shape, (
                "one advantage for every token of the sample"
            )
            return advantage[self.loss_mask_T].astype(np.float32)
        return np.full(self.num_trained, advantage, np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """What may change from one step to the next. It travels with each update, so a stage needs no
    new actors.
    """

    lr: float
    temperature: float  # of sampling: log-probs are those of the distribution that was sampled
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.0
    entropy_coef: float = 0.0
    aggregation_constant: int = 1  # tokens; the longest response that could be sampled
    num_updates: int = 1  # optimizer steps for the batch
    group_size: int = 1  # G; responses of a prompt are neighbours


@dataclass(frozen=True, slots=True)
class Measured:
    """Scalars of one sample that the learner measured before the update, for rewards and masks that
    need them.
    """

    kl: float | None  # sum over tokens of log policy - log reference; None without a reference
    entropy: float  # mean over trained tokens, nats
    mismatch: float  # mean of log policy - log behaviour over trained tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightReport:
    """What a comparison of engines with the learner came to. Each text names tensor and engine."""

    version: int
    hashes: dict[str, int]  # of the learner's tensors, by checkpoint name
    differing: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)  # what cannot be compared, and why


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What an update left behind, by layer. It does not depend on how ranks share the weights,
    but for the rounding of the norms.
    """

    gradients: dict[str, float]  # L2 norm over the updates of the step, before clipping
    weights: dict[str, int]  # content hash of the trained parameters, in [0, 2^64)


def sample_seed(run_seed: int, step: int, problem_id: str, index: int) -> int:
    """Seed of one sample, in [0, 2^63): a hash of what identifies it, so that it can be made again
    alone.
    """
    digest = hashlib.sha256(f"{run_seed}/{step}/{problem_id}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
