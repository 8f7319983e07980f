"""Partial rollouts: which groups a step gets, what goes on, and stop strings between segments."""

from __future__ import annotations

from collections import Counter

import pytest

from data.types import Problem
from grpo.config import load_config
from grpo.rollout.prompts import PromptStream
from grpo.rollout.strategies.partial import partial
from grpo.rollout.vllm.worker import joined, sampling_params
from grpo.types import Prompt, Response, SamplingSettings
from rewards import Score

SETTINGS = SamplingSettings(
    num_samples=2, temperature=1.0, max_tokens=30, seed=1, segment_tokens=10, prompts_in_flight=3
)
LENGTHS = {"a": 25, "b": 8, "c": 12, "d": 5, "e": 30}


class Engines:
    """Responses of a known length for each problem; tokens are numbers from 0 on."""

    def __init__(self, version=0):
        self.version, self.requests, self.seeds = version, [], []

    def submit(self, requests, settings):
        self.requests = requests
        self.seeds += [request.seed for request in requests]

    def completed(self):
        for request in self.requests:
            name = chr(request.prompt_token_ids[0])
            before = [] if request.begun is None else request.begun.token_ids
            until = min(len(before) + 10, LENGTHS[name])
            reason = "stop" if until == LENGTHS[name] else "segment"
            spans = [] if request.begun is None else list(request.begun.version_spans)
            spans.append((len(before), until, self.version))
            yield [
                Response(request.key, list(range(until)), name, [-0.5] * until, reason,
                         self.version, request.seed, tuple(spans))
            ]  # fmt: skip


class Scorer:
    needs_tokens = False

    def score_groups(self, groups):
        return [[Score(1.0, {}) for _ in group] for group in groups]


def stream():
    prompts = [
        Prompt(Problem(id=name, question=name, answer="1", source="s"), name, [ord(name)])
        for name in LENGTHS
    ]
    found = PromptStream(load_config("tiny", []), prompts)
    order = iter("abcdeabcde")
    found.next = lambda count: [found.prompts[next(order)] for _ in range(count)]  # type: ignore[method-assign]
    return found


def step(prompts, number, engines, count=1):
    found = partial(prompts, count, SETTINGS, number, engines, Scorer(), Counter())
    return [(g.group.prompt.problem.id, len(g.group.responses[0].token_ids)) for g in found.groups]


def test_a_step_takes_the_first_whole_groups_and_the_others_go_on():
    prompts = stream()
    assert step(prompts, 1, Engines()) == [("b", 8)]
    assert [(g.prompt.problem.id, len(g.responses[0].token_ids)) for g in prompts.begun] == [
        ("a", 10),
        ("c", 10),
    ]
    assert step(prompts, 2, Engines(1)) == [("c", 12)]  # before d, which was drawn later
    assert [g.prompt.problem.id for g in prompts.begun] == ["a", "d"]


def test_rounds_are_repeated_until_there_are_enough_groups():
    assert step(stream(), 1, Engines(), count=3) == [("a", 25), ("b", 8), ("c", 12)]


def test_every_segment_has_a_seed_of_its_own():
    prompts, engines = stream(), Engines()
    for number in (1, 2, 3):
        step(prompts, number, engines)
    assert len(set(engines.seeds)) == len(engines.seeds) == 12  # d was whole before step 3


def test_what_was_begun_is_part_of_the_state():
    first, second = stream(), stream()
    step(first, 1, Engines())
    for _ in range(3):
        second.next(1)
    second.load_state_dict(first.state_dict())
    assert step(second, 2, Engines(1)) == step(first, 2, Engines(1))
    assert second.state_dict() == first.state_dict()


class Letters:
    """One character a token."""

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))


def tokens(text):
    return [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("before", "after", "reason", "expected"),
    [
        ("work</ans", "wer> and on", "length", ("work</answer>", "stop")),
        ("work</answe", "r>", "length", ("work</answer>", "stop")),
        ("work", " more</answer>", "stop", ("work more</answer>", "stop")),
        ("work</ans", "we go on", "length", ("work</answe go on", "length")),
    ],
)
def test_a_stop_string_between_two_segments_ends_the_response(before, after, reason, expected):
    found, text, why = joined(tokens(before), tokens(after), reason, ("</answer>",), Letters())
    assert (text, why) == expected and found == tokens(text)


def test_a_segment_is_never_longer_than_what_is_left():
    assert sampling_params(SETTINGS, 1, (0,), begun=0).max_tokens == 10
    assert sampling_params(SETTINGS, 1, (0,), begun=24).max_tokens == 6
