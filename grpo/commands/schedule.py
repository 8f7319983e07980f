"""`grpo schedule`: what the stages of a recipe would do.

grpo schedule simulate --config-name deepscaler_1.5b --metrics runs/.../metrics.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, add_recipe, file_path, run
from grpo.common.errors import UserError
from grpo.common.files import read_jsonl
from grpo.common.names import hint, import_modules
from grpo.common.recipes import Settings, compose, read
from grpo.config import RECIPES, TrainConfig, TrainerConfig
from grpo.config.schema import CheckpointConfig
from grpo.config.stages import StageConfig
from grpo.stages import StageMachine


class Plan(Settings):
    """The settings of a recipe that decide when stages switch."""

    stages: tuple[StageConfig, ...] = ()
    trainer: TrainerConfig
    checkpoint: CheckpointConfig = CheckpointConfig()


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at a schedule from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        "grpo schedule",
        "Feeds a record to the stages of a recipe and prints every switch.",
        "After the first switch a real run would have gone on with other settings than the record.",
    )
    parser.add_argument("action", metavar="simulate", help="the only one so far")
    add_recipe(parser)
    parser.add_argument(
        "--metrics", type=file_path, required=True, metavar="FILE", help="metrics.jsonl of a run"
    )
    args = parser.parse(arguments)
    if args.action != "simulate":
        raise UserError(f"unknown action {args.action!r}; {hint(args.action, ['simulate'])}")
    plan = _read(args.config_name, args.overrides, args.config_dir or RECIPES)
    for line in simulate(plan, args.metrics):
        print(line)
    return 0


def simulate(plan: Plan, metrics: Path) -> Iterator[str]:
    """A line for each switch, and one that sums up.

    Args:
        plan: stages and length of the run.
        metrics: rows of `step` and metrics. Rows of one step are one, as an evaluation has its own.

    Raises:
        UserError: a file that cannot be read, a plan that cannot work, or a record without a metric
            that a condition looks at.
    """
    rows: dict[int, dict[str, Any]] = {}
    try:
        for row in read_jsonl(metrics):
            rows.setdefault(row["step"], {}).update(row)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"--metrics={metrics}: not a record with a `step` in every row: {error!r}"
        ) from None
    switches, done = 0, 0
    try:
        machine = StageMachine([stage.as_stage() for stage in plan.stages], plan.checkpoint.every)
        for step in sorted(rows):
            if not 1 <= step <= plan.trainer.max_steps:  # step 0 is the evaluation of the base
                continue
            done = step
            if (switch := machine.observe(step, rows[step])) is not None:
                switches += 1
                yield str(switch)
            if machine.finished:
                break
    except ValueError as error:
        raise UserError(str(error)) from None
    yield (
        f"steps={done} switches={switches} stage={machine.stage.name} "
        f"steps_in_stage={machine.steps_in_stage}"
    )


def _read(name: str, overrides: Sequence[str], folder: Path) -> Plan:
    """The plan of a recipe, whose model and data play no part here and need not be given.

    Raises:
        UserError: no such recipe, or one without stages.
        RecipeError: settings of the plan that are wrong, all at once.
    """
    tree = compose(name, overrides, folder, RECIPES)
    try:
        import_modules(tree.get("modules") or ())  # they may register triggers
    except ImportError as error:
        raise UserError(f"modules: {error}; is it on PYTHONPATH?") from None
    known = TrainConfig.model_fields
    unknown = [f"{key}: unknown key; {hint(key, known)}" for key in tree if key not in known]
    blocks = {key: tree[key] for key in Plan.model_fields if key in tree}
    plan = read(Plan, blocks, name, problems=unknown)
    if not plan.stages:
        raise UserError(f"stages: recipe {name!r} has none, so there is nothing to simulate")
    return plan


if __name__ == "__main__":
    sys.exit(main())
