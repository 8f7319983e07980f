"""Prompts to scored groups: seeds out, responses in, and each group scored as soon as it is
complete.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from grpo.types import Group, Prompt, Response, SampleRequest, ScoredGroup, sample_seed
from rewards import Sample, Score


class Rollouts(Protocol):
    """Engines, as the loop sees them: `grpo.runtime.ray.actors.RolloutPool`."""

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str],
        cut: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Iterator[list[Response]]: ...


class GroupScorer(Protocol):
    """`rewards.Scorer`, or whatever scores groups the same way."""

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePlan:
    """How to sample each prompt."""

    num_samples: int  # G
    temperature: float  # 0 is greedy
    max_tokens: int
    stop: tuple[str, ...]  # end a response and belong to it
    cut: tuple[str, ...]  # end a response and do not
    seed: int | None  # of the run; None leaves the engine's own randomness
    step: int
    prompt_opens_think: bool
    ignore_eos: bool = False  # always max_tokens long; for measurements


@dataclass(slots=True)
class Collected:
    """Scored groups in the order of the prompts, and where the time went."""

    groups: list[ScoredGroup] = field(default_factory=list)
    sample_seconds: float = 0.0
    score_seconds: float = 0.0


def sample_groups(
    prompts: Sequence[Prompt], plan: SamplePlan, rollouts: Rollouts, scorer: GroupScorer
) -> Collected:
    """Sample G responses to every prompt and score them. A group is scored while others are still
    generated.

    The result depends on seeds and weights alone, not on the order in which responses arrive.
    """
    start, scoring = time.perf_counter(), 0.0
    arrived: list[list[Response]] = [[] for _ in prompts]
    done: dict[int, ScoredGroup] = {}
    for responses in rollouts.sample(
        make_requests(prompts, plan),
        temperature=plan.temperature,
        max_tokens=plan.max_tokens,
        stop=plan.stop,
        cut=plan.cut,
        ignore_eos=plan.ignore_eos,
    ):
        began = time.perf_counter()
        complete = []
        for response in responses:
            index = response.key // plan.num_samples
            arrived[index].append(response)
            if len(arrived[index]) == plan.num_samples:
                complete.append(index)
        groups = [
            Group(prompts[i], sorted(arrived[i], key=lambda response: response.key))
            for i in complete
        ]
        done.update(zip(complete, score(groups, plan, scorer), strict=True))
        scoring += time.perf_counter() - began
    assert len(done) == len(prompts), f"{len(prompts) - len(done)} groups are incomplete"
    elapsed = time.perf_counter() - start
    return Collected([done[i] for i in range(len(prompts))], elapsed - scoring, scoring)


def make_requests(prompts: Sequence[Prompt], plan: SamplePlan) -> list[SampleRequest]:
    """G requests for each prompt, never one request for G: a child of such a request cannot be made
    again alone.
    """
    requests = []
    drawn: Counter[str] = (
        Counter()
    )  # a step may draw a problem twice, and its second group must not repeat the first
    for i, prompt in enumerate(prompts):
        first = drawn[prompt.problem.id] * plan.num_samples
        drawn[prompt.problem.id] += 1
        for j in range(plan.num_samples):
            seed = None
            if plan.seed is not None and plan.temperature > 0:
                seed = sample_seed(plan.seed, plan.step, prompt.problem.id, first + j)
            requests.append(SampleRequest(i * plan.num_samples + j, prompt.token_ids, seed))
    return requests


def score(groups: Sequence[Group], plan: SamplePlan, scorer: GroupScorer) -> list[ScoredGroup]:
    """Groups with the scores of their responses."""
    samples = [
        [_sample(group.prompt, response, plan) for response in group.responses] for group in groups
    ]
    return [ScoredGroup(*pair) for pair in zip(groups, scorer.score_groups(samples), strict=True)]


def _sample(prompt: Prompt, response: Response, plan: SamplePlan) -> Sample:
    return Sample(
        response=response.text,
        gold=prompt.problem.answer,
        question=prompt.problem.question,
        data_source=prompt.problem.source,
        prompt_opens_think=plan.prompt_opens_think,
        truncated=response.truncated,
        num_tokens=len(response.token_ids),
        max_tokens=plan.max_tokens,
    )
