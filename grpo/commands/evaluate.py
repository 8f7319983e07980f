"""`grpo eval`: held-out evaluation of any checkpoint folder, with the engines, template and grader
of a recipe.

grpo eval --config-name tiny --checkpoint runs/tiny/.../policy --output result.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError, exit_on_user_error
from grpo.config import TrainConfig
from grpo.train import load_inputs, parse_recipe, say, start_engines


def main(argv: list[str] | None = None) -> int:
    """Evaluate from the command line; returns the exit code."""
    return exit_on_user_error(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    checkpoint, argv = _take(argv, "--checkpoint")
    output, argv = _take(argv, "--output")
    if output is not None and not Path(output).resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder does not exist")
    _, config = parse_recipe(
        argv, "grpo eval", "--checkpoint FOLDER (default: the recipe's model), --output FILE"
    )
    if checkpoint is not None:
        config = config.model_copy(
            update={
                "model": config.model.model_copy(
                    update={"path": checkpoint, "base": None, "base_options": {}}
                )
            }
        )
    result = run_evaluation(config)
    show(result)
    if output is not None:
        partial = Path(output + ".partial")
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        partial.rename(output)
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
        table.add_row(key, *(f"{metrics[key]:.4g}" for metrics in result.values()))
    Console().print(table)


def _take(argv: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of an optional flag, and the arguments without it."""
    if flag not in argv:
        return None, argv
    at = argv.index(flag)
    if at + 1 == len(argv):
        raise UserError(f"{flag} needs a value")
    return argv[at + 1], argv[:at] + argv[at + 2 :]


if __name__ == "__main__":
    sys.exit(main())
