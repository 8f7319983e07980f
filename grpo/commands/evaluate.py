"""`grpo eval`: scores of a model folder on problem sets, with intervals, and two such results
compared.

grpo eval model=FOLDER data=[aime24,math500] data_dir=sets n=16
grpo eval recipe=tiny model=runs/tiny/.../policy
grpo eval compare evals/first evals/second
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, file_path, run
from grpo.common.errors import UserError
from grpo.common.files import check_writable, write_atomically
from grpo.evaluation.report import KINDS
from grpo.evaluation.samples import RESULT, SAMPLES

# A column of the table of sets: its heading, and the cell of a set.
Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate or compare from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["compare"]:
        return _compare(words[1:])
    parser = Parser(
        "grpo eval",
        "Scores of a model folder on problem sets. docs/configuration.md lists all settings.",
        "grpo eval compare FIRST SECOND compares two results by problem.",
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as Hydra writes them")
    if any(word.split("=")[0] in ("--config-name", "--checkpoint") for word in words):
        raise UserError(
            "grpo eval takes settings only: recipe=RECIPE in place of --config-name, and "
            "model=FOLDER in place of --checkpoint"
        )
    settings = parser.parse(words).settings
    if not settings:
        raise UserError("nothing to evaluate; grpo eval model=FOLDER data=[math500]")
    from grpo.commands.evaluate_sets import run_evaluation
    from grpo.config.evaluation import load_eval_config

    folder, result = run_evaluation(load_eval_config(settings))
    show(result)
    print(f"result:  {folder / RESULT}\nsamples: {folder / SAMPLES}")
    return 0


def _compare(words: Sequence[str]) -> int:
    parser = Parser("grpo eval compare", "Two results, paired by problem: second minus first.")
    parser.add_argument("first", type=file_path, help="folder of an evaluation, or result.json")
    parser.add_argument("second", type=file_path, help="another one")
    parser.add_argument("--output", type=file_path, metavar="FILE", help="the comparison as JSON")
    args = parser.parse(words)
    from grpo.evaluation.compare import compare, read_result

    if args.output is not None:
        check_writable([args.output])
    found = compare(read_result(args.first), read_result(args.second))
    show_comparison(found, args.first, args.second)
    if args.output is not None:
        write_atomically({args.output: found})
    return 0


def show(result: Mapping[str, Any]) -> None:
    """The scores as tables on the terminal, a line for each set."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    console = Console()
    sets: Mapping[str, Any] = result["sets"]
    settings = result["settings"]
    n, share = settings["n"], f"{settings['confidence']:.0%}"
    ks = [k for k in next(iter(sets.values()))["pass_at"] if k != "1"]  # @1 is the accuracy
    columns: list[Column] = [
        ("problems", lambda one: str(one["num_problems"])),
        (f"avg@{n}", lambda one: f"{one['accuracy']:.3f}"),
        (f"{share} interval", lambda one: _interval(one["interval"])),
    ]
    if ks:
        columns += [
            (f"pass@{n}", lambda one: f"{one['pass_at'][str(n)]:.3f}"),
            (f"maj@{n}", lambda one: f"{one['majority_at'][str(n)]:.3f}"),
        ]
    lengths: list[Column] = [
        ("mean length", lambda one: f"{one['mean_length']:.1f}"),
        ("of right", lambda one: _number(one["lengths"]["right"])),
        ("of wrong", lambda one: _number(one["lengths"]["wrong"])),
        ("cut off", lambda one: f"{one['truncation_share']:.1%}"),
        ("no answer", lambda one: f"{one['no_answer_share']:.1%}"),
    ]
    if any(one["ungraded"] for one in sets.values()):
        lengths.append(("not graded", lambda one: str(one["ungraded"])))
    curves: list[list[Column]] = [
        [(f"{name}@{k}", partial(_at, key, k)) for k in ks]
        for name, key in (("pass", "pass_at"), ("maj", "majority_at"))
        if len(ks) > 1
    ]
    for part in (columns, lengths, *curves):
        table = Table("set", *(head for head, _ in part))
        for name, one in sets.items():
            table.add_row(Text(name), *(cell(one) for _, cell in part))
        console.print(table)
    for name, one in sets.items():
        for kind in KINDS:
            if parts := one.get(f"by_{kind}"):
                split = Table(
                    f"{kind} of {escape(name)}", "problems", f"avg@{n}", f"{share} interval"
                )
                for value, part in parts.items():
                    accuracy, interval = f"{part['accuracy']:.3f}", _interval(part["interval"])
                    split.add_row(Text(value), str(part["num_problems"]), accuracy, interval)
                console.print(split)
    if len(sets) > 1:
        console.print(f"mean of the sets: {result['mean_accuracy']:.3f}")


def show_comparison(found: Mapping[str, Any], first: Path, second: Path) -> None:
    """The comparison as a table, and what else differs between the two."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(f"first:  {first}\nsecond: {second}"))
    share = f"{found['confidence']:.0%}"
    head = ["set", "problems", "first", "second", f"difference, {share}", "p", "better/worse"]
    table = Table(*head)
    for name, one in found["sets"].items():
        table.add_row(
            Text(name),
            str(one["num_problems"]),
            *(f"{value:.3f}" for value in one["accuracy"]),
            f"{one['difference']:+.3f}" + _half_width(one["interval"]),
            f"{one['p_value']:.2g}",
            f"{one['better']}/{one['worse']}",
        )
    console.print(table)
    for name, one in found["sets"].items():
        if any(one["unpaired"]):
            first_only, second_only = one["unpaired"]
            console.print(
                Text(f"{name}: {first_only} problems of the first and {second_only} of the second ")
                + "have no partner and are left out"
            )
    for key, which in (("only_first", "first"), ("only_second", "second")):
        if found[key]:
            console.print(Text(f"only the {which} has {', '.join(found[key])}"))
    if found["same_weights"]:
        console.print("both are of the same weights")
    for text in found["differing"]:
        console.print(Text(f"differs: {text}"))


def _interval(interval: Sequence[float]) -> str:
    return " to ".join(f"{value:.3f}" for value in interval)


def _half_width(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"


def _at(key: str, k: str, one: Mapping[str, Any]) -> str:
    return f"{one[key][k]:.3f}"


def _number(some: Mapping[str, Any]) -> str:
    mean = some["mean_length"]
    return "none" if mean is None else f"{mean:.1f}"


if __name__ == "__main__":
    sys.exit(main())
