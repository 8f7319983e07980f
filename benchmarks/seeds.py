"""The embedded default over several seeds: what a reader of the README should expect, with its
spread.

python -m benchmarks.seeds [--seeds 0 1 2] [key=value ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean

from grpo.config import load_config
from grpo.miniature.answer_style import growth
from grpo.run import run_training
from rewards import Scorer


def main() -> None:
    """Train once per seed and print a table of base and final figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    summaries = [run("tiny", [*args.overrides, f"seed={seed}"]) for seed in args.seeds]
    show(args.seeds, summaries)


def run(recipe: str, overrides: list[str], scorer: Scorer | None = None) -> dict:
    """One run in a temporary folder; its summary."""
    with tempfile.TemporaryDirectory() as parent:
        settings = [*overrides, f"output_dir={parent}/run", "tracking.wandb.mode=disabled"]
        folder = run_training(recipe, load_config(recipe, settings), scorer)
        return json.loads((Path(folder) / "summary.json").read_text())


def show(seeds: list[int], summaries: list[dict]) -> None:
    """A line a seed, and the mean."""
    columns = {
        "base acc": lambda s: s["base"]["sampled"]["accuracy"],
        "base format": lambda s: s["base"]["sampled"]["format"],
        "final acc": lambda s: s["final"]["sampled"]["accuracy"],
        "final format": lambda s: s["final"]["sampled"]["format"],
        "length x": lambda s: (
            s["final"]["sampled"]["response_length"] / s["base"]["sampled"]["response_length"]
        ),
        "greedy acc": lambda s: s["final"]["greedy"]["accuracy"],
        "worked base": lambda s: s["base"]["sampled"]["worked_share"],
        "worked final": lambda s: s["final"]["sampled"]["worked_share"],
        "gain by shift": lambda s: _growth(s)["from_shift_of_style"],
        "gain by work": lambda s: _growth(s)["from_better_work"],
        "seconds": lambda s: s["wall_seconds"],
    }
    print("seed  " + "  ".join(f"{name:>13}" for name in columns))
    for seed, summary in zip(seeds, summaries, strict=True):
        print(f"{seed:>4}  " + "  ".join(f"{value(summary):13.3f}" for value in columns.values()))
    print(
        "mean  " + "  ".join(f"{fmean(map(value, summaries)):13.3f}" for value in columns.values())
    )


def _growth(summary: dict) -> dict[str, float]:
    return growth(summary["base"]["sampled"], summary["final"]["sampled"])


if __name__ == "__main__":
    main()
