"""`grpo doctor --self-test`: two steps of a recipe with learning rate 0, after which nothing may
have moved.

Everything runs as in training: engines sample, the learner computes gradients and steps its
optimizer, weights are handed over. Only the learning rate is 0. So whatever differs between two
steps, in the last bit too, was changed on its way through the stack.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from grpo.common.command_line import say
from grpo.config import TrainConfig
from grpo.inputs import load_inputs
from grpo.parts import start_parts
from grpo.runtime.protocols import Learner, Rollouts
from grpo.types import TrainSample, WeightReport

NUM_STEPS = 2
NUM_TEXTS = 4  # fixed texts whose log-probs are compared
TEXT_TOKENS = 512  # of each at most: engines hold whole logits of a prompt
# Mean absolute gap of log-probs: 1e-6 in float32 and a few thousandths in bfloat16. Log-probs at
# another temperature or stale weights are tenths apart.
MAX_GAP = 0.1


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the stack says of some fixed tokens under one version of the weights."""

    report: WeightReport
    engines: list[list[list[float]]]  # [text][engine][token] log-probs
    learner: list[list[float]]  # [text][token]


def run_self_test(config: TrainConfig, status: Callable[[str], None] = say) -> list[Check]:
    """Run the steps on the recipe's stack and compare. A check that is not ok is a fault of it.

    Raises:
        UserError: a model, data set or cluster that cannot be used.
    """
    inputs = load_inputs(config, status)
    with start_parts(config, inputs, status) as (rollouts, learner):
        from grpo.rollout.prompts import PromptStream
        from grpo.rollout.strategies import STRATEGIES
        from grpo.trainer import make_samples, step_settings

        assert learner is not None
        stream, scorer = PromptStream(config, inputs.prompts), config.rewards.scorer()
        learner.connect(rollouts)
        report = _pushed(learner, 0)
        texts: list[TrainSample] = []
        snapshots: list[Snapshot] = []
        stats: list[dict[str, float]] = []
        for step in range(NUM_STEPS):
            status(f"step {step + 1} of {NUM_STEPS} with learning rate 0")
            collected = STRATEGIES[config.rollout.strategy](
                stream,
                config.batch.num_prompts,
                inputs.sampling,
                step + 1,
                rollouts,
                scorer,
                Counter(),
            )
            samples = make_samples(collected.groups, step)
            if not texts:
                limit = min(TEXT_TOKENS, inputs.max_model_len - 1)
                ids = [sample.token_ids_T.tolist()[:limit] for sample in samples[:NUM_TEXTS]]
                texts = [TrainSample.from_tokens(t[:1], t[1:], [0.0] * (len(t) - 1)) for t in ids]
                snapshots.append(_snapshot(config, report, texts, rollouts, learner))
            settings = replace(step_settings(config, step), lr=0.0)
            # Not the rewards', which may all be equal and then have no gradient.
            advantages = [1.0 if i % 2 else -1.0 for i in range(len(samples))]
            learner.prepare(samples, settings)
            stats.append(learner.optimise(advantages, settings))
            report = _pushed(learner, step + 1)
            snapshots.append(_snapshot(config, report, texts, rollouts, learner))
    return compared(snapshots, stats)


def _pushed(learner: Learner, version: int) -> WeightReport:
    report = learner.push_weights(version, check=True)
    assert report is not None
    return report


def _snapshot(
    config: TrainConfig,
    report: WeightReport,
    texts: Sequence[TrainSample],
    rollouts: Rollouts,
    learner: Learner,
) -> Snapshot:
    temperature = config.sampling.temperature
    engines = [rollouts.prompt_logprobs(text.token_ids_T.tolist(), temperature) for text in texts]
    return Snapshot(report, engines, learner.logprobs(texts, temperature))


def compared(snapshots: Sequence[Snapshot], stats: Sequence[dict[str, float]]) -> list[Check]:
    """The table: the first snapshot is that of the start, and each step has one after it."""
    first = snapshots[0]
    wrong = [t for s in snapshots for t in (*s.report.differing, *s.report.unproven)]
    tensors = len(first.report.hashes)
    moved = sorted(
        {
            name
            for later in snapshots[1:]
            for name, found in later.report.hashes.items()
            if found != first.report.hashes[name]
        }
    )
    engines = [
        abs(a - b)
        for later in snapshots[1:]
        for old, new in zip(first.engines, later.engines, strict=True)
        for x, y in zip(old, new, strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    learner = [
        b - a
        for later in snapshots[1:]
        for x, y in zip(first.learner, later.learner, strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    ratios = [math.exp(difference) for difference in learner]
    ratios += [found["ratio_max"] for found in stats if "ratio_max" in found]
    furthest = max(ratios, key=lambda ratio: abs(ratio - 1.0))
    norms = [found["grad_norm"] for found in stats]
    gap = fmean(
        abs(a - b)
        for mine, all_theirs in zip(first.learner, first.engines, strict=True)
        for theirs in all_theirs
        for a, b in zip(mine, theirs, strict=True)
    )
    count = sum(len(row) for row in first.learner)
    times = len(snapshots) - 1
    return [
        Check(
            "engine weights are the learner's",
            not wrong,
            "; ".join(wrong[:3]) or f"{tensors} tensors, {len(snapshots)} hand-overs",
        ),
        Check(
            "weights between steps",
            not moved,
            f"moved: {', '.join(moved[:3])}" if moved else f"{tensors} hashes equal",
        ),
        Check(
            "engine log-probs between steps",
            all(difference == 0 for difference in engines),
            f"largest difference {max(engines):.3g}, {count} tokens, {times} times",
        ),
        Check(
            "learner log-probs between steps",
            all(difference == 0 for difference in learner),
            f"largest difference {max(map(abs, learner)):.3g}, {count} tokens, {times} times",
        ),
        Check(
            "ratio of new and old policy",
            all(ratio == 1.0 for ratio in ratios),
            f"furthest from 1: {furthest:.9g}",
        ),
        Check(
            "steps had a gradient",
            all(norm > 0 and math.isfinite(norm) for norm in norms),
            "norms " + ", ".join(f"{norm:.3g}" for norm in norms),
        ),
        Check(
            "engine and learner agree",
            gap < MAX_GAP,
            f"mean absolute gap of log-probs {gap:.2e}; less than {MAX_GAP} is taken as rounding",
        ),
    ]


def show(checks: Sequence[Check]) -> None:
    """The checks as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table("two steps with learning rate 0", "state", "")
    for check in checks:
        state = "[green]ok[/]" if check.ok else "[bold red]bad[/]"
        table.add_row(check.what, state, check.text)
    Console().print(table)
