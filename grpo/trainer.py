"""The loop. Draw, sample, score, learn, hand over the weights, record: GRPO in one page.

A step is a transaction: nothing of it counts before its record is written and its state is
    committed. Every sample
carries the version of the weights that made it, and can be made again from its seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from grpo.algorithm.advantages import group_advantages
from grpo.algorithm.learning_rate import learning_rate
from grpo.common.errors import UnhealthyError, UserError
from grpo.config.schema import TrainConfig
from grpo.evaluation import metrics
from grpo.evaluation.evaluate import evaluate
from grpo.rollout.batch_rules import fill_batch
from grpo.rollout.scoring import GroupScorer
from grpo.rollout.strategies import STRATEGIES
from grpo.runtime.protocols import Learner, Rollouts
from grpo.state import Evaluations, TrainState
from grpo.tracking import Run
from grpo.types import Advantage, Prompt, SamplingSettings, ScoredGroup, StepSettings, TrainSample


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of, besides its recipe and its state."""

    held_out: Sequence[Prompt]
    sampling: SamplingSettings
    rollouts: Rollouts
    learner: Learner
    scorer: GroupScorer
    run: Run
    commit: Callable[[dict[str, Any]], None]  # takes the state of every finished step


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; evaluations by name, `sampled` and `greedy`."""

    base: Evaluations
    final: Evaluations
    steps: int
    generated_tokens: int


def train(config: TrainConfig, state: TrainState, parts: Parts) -> Outcome:
    """Pure on-policy GRPO from `state`, with evaluations before, between and after."""
    learner, rollouts, run = parts.learner, parts.rollouts, parts.run
    sample = STRATEGIES[config.rollout.strategy]
    learner.connect(rollouts)
    hand_over(config, learner, state.weight_version, first=True)
    if not state.base:
        state.note_evaluation(_evaluate(config, state, parts))

    while state.step < config.trainer.max_steps:
        clock = _Clock()
        settings = step_settings(config, state.step)
        batch = fill_batch(
            config.batch,
            sample,
            state.stream,
            parts.sampling,
            state.step + 1,
            rollouts,
            parts.scorer,
        )
        clock.add("sample", batch.sample_seconds)
        clock.add("score", batch.score_seconds)

        samples = make_samples(batch.groups, state.weight_version, batch.counts_only)
        learner.prepare(samples, settings)
        advantages_PG = advantages_of(config, batch.groups)
        advantages = token_advantages(advantages_PG, batch.groups, samples)
        stats = learner.optimise(advantages, settings)
        health = check_health(config, stats, state)
        clock.lap("learn")
        sampled_by, state.weight_version = state.weight_version, state.weight_version + 1
        hand_over(config, learner, state.weight_version)
        clock.lap("transfer")

        state.step += 1
        numbers = metrics.rollout_metrics(batch.sampled) | batch.numbers
        state.generated_tokens += int(numbers["generated_tokens"])
        rows = metrics.rollout_rows(state.step, batch.groups, advantages_PG)
        run.log_rollouts(state.step, rows, metrics.rollout_arrays(batch.groups))
        run.log_step(
            {
                "step": state.step,
                "stage": state.stage,
                **numbers,
                **stats,
                **health,
                "weight_version": sampled_by,
                **clock.report(numbers),
            }
        )
        state.stream.update(metrics.success_rates(batch.sampled))
        if _evaluation_is_due(config, state.step):
            state.note_evaluation(_evaluate(config, state, parts))
        parts.commit(state.state_dict())

    final = _evaluate(config, state, parts)
    return Outcome(state.base, final, state.step, state.generated_tokens)


def hand_over(config: TrainConfig, learner: Learner, version: int, *, first: bool = False) -> None:
    """Push the weights, and prove every so often that the engines compute with them.

    The first hand-over of a run is always proven, so that a model that cannot be is refused at the
    start.

    Raises:
        UserError: `health.weight_check_every` asks for a proof that this model or layout has none
            of.
        UnhealthyError: an engine holds other weights than the learner. Nothing is saved then.
    """
    every = config.health.weight_check_every
    report = learner.push_weights(version, check=bool(every) and (first or version % every == 0))
    if report is None:
        return
    if report.differing:
        raise UnhealthyError(
            f"engines hold other weights than the learner: {shown(report.differing)}. Every "
            "sample from here on would be of a policy that nobody trains"
        )
    if report.unproven:
        raise UserError(
            f"health.weight_check_every={every}: the weights of this model cannot be compared "
            f"between learner and engine: {shown(report.unproven)}. Set it to 0 to run without "
            "the check"
        )


def shown(texts: Sequence[str], limit: int = 5) -> str:
    """The first of some texts, and how many more there are."""
    more = f"; and {len(texts) - limit} more" if len(texts) > limit else ""
    return "; ".join(texts[:limit]) + more


def step_settings(config: TrainConfig, step: int) -> StepSettings:
    """What the learner needs to know of step `step` (0-based)."""
    optimizer, algorithm = config.optimizer, config.algorithm
    return StepSettings(
        lr=learning_rate(
            step,
            peak=optimizer.lr,
            max_steps=config.trainer.max_steps,
            warmup_steps=optimizer.warmup_steps,
            schedule=optimizer.schedule,
            final_share=optimizer.final_lr_share,
        ),
        temperature=config.sampling.temperature,
        clip_low=algorithm.clip_low,
        clip_high=algorithm.clip_high,
        kl_coef=algorithm.kl_coef,
        entropy_coef=algorithm.entropy_coef,
        aggregation_constant=config.sampling.max_response_tokens,
        num_updates=config.batch.num_updates,
    )


def check_health(
    config: TrainConfig, stats: Mapping[str, float], state: TrainState
) -> dict[str, float]:
    """Count steps in a row whose loss, gradient or log-probs are not finite.

    Raises:
        UnhealthyError: there were `health.max_bad_steps` of them, or a weight is not finite. No
            later step can mend that. Nothing is saved then.
    """
    broken = [key for key, value in stats.items() if not math.isfinite(value)]
    if "weight_max" in broken:
        raise UnhealthyError(
            f"step {state.step + 1}: a weight of the policy is not finite "
            f"(weight_max={stats['weight_max']}), so nothing that follows can be right; no policy "
            "is saved. Lower optimizer.lr, or see whether model.path itself has such weights"
        )
    state.bad_steps = state.bad_steps + 1 if broken else 0
    if state.bad_steps >= config.health.max_bad_steps:
        told = ", ".join(f"{key}={stats[key]}" for key in broken)
        raise UnhealthyError(
            f"step {state.step + 1}: {told}; that is bad step {state.bad_steps} in a row "
            f"(health.max_bad_steps={config.health.max_bad_steps}). Lower optimizer.lr, or look at "
            "the last rows of metrics.jsonl"
        )
    return {"bad_steps": float(state.bad_steps)}


def make_samples(
    groups: Sequence[ScoredGroup], weight_version: int, counts_only: Sequence[bool] | None = None
) -> list[TrainSample]:
    """One training sample for each response, group by group.

    Args:
        counts_only: [P] groups that were dropped and still stand in denominators. None: none.

    Raises:
        ValueError: a token was made by other weights than those of this step.
    """
    samples = []
    for scored, counts in zip(groups, counts_only or [False] * len(groups), strict=True):
        for response in scored.group.responses:
            sample = TrainSample.from_turns([scored.group.prompt, response]).without_texts()
            versions = sample.weight_version_T[sample.loss_mask_T]
            if (versions != weight_version).any():
                raise ValueError(
                    f"a sample of weights {sorted(set(versions.tolist()))} came in step of weights "
                    f"{weight_version}; on-policy training cannot use it"
                )
            samples.append(replace(sample, counts_only=counts))
    return samples


def advantages_of(config: TrainConfig, groups: Sequence[ScoredGroup]) -> list[list[float]]:
    """[P][G] advantages: how much better each response is than its siblings."""
    rewards_PG = torch.tensor(
        [[score.total for score in group.scores] for group in groups], dtype=torch.float64
    )
    graded_PG = torch.tensor([[score.graded for score in group.scores] for group in groups])
    advantages_PG = group_advantages(
        rewards_PG,
        graded_PG=graded_PG,
        std=config.algorithm.advantage_std,
        eps=config.algorithm.advantage_eps,
    )
    return [[float(a) for a in row_G] for row_G in advantages_PG]


def token_advantages(
    advantages_PG: Sequence[Sequence[float]],
    groups: Sequence[ScoredGroup],
    samples: Sequence[TrainSample],
) -> list[Advantage]:
    """[B] advantages as the learner takes them: one number each, or one a token where rewards score
    tokens.

    Token scores, such as a repetition penalty, come on top of what the whole response earned.
    """
    flat = [advantage for row_G in advantages_PG for advantage in row_G]
    scores = [score for group in groups for score in group.scores]
    advantages: list[Advantage] = []
    for advantage, score, sample in zip(flat, scores, samples, strict=True):
        if score.token_scores is None:
            advantages.append(advantage)
            continue
        advantage_T = np.zeros(sample.num_tokens, np.float32)
        advantage_T[sample.loss_mask_T] = advantage + np.array(score.token_scores, np.float32)
        advantages.append(advantage_T)
    return advantages


def _evaluation_is_due(config: TrainConfig, step: int) -> bool:
    every = config.evaluation.every
    return bool(every) and step % every == 0 and step < config.trainer.max_steps


def _evaluate(config: TrainConfig, state: TrainState, parts: Parts) -> Evaluations:
    """Evaluate the present weights, in full before and after the run, with one sample a problem in
    between.
    """
    whole = state.step in (0, config.trainer.max_steps)
    prompts = parts.held_out if whole else parts.held_out[: config.evaluation.interim_problems]
    num_samples = config.evaluation.num_samples if whole else 1
    parts.run.status(f"evaluating {len(prompts)} held-out problems")
    evaluations = evaluate(
        config, parts.sampling, prompts, parts.rollouts, parts.scorer, num_samples
    )
    for evaluation in evaluations:
        rows = metrics.sample_rows(state.step, evaluation.groups, limit=64)
        parts.run.log_evaluation(state.step, evaluation.name, evaluation.metrics, rows)
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
