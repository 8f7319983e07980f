"""Windows that open one after the other, or the longest from the start? The staged miniature beside
a run of one stage, at the same number of generated tokens.

    python -m benchmarks.staged_vs_fixed [--seeds 0 1 2] [--plot FILE.png] [key=value ...]

For each seed the recipe `tiny_staged` is run first. The fixed run has its last limit and rate from
the start, and goes on until it has generated as many tokens. Everything else is equal: base model,
problems, seed, batch, and the learning rate of a token. Runs are kept in `--folder`. Those that are
finished are not run again, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from grpo.config import load_config
from grpo.config.schema import TrainConfig
from grpo.evaluation.statistics import student_quantile
from grpo.run import run_training
from grpo.tracking.record import read_metrics

RECIPE = "tiny_staged"
ARMS = ("staged", "fixed")
METRICS = ("accuracy", "worked_share", "worked_accuracy", "careful_share", "careful_accuracy")

Curve = list[tuple[float, float]]  # (generated tokens so far, held-out accuracy), tokens rising


@dataclass(frozen=True, slots=True)
class Arm:
    """One finished run."""

    tokens: int
    """Response tokens of its training."""
    curve: Curve
    base: Mapping[str, float]
    """Sampled responses to all held-out problems before the first step."""
    final: Mapping[str, float]
    """And after the last one."""
    stage_ends: list[dict[str, float]]
    """The last evaluation within each stage but the last."""
    switches: list[tuple[int, str]]
    """(step, reason) of each switch."""
    steps: int
    seconds: float
    """Of its training steps: start, evaluations and checkpoints are left out."""
    wall_seconds: float
    """Of the whole run, or of its last part where it was interrupted."""


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/staged_vs_fixed"))
    parser.add_argument("--plot", type=Path, help="write accuracy against tokens to this PNG")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    pairs = []
    for seed in args.seeds:
        given = [*args.overrides, f"seed={seed}", "tracking.wandb.mode=disabled"]
        staged = run(args.folder / f"staged-{seed}", given)
        alone = fixed_overrides(load_config(RECIPE, given), staged.tokens)
        pairs.append((staged, run(args.folder / f"fixed-{seed}", [*given, *alone])))
    print(table(args.seeds, pairs))
    if args.plot:
        plot(pairs, args.plot)
    return 0


def run(folder: Path, overrides: Sequence[str]) -> Arm:
    """A run in its folder, made or finished now if need be."""
    settings = [*overrides, f"output_dir={folder.resolve()}"]
    if not (folder / "summary.json").is_file():
        run_training(RECIPE, load_config(RECIPE, settings))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return read_arm(read_metrics(folder), summary)


def fixed_overrides(config: TrainConfig, tokens: int) -> list[str]:
    """What makes a run of one stage out of the staged recipe: the settings of its last stage, until
    it has generated `tokens` response tokens.
    """
    # Every response has a token at least, so the tokens are always there before these steps are.
    longest = max(config.trainer.max_steps, -(-tokens // config.batch.num_responses))
    return [
        f"stages=[{{name: fixed, until: {{max_tokens: {tokens}}}}}]",
        *(f"{key}={value}" for key, value in config.stages[-1].changes.items()),
        f"trainer.max_steps={longest}",
    ]


def read_arm(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Arm:
    """What a run's record says.

    Args:
        rows: one a step, step 0 first, as `read_metrics` gives them.
        summary: its summary.json.
    """
    tokens, seconds, curve = 0.0, 0.0, []
    ends, switches, latest = [], [], {}
    for row in rows:
        tokens += row.get("generated_tokens", 0.0)
        seconds += sum(value for key, value in row.items() if key.startswith("seconds/"))
        if "eval/sampled/accuracy" in row:
            curve.append((tokens, float(row["eval/sampled/accuracy"])))
            latest = {m: row[f"eval/sampled/{m}"] for m in METRICS if f"eval/sampled/{m}" in row}
        if "switch/to" in row and row["switch/to"] != "end":
            switches.append((int(row["step"]), str(row["switch/reason"])))
            ends.append(latest)
    return Arm(
        tokens=int(tokens),
        curve=curve,
        base=summary["base"]["sampled"],
        final=summary["final"]["sampled"],
        stage_ends=ends,
        switches=switches,
        steps=int(summary["steps"]),
        seconds=seconds,
        wall_seconds=float(summary["wall_seconds"]),
    )


def at(curve: Curve, tokens: float) -> float:
    """The accuracy after so many tokens, on straight lines between evaluations.

    Raises:
        ValueError: it was not evaluated on both sides of it.
    """
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 <= tokens <= x1:
            return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)
    raise ValueError(f"{tokens:g} tokens: the curve goes from {curve[0][0]:g} to {curve[-1][0]:g}")


def band(curves: Sequence[Curve], grid: Sequence[float]) -> list[tuple[float, float, float]]:
    """Mean, lowest and highest of some curves at each point of a grid that all of them cover."""
    columns = [[at(curve, tokens) for curve in curves] for tokens in grid]
    return [(fmean(column), min(column), max(column)) for column in columns]


def area(curve: Curve, tokens: float) -> float:
    """The mean accuracy of the first `tokens` generated tokens: how early it was learned."""
    inside = [point for point in curve if point[0] < tokens] + [(tokens, at(curve, tokens))]
    pieces = itertools.pairwise(inside)
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pieces) / tokens


def table(seeds: Sequence[int], pairs: Sequence[tuple[Arm, Arm]]) -> str:
    """A row a seed and arm, then the differences over seeds with Student's 95% interval."""
    columns: dict[str, Callable[[Arm, float], float]] = {
        "tokens": lambda arm, _: float(arm.tokens),
        "steps": lambda arm, _: float(arm.steps),
        "training s": lambda arm, _: arm.seconds,
        "whole run s": lambda arm, _: arm.wall_seconds,
        "base acc": lambda arm, _: arm.base["accuracy"],
        "final acc": lambda arm, _: arm.final["accuracy"],
        "mean acc": lambda arm, end: area(arm.curve, end),
        "worked acc": lambda arm, _: arm.final["worked_accuracy"],
        "careful share": lambda arm, _: arm.final["careful_share"],
        "careful acc": lambda arm, _: arm.final["careful_accuracy"],
        "length": lambda arm, _: arm.final["response_length"],
    }
    lines = ["seed  arm     " + "".join(f"{name:>15}" for name in columns)]
    values: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in columns}
    for seed, pair in zip(seeds, pairs, strict=True):
        end = min(arm.curve[-1][0] for arm in pair)
        for side, (name, arm) in enumerate(zip(ARMS, pair, strict=True)):
            numbers = [value(arm, end) for value in columns.values()]
            for column, number in zip(columns, numbers, strict=True):
                values[column][side].append(number)
            lines.append(f"{seed:>4}  {name:6}  " + "".join(f"{n:15,.3f}" for n in numbers))
    lines.append("\nstaged - fixed, mean over seeds and 95% interval")
    for name, (first, second) in values.items():
        difference, interval = difference_over_seeds(first, second)
        told = "" if interval is None else f"  [{interval[0]:+,.3f}, {interval[1]:+,.3f}]"
        lines.append(f"  {name:14} {difference:+,.3f}{told}")
    for seed, (staged, _) in zip(seeds, pairs, strict=True):
        lines.append(f"\nseed {seed}, staged: base {shown(staged.base)}")
        for (step, reason), numbers_then in zip(staged.switches, staged.stage_ends, strict=True):
            lines.append(f"  switch after step {step}: {reason}")
            lines.append(f"    before it {shown(numbers_then)}")
        lines.append(f"  final {shown(staged.final)}")
    return "\n".join(lines)


def difference_over_seeds(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float, tuple[float, float] | None]:
    """Mean of first - second over seeds, and its interval; None with a single seed."""
    differences = [x - y for x, y in zip(first, second, strict=True)]
    mean, count = fmean(differences), len(differences)
    if count < 2:
        return mean, None
    half = student_quantile(0.975, count - 1) * stdev(differences) / math.sqrt(count)
    return mean, (mean - half, mean + half)


def shown(numbers: Mapping[str, float]) -> str:
    """The metrics of an evaluation that matter here."""
    return ", ".join(f"{name} {numbers[name]:.3f}" for name in METRICS if name in numbers)


def plot(pairs: Sequence[tuple[Arm, Arm]], file: Path) -> None:
    """Accuracy against generated tokens: mean over seeds as a line, lowest to highest as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for side, (name, colour) in enumerate(zip(ARMS, ("#d1495b", "#4c78a8"), strict=True)):
        curves = [pair[side].curve for pair in pairs]
        end = min(curve[-1][0] for curve in curves)
        grid = [end * i / 100 for i in range(101)]
        mean, low, high = zip(*band(curves, grid), strict=True)
        axes.plot(grid, mean, color=colour, linewidth=2, label=name)
        axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("generated tokens")
    axes.set_ylabel("held-out accuracy, sampled")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
