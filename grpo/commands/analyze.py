"""`grpo analyze`: how recorded responses reflect, repeat themselves, mix languages and grow.

grpo analyze runs/tiny/TIME
grpo analyze evals/FOLDER --output analysis.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from grpo.common.command_line import Parser, file_path, run
from grpo.common.files import check_writable, write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Analyse from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo analyze", "How recorded responses reflect, repeat, mix and grow.")
    parser.add_argument(
        "path",
        type=file_path,
        metavar="FOLDER_OR_FILE",
        help="a run folder, its rollouts/, the folder of an evaluation, or a JSONL file",
    )
    parser.add_argument("--output", type=file_path, metavar="FILE", help="the analysis as JSON")
    args = parser.parse(arguments)
    if args.output is not None:
        check_writable([args.output])
    from grpo.evaluation.analysis import summary

    found = summary(args.path)
    show(found)
    if args.output is not None:
        write_atomically({args.output: found})
    return 0


# What the tables show: words, and the way to the figure.
_ROWS = (
    ("responses", "responses", "d"),
    ("accuracy", "accuracy", ".3f"),
    ("mean length, tokens", "lengths.mean", ".1f"),
    ("mean length, right", "lengths.right", ".1f"),
    ("mean length, wrong", "lengths.wrong", ".1f"),
    ("with a reflection word", "reflection.response_share", ".1%"),
    ("problems with one", "reflection.problem_share", ".1%"),
    ("accuracy with one", "reflection.accuracy_with", ".3f"),
    ("accuracy without", "reflection.accuracy_without", ".3f"),
    ("attempts in a response", "efficiency.rounds", ".2f"),
    ("outcome efficiency", "efficiency.outcome", ".3f"),
    ("process efficiency", "efficiency.process", ".3f"),
    ("end in a loop", "repetition.loop_share", ".1%"),
    ("end in a loop, of those cut off", "repetition.loop_share_cut_off", ".1%"),
    ("compression", "repetition.compression", ".2f"),
    ("mixed languages", "language.mixed_share", ".1%"),
    ("words of other languages", "language.other_share", ".1%"),
)
_TREND = (
    ("accuracy", "accuracy", ".3f"),
    ("length", "lengths.mean", ".1f"),
    ("right", "lengths.right", ".1f"),
    ("wrong", "lengths.wrong", ".1f"),
    ("reflect", "reflection.response_share", ".1%"),
    ("outcome", "efficiency.outcome", ".3f"),
    ("process", "efficiency.process", ".3f"),
    ("loops", "repetition.loop_share", ".1%"),
    ("mixed", "language.mixed_share", ".1%"),
)


def show(found: Mapping[str, Any]) -> None:
    """The analysis as tables on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("", "")
    for words, way, form in _ROWS:
        table.add_row(words, _figure(found, way, form))
    for title, counts in (
        ("ended by", found["repetition"]["finish_reasons"]),
        ("first reflection", found["reflection"]["outcomes"]),
        ("reflection words", dict(list(found["reflection"]["words"].items())[:5])),
    ):
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        table.add_row(title, Text(told or "none"))
    words = found["language"]["words"].items()
    table.add_row("words by language", Text(", ".join(f"{n} {s:.1%}" for n, s in words) or "none"))
    console.print(table)
    if found["trend"]:
        # without blanks beside the figures ten columns fit 80 characters
        steps = Table("steps", *(words for words, _, _ in _TREND), padding=0)
        for part in found["trend"]:
            first, last = part["steps"]
            name = str(first) if first == last else f"{first} to {last}"
            steps.add_row(name, *(_figure(part, way, form) for _, way, form in _TREND))
        console.print(steps)
    if found["reflection"]["words"]:
        console.print(
            "Reflection words overcount: a word is no proof that anything was checked.", style="dim"
        )


def _figure(found: Any, way: str, form: str) -> str:
    for key in way.split("."):
        found = found[key]
    return "none" if found is None else format(found, form)


if __name__ == "__main__":
    sys.exit(main())
