"""`grpo eval`: held-out evaluation of any checkpoint folder, with the engines, template and grader
of a recipe.

grpo eval --config-name tiny --checkpoint runs/tiny/.../policy --output result.json
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.files import check_writable, write_atomically
from grpo.config import TrainConfig, load_config
from grpo.train import load_inputs, say, start_engines


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the command line; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser("grpo eval", "Evaluate a checkpoint folder on held-out problems.")
    add_recipe(parser)
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="what to evaluate (default: the recipe's model)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result as JSON")
    args = parser.parse(argv)
    if args.output is not None:
        check_writable([args.output])
    config = load_config(args.config_name, args.overrides, args.config_dir)
    if args.checkpoint is not None:
        model = dataclasses.replace(config.model, path=args.checkpoint, base=None)
        config = dataclasses.replace(config, model=model)
    result = run_evaluation(config)
    show(result)
    if args.output is not None:
        write_atomically({args.output: result})
    return 0


def run_evaluation(config: TrainConfig) -> dict[str, dict[str, float]]:
    """Metrics of the recipe's model on its held-out problems, by way of sampling: `sampled` and
    `greedy`.

    Raises:
        UserError: a model, data set or cluster that cannot be used.
    """
    from grpo.runtime.ray.cluster import reserve

    inputs = load_inputs(config, say, with_training=False)
    say("starting the cluster")
    with reserve(config, with_learner=False) as cluster:
        say(f"starting {config.rollout.num_engines} vLLM engines")
        rollouts = start_engines(config, cluster, inputs)
        rollouts.wait_until_ready(config.cluster.start_timeout_seconds)
        from grpo.evaluation.evaluate import evaluate

        say(f"evaluating {len(inputs.held_out)} problems")
        scorer = config.rewards.scorer()
        evaluations = evaluate(
            config, inputs.held_out, rollouts, scorer, config.evaluation.num_samples
        )
    return {evaluation.name: evaluation.metrics for evaluation in evaluations}


def show(result: dict[str, dict[str, Any]]) -> None:
    """The result as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", *result)
    for key in next(iter(result.values())):
        cells = (f"{metrics[key]:.4g}" if key in metrics else "" for metrics in result.values())
        table.add_row(key, *cells)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
