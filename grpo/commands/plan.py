"""`grpo plan`: will a recipe fit, how long does it take, and which setting to change.

grpo plan --config-name r1_zero_qwen2.5_7b --hardware h100 model.path=Qwen2.5-7B
grpo plan --config-name tiny
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, add_recipe, file_path, run
from grpo.common.errors import EXIT_CONFIG, UserError
from grpo.common.files import check_writable, write_atomically
from grpo.common.recipes import UNSET, compose
from grpo.config import RECIPES, TrainConfig, load_config
from grpo.planning.hardware import DEVICES, GIB, Device, device
from grpo.planning.plan import Lengths, Stage, as_json, make_plan
from grpo.planning.shapes import Shape, model_shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan from the command line; returns the exit code, 78 where the recipe does not fit."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        "grpo plan",
        "Memory of every actor, seconds of every phase and hours of a recipe, before it starts.",
        "Exit code 0 if it fits, 78 if not. docs/plan.md says what is assumed.",
    )
    add_recipe(parser)
    parser.add_argument(
        "--hardware", default="cpu", metavar="NAME", help=f"cpu (default), {', '.join(DEVICES)}"
    )
    parser.add_argument(
        "--prompt-tokens", type=_count, metavar="N", help="mean tokens of a prompt (default: 200)"
    )
    parser.add_argument(
        "--response-tokens",
        type=_count,
        metavar="N",
        help="mean tokens of a response (default: half of the limit)",
    )
    parser.add_argument("--json", type=file_path, metavar="FILE", help="the plan as JSON")
    args = parser.parse(arguments)
    if args.json is not None:
        check_writable([args.json])
    config = read(args.config_name, args.overrides, args.config_dir)
    chosen = device(args.hardware)
    shape = model_shape(config.model)
    stages = make_plan(
        config, shape, chosen, lengths_of(config, args.prompt_tokens, args.response_tokens)
    )
    show(args.config_name, shape, chosen, stages)
    if args.json is not None:
        found = {
            "recipe": args.config_name,
            "hardware": chosen.name,
            "parameters": shape.parameters,
            "stages": [*as_json(stages)],
        }
        write_atomically({args.json: found})
    return 0 if all(stage.fits for stage in stages) else EXIT_CONFIG


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def lengths_of(
    config: TrainConfig, prompt: int | None = None, response: int | None = None
) -> Lengths:
    """What is assumed of prompts: as long as `rollout.max_model_len` has room for, and 200 tokens
    on average.
    """
    room = None
    if config.rollout.max_model_len is not None:
        room = config.rollout.max_model_len - config.sampling.max_response_tokens
    longest = max(room or 0, prompt or 0) or 200
    return Lengths(prompt=prompt or min(200, longest), longest_prompt=longest, response=response)


def read(name: str, overrides: Sequence[str], folder: Path | None) -> TrainConfig:
    """The checked recipe. Its data plays no part here and need not be given.

    Raises:
        UserError: no such recipe, or one that `grpo train` does not take.
        RecipeError: everything that is wrong with it.
    """
    tree = compose(name, overrides, folder or RECIPES, RECIPES)
    if "rewards" not in tree or "num_examples" in tree.get("batch", {}):
        raise UserError(f"--config-name {name}: grpo plan reads recipes of grpo train")
    unset = [f"{key}=none.jsonl" for key in _unset(tree.get("data"), "data")]
    return load_config(name, [*unset, *overrides], folder)


def _unset(tree: Any, above: str) -> list[str]:
    """Keys below `above` that the command line would have to give."""
    if tree == UNSET:
        return [above]
    if not isinstance(tree, dict):
        return []
    return [found for key, value in tree.items() for found in _unset(value, f"{above}.{key}")]


def show(recipe: str, shape: Shape, chosen: Device, stages: Sequence[Stage]) -> None:
    """The plan as tables on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{recipe}: {shape.parameters / 1e9:.3g}B parameters on {chosen.name}"
        + (". Nothing here was measured on a GPU" if chosen.on_gpu else ""),
        highlight=False,
    )
    for stage in stages:
        table = Table("actor", "part", "GiB", title=f"stage {stage.name}" if stages[1:] else None)
        for actor in stage.actors:
            title = f"{actor.count} x {actor.role}"
            for name, size in actor.parts.items():
                table.add_row(title, name, f"{size / GIB:.2f}")
                title = ""
            state = "fits" if actor.fits else "does not fit"
            style = "green" if actor.fits else "bold red"
            table.add_row(
                f"[{style}]{state}[/]",
                f"of {actor.capacity / GIB:.1f} GiB",
                f"{actor.total / GIB:.2f}",
                end_section=True,
            )
        console.print(table)
        for actor in stage.actors:
            text = [actor.room] if actor.room else []
            text += [f"expected {actor.expected / GIB:.2f} GiB"] if actor.expected else []
            text += [f"and {actor.host / GIB:.1f} GiB of CPU memory"] if actor.host else []
            console.print(f"{actor.role}: {'; '.join(text)}", highlight=False, soft_wrap=True)
        phases = ", ".join(f"{name} {value:.3g}" for name, value in stage.seconds.items())
        console.print(
            f"{stage.tokens:,.0f} tokens a step; seconds: {phases}\n"
            f"{stage.steps} steps: {stage.hours:.3g} hours, of which evaluation "
            f"{stage.evaluation_hours:.2g}",
            highlight=False,
            soft_wrap=True,
        )
        if not stage.fits:
            needs = [
                f"{actor.role} needs {actor.total / GIB:.1f} GiB and has {actor.capacity / GIB:.1f}"
                for actor in stage.actors
                if not actor.fits
            ] or [
                f"all together need {sum(a.total * a.count for a in stage.actors) / GIB:.1f} GiB "
                f"and have {stage.actors[0].capacity / GIB:.1f}"
            ]
            console.print(
                "\n".join([f"does not fit: {'; '.join(needs)}", *stage.advice]),
                style="bold red",
                highlight=False,
                soft_wrap=True,
            )
    if len(stages) > 1:
        console.print(f"{sum(stage.hours for stage in stages):.3g} hours together", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
