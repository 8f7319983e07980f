"""Held-out evaluation: the same engines, template and grader as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grpo.config import TrainConfig
from grpo.evaluation.metrics import evaluation_metrics
from grpo.rollout.scoring import GroupScorer, Rollouts, SamplePlan, sample_groups
from grpo.types import Prompt, ScoredGroup

EVALUATION_STEP = (
    -1
)  # held-out samples have seeds of their own, the same at every evaluation of a run


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of one way of sampling a held-out set."""

    name: str  # "sampled" or "greedy"
    metrics: dict[str, float]
    groups: list[ScoredGroup]


def evaluate(
    config: TrainConfig,
    prompts: Sequence[Prompt],
    rollouts: Rollouts,
    scorer: GroupScorer,
    num_samples: int,
) -> list[Evaluation]:
    """Sample every prompt `num_samples` times at `evaluation.temperature`, and once greedily."""
    ways = {"sampled": (num_samples, config.evaluation.temperature), "greedy": (1, 0.0)}
    evaluations = []
    for name, (count, temperature) in ways.items():
        plan = SamplePlan(
            num_samples=count,
            temperature=temperature,
            max_tokens=config.evaluation.max_response_tokens or config.sampling.max_response_tokens,
            stop=config.template.stop,
            cut=config.template.cut,
            seed=config.seed if config.sampling.seeded else None,
            step=EVALUATION_STEP,
            prompt_opens_think=config.template.opens_think,
        )
        groups = sample_groups(prompts, plan, rollouts, scorer).groups
        evaluations.append(Evaluation(name, evaluation_metrics(groups), groups))
    return evaluations
