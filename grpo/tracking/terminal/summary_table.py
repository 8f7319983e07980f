"""The end of a run on the terminal: what changed from base to final, and where to look."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from grpo.tracking.catalogue import evaluation_size
from grpo.tracking.terminal.wording import duration, known, number, one_line

# Figures of an evaluation that are its size, not its result.
NO_RESULT = (
    "num_problems",
    "num_samples",
    "num_examples",
    "generated_tokens",
    "accuracy_low",
    "accuracy_high",
)


def closing_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(what, base, final, change) for each figure that both ends of the run have.

    Evaluations of different sizes are not compared.
    """
    base, final = known(summary, "base"), known(summary, "final")
    if not isinstance(base, Mapping) or not isinstance(final, Mapping):
        return []
    rows = []
    for kind, after in final.items():
        before = base.get(kind)
        if not isinstance(after, Mapping) or not isinstance(before, Mapping):
            continue
        if evaluation_size(before) != evaluation_size(after):
            continue
        for key in (key for key in after if key in before and key not in NO_RESULT):
            values = (before[key], after[key])
            if all(isinstance(value, int | float) for value in values):
                what = f"{one_line(kind)} {one_line(key.replace('_', ' '))}"
                shown = (number(key, values[0]), number(key, values[1]))
                rows.append((what, *shown, _change(key, *values)))
    return rows


def _change(key: str, before: float, after: float) -> str:
    if key == "response_length":
        return f"x{after / before:.2f}" if before else "-"
    return f"{after - before:+.3f}"


def print_closing(
    recipe: str, summary: Mapping[str, Any], places: Mapping[str, str], stream: TextIO | None = None
) -> None:
    """The table base -> final, one line on the run, and `places`: what lies where."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    if rows := closing_rows(summary):
        title = Text(f"{one_line(recipe)}: held-out problems, base -> final")
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for heading in ("base", "final", "change"):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    if line := _run_line(summary):
        console.print(Text(line))
    if isinstance(verdict := known(summary, "verdict"), str):
        console.print(Text(f"verdict: {one_line(verdict)}"))
    for what, where in places.items():
        # never wrapped: a path or a command is there to be copied
        console.print(Text(f"{what + ':':<14} {one_line(where)}"), soft_wrap=True)


def _run_line(summary: Mapping[str, Any]) -> str:
    parts = []
    if "steps" in summary:
        parts.append(f"{summary['steps']} steps")
    if "wall_seconds" in summary:
        parts.append(duration(summary["wall_seconds"]))
    if "generated_tokens" in summary:
        parts.append(f"{number('generated_tokens', summary['generated_tokens'])} tokens generated")
    return ", ".join(parts)


def places(output_dir: Path, trackers: Mapping[str, str]) -> dict[str, str]:
    """What the run left behind, as far as it is there."""
    found = {"run folder": str(output_dir)}
    for name, what in {
        "summary.json": "summary",
        "metrics.jsonl": "metrics",
        "rollouts": "samples",
    }.items():
        if (output_dir / name).exists():
            found[what] = str(output_dir / name)
    if (output_dir / "plots" / "overview.png").exists():
        found["plots"] = str(output_dir / "plots" / "overview.png")
    for weights in sorted(output_dir.glob("*/*.safetensors"))[:1]:
        found["final policy"] = str(weights.parent)
    return found | dict(trackers)
