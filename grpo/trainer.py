"""The loop. Draw, sample, score, learn, hand over the weights, record: GRPO in one page.

A step is a transaction: nothing of it counts before its record is written. Every sample of it was
made by the weights of the step before (`weight_version`), and can be made again from its seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from grpo.algorithm.advantages import group_advantages
from grpo.config import TrainConfig
from grpo.evaluation import metrics
from grpo.evaluation.evaluate import evaluate
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import GroupScorer, SamplePlan, sample_groups
from grpo.runtime.ray.actors import LearnerGroup, RolloutPool
from grpo.tracking import Run
from grpo.types import Batch, Prompt, ScoredGroup, TrainSample


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; evaluations by name, `sampled` and `greedy`."""

    base: dict[str, dict[str, float]]
    final: dict[str, dict[str, float]]
    steps: int
    generated_tokens: int


def train(
    config: TrainConfig,
    stream: PromptStream,
    held_out: Sequence[Prompt],
    rollouts: RolloutPool,
    learner: LearnerGroup,
    scorer: GroupScorer,
    run: Run,
) -> Outcome:
    """Pure on-policy GRPO from the weights that the learner holds, with evaluations before, between
    and after.
    """
    learner.connect(rollouts)
    learner.push_weights(version=0)
    base = _evaluate(config, 0, held_out, rollouts, scorer, run)
    generated_tokens = 0

    for step in range(1, config.trainer.max_steps + 1):
        clock = _Clock()
        drawn = stream.next(config.batch.num_prompts)
        collected = sample_groups(drawn, _plan(config, step), rollouts, scorer)
        clock.add("sample", collected.sample_seconds)
        clock.add("score", collected.score_seconds)

        batch, advantages_PG = make_batch(config, collected.groups, weight_version=step - 1)
        stats = learner.update(batch, step - 1)
        clock.lap("learn")
        learner.push_weights(version=step)
        clock.lap("transfer")

        numbers = metrics.rollout_metrics(collected.groups)
        generated_tokens += int(numbers["generated_tokens"])
        run.log_rollouts(step, metrics.rollout_rows(step, collected.groups, advantages_PG))
        run.log_step(
            {
                "step": step,
                "stage": 1,
                **numbers,
                **stats,
                "weight_version": step - 1,
                **clock.report(numbers),
            }
        )
        stream.update(metrics.success_rates(collected.groups))

        if (
            config.evaluation.every
            and step % config.evaluation.every == 0
            and step < config.trainer.max_steps
        ):
            _evaluate(
                config, step, held_out[: config.evaluation.interim_problems], rollouts, scorer, run
            )

    final = _evaluate(config, config.trainer.max_steps, held_out, rollouts, scorer, run)
    return Outcome(base, final, config.trainer.max_steps, generated_tokens)


def make_batch(
    config: TrainConfig, groups: Sequence[ScoredGroup], weight_version: int
) -> tuple[Batch, list[list[float]]]:
    """Group-relative advantages, and with them what the learner needs. Samples of another version
    are refused.
    """
    rewards_PG = torch.tensor(
        [[score.total for score in group.scores] for group in groups], dtype=torch.float64
    )
    advantages_PG: list[list[float]] = group_advantages(
        rewards_PG, std=config.algorithm.advantage_std, eps=config.algorithm.advantage_eps
    ).tolist()
    samples = []
    for group, advantages_G in zip(groups, advantages_PG, strict=True):
        for response, advantage in zip(group.group.responses, advantages_G, strict=True):
            assert response.weight_version == weight_version, (
                "a sample of other weights than those of this step"
            )
            samples.append(
                TrainSample(
                    group.group.prompt.token_ids, response.token_ids, response.logprobs, advantage
                )
            )
    return Batch(samples, config.sampling.temperature, weight_version), advantages_PG


def _plan(config: TrainConfig, step: int) -> SamplePlan:
    return SamplePlan(
        num_samples=config.batch.num_samples,
        temperature=config.sampling.temperature,
        max_tokens=config.sampling.max_response_tokens,
        stop=config.template.stop,
        cut=config.template.cut,
        seed=config.seed if config.sampling.seeded else None,
        step=step,
        prompt_opens_think=config.template.opens_think,
    )


def _evaluate(
    config: TrainConfig,
    step: int,
    prompts: Sequence[Prompt],
    rollouts: RolloutPool,
    scorer: GroupScorer,
    run: Run,
) -> dict[str, dict[str, float]]:
    """Evaluate the weights of `step`, in full before and after the run, with one sample a problem
    in between.
    """
    run.status(f"evaluating {len(prompts)} held-out problems")
    whole = step in (0, config.trainer.max_steps)
    evaluations = evaluate(
        config, prompts, rollouts, scorer, config.evaluation.num_samples if whole else 1
    )
    for evaluation in evaluations:
        run.log_evaluation(
            step,
            evaluation.name,
            evaluation.metrics,
            metrics.sample_rows(step, evaluation.groups, limit=64),
        )
    return {evaluation.name: evaluation.metrics for evaluation in evaluations}


class _Clock:
    """Where the seconds of a step go; what no phase claims is `idle`."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def add(self, phase: str, seconds: float) -> None:
        """Seconds that the phase measured itself, up to now."""
        self.seconds[phase] = seconds
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Everything since the last call belongs to `phase`."""
        self.add(phase, time.perf_counter() - self.last)

    def report(self, numbers: dict[str, float]) -> dict[str, float]:
        """`seconds/...` keys, and generated tokens per second of the whole step."""
        total = time.perf_counter() - self.start
        idle = max(0.0, total - sum(self.seconds.values()))
        phases = {f"seconds/{phase}": seconds for phase, seconds in self.seconds.items()}
        return {
            **phases,
            "seconds/idle": idle,
            "tokens_per_second": numbers["generated_tokens"] / total,
        }
