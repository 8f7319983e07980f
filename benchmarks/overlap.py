"""Seconds of a step with and without sampling one step ahead, engine and learner on a core each.

    python -m benchmarks.overlap [--steps 6] [--repeats 3] [--set KEY=VALUE ...]

One engine is pinned to one core and one learner rank to another, one thread each, so neither can
take from the other. The loop of `grpo.trainer` then trains with `rollout.max_staleness` 0 and 1 in
turn, in the same processes. Every response has the full length, rewards are 0 and 1 in turn, and
the learning rate is too small to change a weight. So both settings have the same work in every
step: generating and learning take about as long as each other (a KL term makes the update long
enough).

A step that samples first and learns then takes the sum of the two. One that does both at once can
take no less than the longer one. First and last steps are left out: nothing is sampled ahead of the
first, nor during the last.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fixed_lengths import write_model
from grpo.config import load_config
from grpo.inputs import load_inputs
from grpo.miniature.base_model import BaseModelSpec, build_base_model
from grpo.parts import start_parts
from grpo.rollout.journal import Journal
from grpo.run import first_state
from grpo.tracking import open_run
from grpo.tracking.record import read_metrics
from grpo.trainer import Parts, train
from rewards import Sample, Score

RECIPE = [
    *("rollout.num_engines=1", "learner.num_ranks=1", "rollout.max_num_seqs=512"),
    *("sampling.max_response_tokens=64", "algorithm.mismatch.correction=truncate"),
    *("algorithm.kl_coef=1.0e-3", "optimizer.lr=1.0e-30", "evaluation.every=0"),
    *("health.weight_check_every=0", "tracking.hash_weights_every=0", "tracking.plots=false"),
    *("tracking.tensorboard=false", "tracking.wandb.mode=disabled", "model.base=null"),
]


class InTurn:
    """Scores 0 and 1 in turn, so that every response has an advantage."""

    needs_tokens = False

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of all responses, group by group."""
        return [[Score(float(i % 2), {}) for i in range(len(group))] for group in groups]


def main() -> None:
    """Measure both settings in turn and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6, help="of each run, at least 3")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each setting")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the recipe"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(measure(Path(folder), args.steps, args.repeats, args.set))


def measure(
    folder: Path, steps: int, repeats: int, changes: Sequence[str]
) -> dict[int, list[dict[str, float]]]:
    """Seconds of every step that counts, by `rollout.max_staleness`."""
    base = build_base_model(BaseModelSpec(num_steps=1), folder)  # only its shape matters
    write_model(base, folder / "model", 0.0, limit=512)
    recipe = [*RECIPE, f"model.path={folder / 'model'}", f"trainer.max_steps={steps}", *changes]
    configs = [load_config("tiny", [*recipe, f"rollout.max_staleness={age}"]) for age in (0, 1)]
    inputs = load_inputs(configs[0], print)
    sampling = replace(inputs.sampling, stop=(), cut=(), ignore_eos=True)
    found: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    version = 0
    with start_parts(configs[0], inputs, print) as (rollouts, learner):
        assert learner is not None
        pin(rollouts, learner)
        for repeat in range(repeats):
            for age, config in enumerate(configs):
                output = folder / f"run_{repeat}_{age}"
                output.mkdir()
                state = first_state(config, inputs, None)
                state.base = {"sampled": {}}  # nothing is evaluated
                state.weight_version = version
                with open_run(
                    output, config.as_tree(), config.tracking, "tiny", steps, None
                ) as run:
                    parts = Parts(
                        held_out=[],
                        sampling=sampling,
                        rollouts=rollouts,
                        learner=learner,
                        scorer=InTurn(),
                        run=run,
                        journal=Journal(output / "journal", "", print),
                        commit=lambda _: None,
                    )
                    train(config, state, parts)
                version = state.weight_version + 1
                rows = list(read_metrics(output))
                # While a step learns, the batch of this step or of the next one is generated.
                counted = [phases(rows[i], rows[i + age]) for i in range(1, len(rows) - 1)]
                found[age] += counted
                told = " ".join(f"{row['step']:.2f}" for row in counted)
                print(f"repeat {repeat + 1}, max_staleness={age}: steps of {told} s")
    return found


def pin(rollouts: Any, learner: Any) -> None:
    """Put the engine on the first core that this process may use, and the rank on the second."""
    cores = sorted(os.sched_getaffinity(0))
    assert len(cores) >= 2, "one core for the engine and one for the learner"
    for core, process in zip(cores, [rollouts.engines[0], learner.processes[0]], strict=False):
        _, pid = process.whereabouts()
        for thread in Path(f"/proc/{pid}/task").iterdir():  # new ones inherit it
            os.sched_setaffinity(int(thread.name), {core})


def phases(row: dict[str, Any], generated: dict[str, Any]) -> dict[str, float]:
    """Seconds of a step: the work of both sides, how long they had none, and all of it.

    Args:
        row: of the step.
        generated: of the step whose batch was generated in it.
    """
    generate = float(generated["seconds/generate"])
    learn, sync = float(row["seconds/learn"]), float(row["seconds/transfer"])
    phase = {key: float(value) for key, value in row.items() if key.startswith("seconds/")}
    step = sum(phase.values()) - phase["seconds/generate"]  # which is another view of the same time
    return {
        "generate": generate,
        "learn": learn,
        "sync": sync,
        "step": step,
        "engine idle": step - generate - sync,
        "learner idle": step - learn - sync,
        "longer side": max(generate, learn) + sync,
        "both sides": generate + learn + sync,
    }


def report(found: dict[int, list[dict[str, float]]]) -> None:
    """Medians of both settings, and their ratio."""
    ages = {
        age: {key: [row[key] for row in rows] for key in rows[0]} for age, rows in found.items()
    }
    print(f"\nmedians of {len(found[0])} steps, seconds:")
    print(f"  {'max_staleness':14}{0:>8}{1:>8}{'ratio':>8}")
    for key in ages[0]:
        before, after = median(ages[0][key]), median(ages[1][key])
        print(f"  {key:14}{before:8.3f}{after:8.3f}{after / before:8.2f}")
    for age, bound in ((0, "both sides"), (1, "longer side")):
        rows = ages[age]
        ratios = sorted(a / b for a, b in zip(rows["step"], rows[bound], strict=True))
        print(
            f"max_staleness={age}: steps of {min(rows['step']):.2f} to {max(rows['step']):.2f} s, "
            f"{median(ratios):.3f} of {bound} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
