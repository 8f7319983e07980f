"""`grpo eval`: held-out evaluation of any checkpoint folder, with the engines, template and grader
of a recipe.

grpo eval --config-name tiny --checkpoint runs/tiny/.../policy --output result.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from grpo.common.command_line import Parser, add_recipe, file_path, run
from grpo.common.files import check_writable, write_atomically
from grpo.config import TrainConfig, load_config
from grpo.run import load_inputs, say, start_parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo eval", "Held-out evaluation of a checkpoint folder.")
    add_recipe(parser)
    parser.add_argument("--checkpoint", metavar="FOLDER", help="default: the recipe's model")
    parser.add_argument("--output", type=file_path, metavar="FILE", help="the result as JSON")
    args = parser.parse(arguments)
    if args.output is not None:
        check_writable([args.output])
    config = load_config(args.config_name, args.overrides, args.config_dir)
    if args.checkpoint is not None:
        path = json.dumps(args.checkpoint)
        changed = [f"model.path={path}", "model.base=null", "model.base_options={}"]
        config = load_config(args.config_name, [*args.overrides, *changed], args.config_dir)
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
    inputs = load_inputs(config, say, with_training=False)
    with start_parts(config, inputs, say, with_learner=False) as (rollouts, _):
        from grpo.evaluation.evaluate import evaluate

        say(f"evaluating {len(inputs.held_out)} problems")
        evaluations = evaluate(
            config.evaluation,
            inputs.sampling,
            inputs.held_out,
            rollouts,
            config.rewards.scorer(),
            config.evaluation.num_samples,
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
