"""Evaluations of a run: both ways of sampling at once, with the numbers that each has alone."""

from __future__ import annotations

from data.types import Problem
from grpo.config.schema import EvaluationConfig
from grpo.evaluation.evaluate import EVALUATION_STEP, evaluate
from grpo.evaluation.metrics import evaluation_metrics
from grpo.rollout.scoring import sample_groups
from grpo.types import Prompt, Response, SamplingSettings
from rewards import Component, Scorer

PROMPTS = [
    Prompt(Problem(id=f"p{i}", question=f"{i}+1?", answer=str(i + 1), source="s"), "q", [i])
    for i in range(5)
]
TRAINING = SamplingSettings(num_samples=2, temperature=0.7, max_tokens=30, stop=("x",), seed=3)


class Engine:
    """Answers by prompt, seed and settings alone, the last request first."""

    def __init__(self):
        self.waiting, self.drains, self.settings = [], 0, []

    def submit(self, requests, settings):
        self.waiting += [(request, settings) for request in requests]
        self.settings.append(settings)

    def completed(self):
        self.drains += 1
        assert len({request.key for request, _ in self.waiting}) == len(self.waiting)
        while self.waiting:
            lot = [self.waiting.pop() for _ in range(min(7, len(self.waiting)))]
            yield [self.answer(request, settings) for request, settings in lot]

    def answer(self, request, settings):
        luck = (request.seed or 0) % 3
        text = rf"\boxed{{{request.prompt_token_ids[0] + (1 if luck else 2)}}}"
        size = 1 + luck + (20 if settings.temperature == 0 else 0)
        return Response(request.key, [1] * size, text, [0.0] * size, "stop", 0, request.seed)


def test_both_ways_are_sampled_together_and_have_the_numbers_that_they_have_alone():
    engine, scorer = Engine(), Scorer({"accuracy": Component(weight=1.0)})
    config = EvaluationConfig(temperature=0.9, top_p=0.8, max_response_tokens=50)
    found = evaluate(config, TRAINING, PROMPTS, engine, scorer, 4)
    assert engine.drains == 1
    assert [(way.num_samples, way.temperature, way.top_p) for way in engine.settings] == [
        (4, 0.9, 0.8),
        (1, 0.0, 1.0),
    ]
    assert {(way.max_tokens, way.stop, way.seed) for way in engine.settings} == {(50, ("x",), 3)}
    assert [evaluation.name for evaluation in found] == ["sampled", "greedy"]
    for evaluation, way in zip(found, engine.settings, strict=True):
        alone = sample_groups(PROMPTS, way, EVALUATION_STEP, Engine(), scorer).groups
        assert evaluation.metrics == evaluation_metrics(alone)
        assert [g.group.prompt.problem.id for g in evaluation.groups] == [
            "p0",
            "p1",
            "p2",
            "p3",
            "p4",
        ]
        assert [[r.seed for r in g.group.responses] for g in evaluation.groups] == [
            [r.seed for r in g.group.responses] for g in alone
        ]
    sampled, greedy = found
    assert 0 < sampled.metrics["accuracy"] < 1  # else equal numbers would say little
    # without seeds every greedy answer is wrong, and 21 tokens long
    assert (greedy.metrics["accuracy"], greedy.metrics["response_length"]) == (0, 21)
