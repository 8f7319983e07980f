"""Partial rollouts (Kimi k1.5, arXiv:2501.12599, section 2.6.2): no step waits for a long response.

A step generates at most `rollout.segment_tokens` of each response. What is unfinished then goes on
in the next step, under the new weights, as a prompt that ends in what there is: its cache is
computed again, and every token keeps the log-prob and the version of the weights that chose it. A
step trains on the first groups that are whole, in the order in which they were drawn. More groups
are in flight than a step needs, so that usually enough of them are.

Which groups a step gets depends on lengths alone, and not on time, so a run can be repeated.
"""

from __future__ import annotations

import time
from collections import Counter

from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import Collected, GroupScorer, score
from grpo.rollout.strategies.base import STRATEGIES
from grpo.runtime.protocols import Rollouts
from grpo.types import BegunGroup, Group, SampleRequest, SamplingSettings, sample_seed


@STRATEGIES.register("partial")
def partial(
    stream: PromptStream,
    num_prompts: int,
    settings: SamplingSettings,
    step: int,
    rollouts: Rollouts,
    scorer: GroupScorer,
    drawn: Counter[str],
) -> Collected:
    """Go on with what was begun, begin new groups, and score the first that are whole.

    Rounds of `segment_tokens` are repeated until there are `num_prompts` of them.
    """
    assert settings.segment_tokens is not None, "the recipe was checked"
    start = time.perf_counter()
    begun = stream.begun
    missing = (settings.prompts_in_flight or 2 * num_prompts) - len(begun)
    for prompt in stream.next(max(missing, 0)):
        begun.append(BegunGroup(prompt, stream.num_begun, [None] * settings.num_samples))
        stream.num_begun += 1
    segment = 0
    while sum(group.is_whole for group in begun) < num_prompts:
        requests = segments(begun, settings, step, segment)
        rollouts.submit(requests, settings)
        for responses in rollouts.completed():
            for response in responses:
                index, j = divmod(response.key, settings.num_samples)
                begun[index].responses[j] = response
        segment += 1
    whole = [group for group in begun if group.is_whole][:num_prompts]
    stream.begun = [group for group in begun if group not in whole]
    sampled = time.perf_counter()
    groups = score(
        [Group(group.prompt, [r for r in group.responses if r is not None]) for group in whole],
        settings,
        scorer,
    )
    return Collected(groups, sampled - start, time.perf_counter() - sampled)


def segments(
    begun: list[BegunGroup], settings: SamplingSettings, step: int, segment: int
) -> list[SampleRequest]:
    """A request for the next segment of every unfinished response.

    Each has a seed of its own: two segments of one response, two groups of one problem, and the
    rounds of one step must not repeat each other's draws.
    """
    requests = []
    for i, group in enumerate(begun):
        name = f"{group.prompt.problem.id}/{group.number}/{segment}"
        for j, response in enumerate(group.responses):
            if response is not None and response.finish_reason != "segment":
                continue
            seed = None if settings.seed is None else sample_seed(settings.seed, step, name, j)
            key = i * settings.num_samples + j
            requests.append(SampleRequest(key, group.prompt.token_ids, seed, response))
    return requests
