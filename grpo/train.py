"""Entry point: a recipe becomes a run.

    python -m grpo.train --config-name tiny trainer.max_steps=5

Everything after the recipe's name is a Hydra override. A recipe that cannot work is refused in
under two seconds, before torch is imported, with all its problems at once and exit code 78.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from grpo.common.command_line import Parser, add_recipe, run
from grpo.config import load_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo train", "Train as a recipe says.")
    add_recipe(parser)
    args = parser.parse(arguments)
    config = load_config(args.config_name, args.overrides, args.config_dir)
    if config.supervise:
        from grpo.supervise import supervise

        return supervise("grpo.train", args.config_name, args.overrides, args.config_dir, config)
    from grpo.run import run_training

    if config.runtime == "torchrun":
        from grpo.runtime.torchrun.launch import take_part

        take_part(config, lambda: run_training(args.config_name, config))
    run_training(args.config_name, config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
