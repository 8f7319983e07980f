"""The loop. Draw, sample, score, learn, hand over the weights, record: GRPO in one page.

A step is a transaction: nothing of it counts before its record is written and its state is
committed. Every sample carries the version of the weights that made it, and can be made again from
its seed. What the verbs of the loop do in detail stands below it, in the order of the loop.

The points at which tests break a run (`fault`) do nothing in any other run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from grpo.algorithm.advantages import ADVANTAGES, AdvantageInputs, discounted_token_scores
from grpo.algorithm.controllers import adapted_entropy_coef, adapted_kl_coef
from grpo.algorithm.learning_rate import learning_rate
from grpo.batches import Batches
from grpo.common.errors import UnhealthyError, UserError
from grpo.common.faults import fault
from grpo.common.signals import held
from grpo.config.schema import RunConfig, TrainConfig
from grpo.evaluation import metrics
from grpo.evaluation.evaluate import evaluate
from grpo.rollout.journal import Journal
from grpo.rollout.scoring import GroupScorer
from grpo.runtime.protocols import Learner, Rollouts
from grpo.state import Evaluations, TrainState, best_value
from grpo.tracking import Run
from grpo.tracking.chain import Link, Quantity, digests_of
from grpo.types import (
    Advantage,
    Measured,
    Prompt,
    SamplingSettings,
    ScoredGroup,
    StepSettings,
    TrainSample,
)
from rewards import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of, besides its recipe and its state."""

    held_out: Sequence[Prompt]
    sampling: SamplingSettings
    rollouts: Rollouts
    learner: Learner
    scorer: GroupScorer
    run: Run
    journal: Journal  # of finished responses
    commit: Callable[[TrainState], None]  # of every finished step


def train(config: TrainConfig, state: TrainState, parts: Parts) -> None:
    """On-policy training from `state`, until the stage ends or the run does.

    Args:
        config: the recipe, with the settings of the stage.
        state: goes on. A switch to another stage is in `state.pending` then.
        parts: of the run.
    """
    learner, rollouts, run = parts.learner, parts.rollouts, parts.run
    learner.connect(rollouts)
    hand_over(config, learner, state.weight_version, first=True)
    if not state.base:
        state.base = evaluate_policy(config, state, parts, whole=True)
        best_value(state.base, config.checkpoint.best)  # a misspelt one is told before any step
        log_link(config, state, parts, {})
        parts.commit(state)  # and so is a disk that takes no checkpoint

    batches = Batches(
        config, state, parts.sampling, rollouts, parts.scorer, parts.journal, run.notice
    )
    while state.step < config.trainer.max_steps and state.pending is None:
        clock = _Clock()
        settings = step_settings(config, state.step, state.coefficients)
        fault("driver.sample", step=state.step + 1)
        batch = batches.next(clock)
        state.stream.update(metrics.success_rates(batch.sampled))

        with held():  # Ctrl-C and SIGTERM wait for the commit
            batches.begin_next()
            samples = make_samples(
                batch.groups,
                state.weight_version,
                batch.counts_only,
                oldest=oldest_version(config, state.weight_version),
                mask_truncated=config.algorithm.mask_truncated,
            )
            measured = learner.prepare(samples, settings, measure=needs_log_probs(config))
            advantages_PG = advantages_of(config, batch.groups, measured, settings.kl_coef)
            advantages = token_advantages(config, advantages_PG, batch.groups, samples)
            fault("driver.learn", step=state.step + 1)
            stats = learner.optimise(advantages, settings)
            with bad_batch_kept(parts.run, state.step + 1, batch.groups, advantages_PG, stats):
                health = check_health(config, stats, state)
            if is_due(config.algorithm.reference_refresh_every, state.step + 1):
                learner.refresh_reference()
            clock.lap("learn")
            batches.wait(clock)
            state.weight_version += 1
            fault("driver.transfer", step=state.step + 1)
            hand_over(config, learner, state.weight_version)
            clock.lap("transfer")

            state.step += 1
            numbers = metrics.rollout_metrics(batch.sampled) | batch.numbers
            state.generated_tokens += int(numbers["generated_tokens"])
            rows = metrics.rollout_rows(state.step, batch.groups, advantages_PG)
            arrays = metrics.rollout_arrays(batch.groups)
            run.log_rollouts(state.step, rows, arrays)
            fault("driver.record", step=state.step)
            record = {
                "step": state.step,
                "stage": state.stage + 1,
                **numbers,
                **stats,
                **health,
                **state.coefficients,
                "weight_version": int(samples[0].weight_version_T.max()),
                **staleness(samples, state.weight_version - 1),
                **clock.report(numbers),
                "seconds/generate": batch.generate_seconds,
            }
            run.log_step(record)
            log_link(config, state, parts, digests_of(rows, arrays, record))
            state.coefficients = next_coefficients(config, settings, stats)
            if (
                is_due(config.evaluation.every, state.step)
                and state.step < config.trainer.max_steps
            ):
                evaluations = evaluate_policy(config, state, parts, whole=False)
                state.note_evaluation(evaluations, config.checkpoint.best)
                record |= metrics.evaluation_keys(evaluations)
            state.pending = state.stages.observe(state.step, record)
            if state.pending is not None:
                run.log_switch(state.pending)
                batches.drop()
            parts.commit(state)


def log_link(
    config: TrainConfig, state: TrainState, parts: Parts, digests: Mapping[Quantity, str]
) -> None:
    """Add the finished step, or the beginning of the run, to the hash chain of the record.

    Weights are hashed as `tracking.hash_weights_every` says, and always at the beginning.
    """
    every = config.tracking.hash_weights_every
    found = parts.learner.fingerprint(with_weights=not state.step or is_due(every, state.step))
    link = Link.made(state.step, state.chain, digests, found.gradients, found.weights)
    parts.run.log_link(link)
    state.chain = link.chain


def hand_over(config: RunConfig, learner: Learner, version: int, *, first: bool = False) -> None:
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


def step_settings(
    config: TrainConfig, step: int, controlled: Mapping[str, float] | None = None
) -> StepSettings:
    """What the learner needs to know of step `step` (0-based).

    Args:
        controlled: coefficients that a controller moved, by name.
    """
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
        aggregation_constant=config.sampling.max_response_tokens,
        num_updates=config.batch.num_updates,
        group_size=config.batch.num_samples,
        **{
            "kl_coef": algorithm.kl_coef,
            "entropy_coef": algorithm.entropy_coef,
            **(controlled or {}),
        },
    )


def next_coefficients(
    config: TrainConfig, settings: StepSettings, stats: Mapping[str, float]
) -> dict[str, float]:
    """Coefficients of the next step that follow a target; none where the recipe has no targets."""
    algorithm, found = config.algorithm, {}
    if algorithm.kl_target is not None and math.isfinite(stats["kl"]):
        found["kl_coef"] = adapted_kl_coef(
            settings.kl_coef,
            stats["kl"],
            target=algorithm.kl_target,
            horizon=algorithm.kl_horizon,
            samples=config.batch.num_responses,
        )
    if algorithm.entropy_target is not None and math.isfinite(stats["entropy"]):
        found["entropy_coef"] = adapted_entropy_coef(
            settings.entropy_coef,
            stats["entropy"],
            target=algorithm.entropy_target,
            step=algorithm.entropy_coef_step,
            highest=algorithm.entropy_coef_max,
        )
    return found


def needs_log_probs(config: TrainConfig) -> bool:
    """Do advantages depend on what the learner measures before the update?"""
    return config.algorithm.needs_reference and config.algorithm.kl_in == "reward"


def check_health(
    config: TrainConfig, stats: Mapping[str, float], state: TrainState
) -> dict[str, float]:
    """Count steps in a row whose loss, gradient or log-probs are not finite, and look at the
    limits of `health`.

    Raises:
        UnhealthyError: there were `health.max_bad_steps` of them, or a weight is not finite. No
            later step can mend that. Nothing is saved then.
    """
    state.bad_steps = count_bad_steps(config, stats, state.step + 1, state.bad_steps)
    limits = {
        "max_logprob_gap": ("logprob_gap_mean", 1),
        "max_mismatch_kl": ("mismatch_kl", 1),
        "min_effective_share": ("effective_share", -1),
    }
    for setting, (key, sign) in limits.items():
        limit = getattr(config.health, setting)
        if limit is not None and sign * stats[key] > sign * limit:
            raise UnhealthyError(
                f"step {state.step + 1}: {key}={stats[key]:.4g}, and health.{setting}={limit}. "
                "Engine and learner disagree about the probabilities of the samples; docs/"
                "troubleshooting.md says what to look for"
            )
    return {"bad_steps": float(state.bad_steps)}


@contextmanager
def bad_batch_kept(
    run: Run,
    step: int,
    groups: Sequence[ScoredGroup],
    advantages_PG: Sequence[Sequence[float]],
    stats: Mapping[str, float],
) -> Iterator[None]:
    """A block that judges a step. The batch of a step that ends the run is written down, since no
    later step will record it, and a new start cuts back what was recorded after its checkpoint.

    Args:
        step: updates done with this one.
        groups, advantages_PG, stats: of the step.

    Raises:
        UnhealthyError: that of the block. Its message names the folder.
    """
    try:
        yield
    except UnhealthyError as error:
        rows = metrics.rollout_rows(step, groups, advantages_PG)
        arrays = metrics.rollout_arrays(groups)
        odd = [
            f"{row['problem_id']} with seed {row['seed']}"
            for row, logprobs in zip(rows, arrays["logprobs"], strict=True)
            if not all(map(math.isfinite, logprobs))
        ]
        told = str(error)
        if odd:
            told += f". The engine's own log-probs are not finite in {shown(odd)}"
        where = run.log_unhealthy(step, told, rows, arrays, stats)
        raise UnhealthyError(f"{told}. {where}") from None


def count_bad_steps(
    config: RunConfig, stats: Mapping[str, float], step: int, bad_steps: int
) -> int:
    """Steps in a row with a number that is not finite, after step `step`; `bad_steps` before it.

    Raises:
        UnhealthyError: there were `health.max_bad_steps` of them, or a weight is not finite.
    """
    broken = [key for key, value in stats.items() if not math.isfinite(value)]
    if "weight_max" in broken:
        raise UnhealthyError(
            f"step {step}: a weight of the policy is not finite "
            f"(weight_max={stats['weight_max']}), so nothing that follows can be right; no policy "
            "is saved. Lower optimizer.lr, or see whether model.path itself has such weights"
        )
    bad_steps = bad_steps + 1 if broken else 0
    if bad_steps >= config.health.max_bad_steps:
        told = ", ".join(f"{key}={stats[key]}" for key in broken)
        raise UnhealthyError(
            f"step {step}: {told}; that is bad step {bad_steps} in a row "
            f"(health.max_bad_steps={config.health.max_bad_steps}). Lower optimizer.lr, or look at "
            "the last rows of metrics.jsonl"
        )
    return bad_steps


def make_samples(
    groups: Sequence[ScoredGroup],
    weight_version: int,
    counts_only: Sequence[bool] | None = None,
    *,
    oldest: int | None = None,
    mask_truncated: bool = False,
) -> list[TrainSample]:
    """One training sample for each response, group by group.

    Args:
        weight_version: of the weights that are trained now.
        counts_only: [P] groups that were dropped and still stand in denominators. None: none.
        oldest: the oldest weights that may have made a token. None: those that are trained now.
        mask_truncated: responses that the length limit ended have no trained token.

    Raises:
        ValueError: a token was made by other weights.
    """
    oldest = weight_version if oldest is None else oldest
    samples = []
    for scored, counts in zip(groups, counts_only or [False] * len(groups), strict=True):
        for response in scored.group.responses:
            sample = TrainSample.from_turns([scored.group.prompt, response]).without_texts()
            versions = sample.weight_version_T[sample.loss_mask_T]
            if ((versions < oldest) | (versions > weight_version)).any():
                raise ValueError(
                    f"a sample of weights {sorted(set(versions.tolist()))} came in the step of "
                    f"weights {weight_version}, which can use those from {oldest} on"
                )
            if mask_truncated and response.truncated:
                sample = replace(sample, loss_mask_T=np.zeros_like(sample.loss_mask_T))
            samples.append(replace(sample, counts_only=counts))
    return samples


def oldest_version(config: TrainConfig, weight_version: int) -> int:
    """The oldest weights whose tokens a step may train on."""
    if config.rollout.segment_tokens is not None:
        return 0  # a response goes on for as many steps as it has segments
    return weight_version - config.rollout.max_staleness


def staleness(samples: Sequence[TrainSample], weight_version: int) -> dict[str, float]:
    """How many updates behind the trained weights those that sampled were: mean over tokens, and
    the largest.
    """
    ages = np.concatenate(
        [weight_version - s.weight_version_T[s.weight_version_T >= 0] for s in samples]
    )
    if not ages.size:
        return {"staleness": 0.0, "staleness_max": 0.0}
    return {"staleness": float(ages.mean()), "staleness_max": float(ages.max())}


def advantages_of(
    config: TrainConfig,
    groups: Sequence[ScoredGroup],
    measured: Sequence[Measured] | None = None,
    kl_coef: float = 0.0,
) -> list[list[float]]:
    """[P][G] advantages: how much better each response is than could be expected for its prompt.

    Args:
        groups: the batch.
        measured: [B] by the learner, where KL belongs to the reward.
        kl_coef: of this step.
    """
    algorithm, components = config.algorithm, config.rewards.scorer_components()

    def table(value: Callable[[Score], float]) -> torch.Tensor:
        rows = [[value(score) for score in group.scores] for group in groups]
        return torch.tensor(rows, dtype=torch.float64)

    rewards_PG = table(lambda score: score.total)
    if measured is not None:
        kl_B = torch.tensor([one.kl for one in measured], dtype=torch.float64)
        rewards_PG = rewards_PG - kl_coef * kl_B.view_as(rewards_PG)
    advantage = ADVANTAGES[algorithm.advantage]
    reference_P = None
    if advantage.needs_reference:
        rates = [float(group.group.prompt.problem.extra["pass_rate"]) for group in groups]
        reference_P = torch.tensor(rates, dtype=torch.float64)
    inputs = AdvantageInputs(
        rewards_PG=rewards_PG,
        graded_PG=table(lambda score: score.graded).bool(),
        components={
            name: (part.weight, table(partial(component_score, name)))
            for name, part in components.items()
        },
        reference_P=reference_P,
        std=algorithm.advantage_std,
        eps=algorithm.advantage_eps,
    )
    return [[float(a) for a in row_G] for row_G in advantage(inputs)]


def component_score(name: str, score: Score) -> float:
    """What one reward gave; 0 where it does not look at the row."""
    return score.components[name].score if name in score.components else 0.0


def token_advantages(
    config: TrainConfig,
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
        if score.token_scores is None or not sample.num_trained:
            advantages.append(advantage)
            continue
        returns = discounted_token_scores(score.token_scores, config.algorithm.token_discount)
        advantage_T = np.zeros(sample.num_tokens, np.float32)
        advantage_T[sample.loss_mask_T] = advantage + np.array(returns, np.float32)
        advantages.append(advantage_T)
    return advantages


def is_due(every: int, step: int) -> bool:
    """Is this one of every so many steps? 0 is never."""
    return bool(every) and step % every == 0


def evaluate_policy(
    config: TrainConfig, state: TrainState, parts: Parts, *, whole: bool
) -> Evaluations:
    """Evaluate the present weights.

    Args:
        config: the recipe, with the settings of the stage.
        state: where the run stands.
        parts: of the run.
        whole: all problems with all samples, as before and after a run. In between it is one
            sample for some problems.
    """
    prompts = parts.held_out if whole else parts.held_out[: config.evaluation.interim_problems]
    num_samples = config.evaluation.num_samples if whole else 1
    parts.run.status(f"evaluating {len(prompts)} held-out problems")
    start = time.perf_counter()
    evaluations = evaluate(
        config.evaluation, parts.sampling, prompts, parts.rollouts, parts.scorer, num_samples
    )
    seconds = time.perf_counter() - start
    for evaluation in evaluations:
        rows = metrics.sample_rows(state.step, evaluation.groups, limit=64)
        parts.run.log_evaluation(
            state.step,
            evaluation.name,
            evaluation.metrics,
            rows,
            seconds=seconds if evaluation is evaluations[-1] else None,
        )
    return {evaluation.name: evaluation.metrics for evaluation in evaluations}


class _Clock:
    """Where the seconds of a step go; what no phase claims is `idle`."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def add(self, phase: str, seconds: float) -> None:
        """Seconds that the phase measured itself, up to now. A phase may come more than once."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
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
