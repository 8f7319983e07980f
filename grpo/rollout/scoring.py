"""Prompts to requests, responses to scored groups. A group is scored while others are still
generated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from grpo.runtime.protocols import Rollouts
from grpo.types import (
    Group,
    Prompt,
    Response,
    SampleRequest,
    SamplingSettings,
    ScoredGroup,
    sample_seed,
)
from rewards import Sample, Score


class GroupScorer(Protocol):
    """`rewards.Scorer`, or whatever scores groups the same way."""

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of all responses, group by group."""

    @property
    def needs_tokens(self) -> bool:
        """Does a reward look at token ids?"""


@dataclass(slots=True)
class Collected:
    """Scored groups in the order of the prompts, and where the time went."""

    groups: list[ScoredGroup] = field(default_factory=list)
    sample_seconds: float = 0.0
    score_seconds: float = 0.0


def sample_groups(
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    step: int,
    rollouts: Rollouts,
    scorer: GroupScorer,
    drawn: Counter[str] | None = None,
    finished: Callable[[Sequence[ScoredGroup]], None] | None = None,
) -> Collected:
    """Sample G responses to every prompt and score each group as soon as it is complete.

    The result depends on seeds and weights alone, not on the order in which responses arrive.

    Args:
        drawn: groups that this step already has of a problem, by its id; brought up to date. A
            refill passes it on, so that a problem which comes again gets other samples.
        finished: is told of groups as they are complete, in any order.
    """
    return sample_ways(prompts, [settings], step, rollouts, scorer, drawn, finished)


def sample_ways(
    prompts: Sequence[Prompt],
    ways: Sequence[SamplingSettings],
    step: int,
    rollouts: Rollouts,
    scorer: GroupScorer,
    drawn: Counter[str] | None = None,
    finished: Callable[[Sequence[ScoredGroup]], None] | None = None,
) -> Collected:
    """As `sample_groups`, in several ways at once: the engines wait for the longest response of
    all ways together, and not once for each.

    Args:
        ways: that every prompt is sampled in. A sample is the same as in a call of its own.

    Returns:
        The groups of the first way in the order of the prompts, then those of the next.
    """
    start, scoring = time.perf_counter(), 0.0
    asked = [(prompt, way) for way in ways for prompt in prompts]
    arrived: list[list[Response]] = [[] for _ in asked]
    done: dict[int, ScoredGroup] = {}
    group_of: list[int] = []  # by key of a request
    for number, way in enumerate(ways):
        requests = make_requests(prompts, way, step, drawn)
        keyed = [replace(r, key=len(group_of) + r.key) for r in requests]
        group_of += [number * len(prompts) + r.key // way.num_samples for r in requests]
        rollouts.submit(keyed, way)
    for responses in rollouts.completed():
        began = time.perf_counter()
        complete = []
        for response in responses:
            index = group_of[response.key]
            arrived[index].append(response)
            if len(arrived[index]) == asked[index][1].num_samples:
                complete.append(index)
        groups = [
            Group(asked[i][0], sorted(arrived[i], key=lambda response: response.key))
            for i in complete
        ]
        samples = [
            samples_of(group, asked[i][1], scorer)
            for i, group in zip(complete, groups, strict=True)
        ]
        for i, group, own in zip(complete, groups, scorer.score_groups(samples), strict=True):
            done[i] = ScoredGroup(group, own)
        if finished is not None and complete:
            finished([done[i] for i in complete])
        scoring += time.perf_counter() - began
    assert len(done) == len(asked), f"{len(asked) - len(done)} groups are incomplete"
    elapsed = time.perf_counter() - start
    return Collected([done[i] for i in range(len(asked))], elapsed - scoring, scoring)


def make_requests(
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    step: int,
    drawn: Counter[str] | None = None,
) -> list[SampleRequest]:
    """G requests for each prompt, never one for all G: a child of such a request cannot be made
    again alone.
    """
    requests = []
    # A step may draw a problem twice, and its second group must not repeat the first.
    drawn = Counter() if drawn is None else drawn
    for i, prompt in enumerate(prompts):
        name = prompt.problem.id
        first = drawn[name] * settings.num_samples
        drawn[name] += 1
        for j in range(settings.num_samples):
            seed = None
            if settings.seed is not None and settings.temperature > 0:
                seed = sample_seed(settings.seed, step, name, first + j)
            requests.append(SampleRequest(i * settings.num_samples + j, prompt.token_ids, seed))
    return requests


def score(
    groups: Sequence[Group], settings: SamplingSettings, scorer: GroupScorer
) -> list[ScoredGroup]:
    """Groups with the scores of their responses."""
    scores = scorer.score_groups([samples_of(group, settings, scorer) for group in groups])
    return [ScoredGroup(group, own) for group, own in zip(groups, scores, strict=True)]


def samples_of(group: Group, settings: SamplingSettings, scorer: GroupScorer) -> list[Sample]:
    """The responses of a group as rewards look at them."""
    problem = group.prompt.problem
    return [
        Sample(
            response=response.text,
            gold=problem.answer,
            question=problem.question,
            data_source=problem.source,
            reward=problem.reward or "",
            prompt_opens_think=settings.prompt_opens_think,
            truncated=response.truncated,
            num_tokens=len(response.token_ids),
            max_tokens=settings.max_tokens,
            token_ids=tuple(response.token_ids) if scorer.needs_tokens else (),
        )
        for response in group.responses
    ]
