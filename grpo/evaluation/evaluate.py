"""Held-out evaluation: the same engines, template and grader as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grpo.config.schema import EvaluationConfig
from grpo.evaluation.metrics import evaluation_metrics
from grpo.evaluation.probes import PROBES
from grpo.rollout.scoring import GroupScorer, sample_ways
from grpo.runtime.protocols import Rollouts
from grpo.types import Prompt, SamplingSettings, ScoredGroup

# Held-out samples have seeds of their own, the same at every evaluation of a run.
EVALUATION_STEP = -1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of one way of sampling a held-out set."""

    name: str  # "sampled" or "greedy"
    metrics: dict[str, float]
    groups: list[ScoredGroup]


def evaluate(
    config: EvaluationConfig,
    settings: SamplingSettings,
    prompts: Sequence[Prompt],
    rollouts: Rollouts,
    scorer: GroupScorer,
    num_samples: int,
) -> list[Evaluation]:
    """Sample every prompt `num_samples` times at `evaluation.temperature`, and once greedily. Both
    go to the engines together, because training waits for them.

    Args:
        settings: those of training; number, temperature, top_p and length are replaced by those of
            evaluations.
    """
    sampled = SamplingSettings(
        num_samples=num_samples,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_response_tokens or settings.max_tokens,
        stop=settings.stop,
        cut=settings.cut,
        seed=settings.seed,
        prompt_opens_think=settings.prompt_opens_think,
    )
    greedy = replace(sampled, num_samples=1, temperature=0.0, top_p=1.0)
    ways = {"sampled": sampled, "greedy": greedy}
    found = sample_ways(prompts, [*ways.values()], EVALUATION_STEP, rollouts, scorer).groups
    evaluations = []
    for number, name in enumerate(ways):
        groups = found[number * len(prompts) : (number + 1) * len(prompts)]
        metrics = evaluation_metrics(groups)
        for probe in config.probes:
            metrics |= PROBES[probe](groups)
        evaluations.append(Evaluation(name, metrics, groups))
    return evaluations
