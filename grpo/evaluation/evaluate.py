"""Held-out evaluation: the same engines, template and grader as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grpo.config.schema import EvaluationConfig
from grpo.evaluation.metrics import evaluation_metrics
from grpo.evaluation.probes import PROBES
from grpo.rollout.scoring import GroupScorer, sample_groups
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
    """Sample every prompt `num_samples` times at `evaluation.temperature`, and once greedily.

    Args:
        settings: those of training; number, temperature, top_p and length are replaced by those of
            evaluations.
    """
    ways = {
        "sampled": (num_samples, config.temperature, config.top_p),
        "greedy": (1, 0.0, 1.0),
    }
    limit = config.max_response_tokens or settings.max_tokens
    evaluations = []
    for name, (count, temperature, top_p) in ways.items():
        way = SamplingSettings(
            num_samples=count,
            temperature=temperature,
            top_p=top_p,
            max_tokens=limit,
            stop=settings.stop,
            cut=settings.cut,
            seed=settings.seed,
            prompt_opens_think=settings.prompt_opens_think,
        )
        groups = sample_groups(prompts, way, EVALUATION_STEP, rollouts, scorer).groups
        metrics = evaluation_metrics(groups)
        for probe in config.probes:
            metrics |= PROBES[probe](groups)
        evaluations.append(Evaluation(name, metrics, groups))
    return evaluations
