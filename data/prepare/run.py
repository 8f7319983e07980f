"""From raw problem sets to a clean, decontaminated, gradable training set.

    python -m data.prepare --input FILE ... --against FILE ... --output clean.jsonl
    python -m data.prepare --config-name deepscaler --input FILE --against FILE ... --output
    clean.jsonl python -m data.prepare --config-name NAME sources.NAME.path=FILE
    stages.near_duplicates.threshold=0.9

All rows of all inputs are read and validated first; then the stages run; then output, report and
dropped rows appear together. The three files are the same, byte for byte, for any number of
workers. Wrong data or a wrong recipe is one message on stderr and exit code 78, and nothing under a
final name.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.cleaning import DEFAULT_STAGES
from data.cleaning.base import Context
from data.prepare.pipeline import StageReport, run_pipeline
from data.prepare.recipe import PrepareConfig, from_flags, from_recipe
from data.sources.loading import allowed_bad_rows, load_into
from data.sources.rows import BadRow, Validator
from data.sources.spec import MixSource, Source
from data.types import Problem
from grpo.common.command_line import Parser, file_path, run
from grpo.common.errors import UserError
from grpo.common.files import check_writable, write_atomically

_OVERRIDE = re.compile(
    r"~[A-Za-z_][\w.]*|\+{0,2}[A-Za-z_][\w.]*=.*", re.S
)  # `key=value`, `+key=value`, `~key`


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""

    def command(arguments: Sequence[str] | None) -> int:
        prepare(_parse(arguments))
        return 0

    return run(command, argv)


def prepare(config: PrepareConfig) -> list[StageReport]:
    """Load, clean, write.

    Raises:
        UserError: what the owner of the data or of the recipe must mend; nothing was written then.
    """
    check_writable(
        [config.output, config.report, config.dropped], [config.work_dir] if config.work_dir else []
    )
    for stage in config.stages:
        stage.check()
    allowed = config.max_bad_rows + allowed_bad_rows(list(config.sources.values()))
    problems, counts, validator = _load(config.sources, Validator(allowed))
    allowed = config.max_bad_rows + allowed_bad_rows(list(config.against.values()))
    against, _, against_validator = _load(
        config.against, Validator(allowed, need_answer=False, unique_ids=False)
    )
    _say(
        f"{len(problems)} problems, {len(against)} to keep out, {len(validator.bad_rows)} bad rows"
    )
    context = Context(against, config.workers)
    reports = run_pipeline(problems, config.stages, context, config.work_dir, _say_stage)
    clean = reports[-1].result.kept if reports else problems
    report = _report(config, counts, problems, validator, against_validator, reports)
    files: dict[Path, Any] = {
        config.dropped: _dropped_rows(validator.bad_rows, reports),
        config.report: report,
    }
    if not clean:
        write_atomically(files)  # they say why nothing is left
        raise UserError(_why_nothing(reports, config))
    write_atomically(files | {config.output: (problem.to_row() for problem in clean)})
    _say(f"{len(clean)} clean problems in {config.output}")
    return reports


def _load(
    sources: Mapping[str, Source], validator: Validator
) -> tuple[list[Problem], dict[str, int], Validator]:
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    for name, source in sources.items():
        rows = load_into(validator, source, name)
        counts[name] = len(rows)
        problems += rows
    validator.check()
    return problems, counts, validator


def _why_nothing(reports: Sequence[StageReport], config: PrepareConfig) -> str:
    """The message of a run that keeps nothing: the stage that took the most, and what to do."""
    worst = max(reports, key=lambda report: len(report.result.dropped))
    reasons = ", ".join(f"{reason} {count}" for reason, count in worst.result.reasons.items())
    first = worst.result.dropped[0].problem
    advice = {
        "decontaminate": "all of it overlaps with --against; is an evaluation set the input?",
        "gradable": "likely the wrong columns are read as answers; see --mapping and "
        "--answer-column",
    }.get(worst.stage.name, f"change or remove the stage {worst.stage.name}")
    return (
        f"no problem is left. Most went out in the stage {worst.stage.name} ({reasons}), the first "
        f"is {first.id!r} with the answer {first.answer[:60]!r}: {advice}. All of them are in "
        f"{config.dropped}"
    )


def _report(
    config: PrepareConfig,
    counts: dict[str, int],
    problems: Sequence[Problem],
    validator: Validator,
    against_validator: Validator,
    reports: Sequence[StageReport],
) -> dict[str, Any]:
    """Plain values without times or worker counts, so that equal runs have equal reports."""
    clean = reports[-1].result.kept if reports else problems
    return {
        "sources": [
            {
                "name": name,
                "from": source.label,
                "rows": counts[name],
                "weight": None if isinstance(source, MixSource) else source.weight,
            }
            for name, source in config.sources.items()
        ],
        "against": [source.label for source in config.against.values()],
        "bad_rows": [str(row) for row in (*validator.bad_rows, *against_validator.bad_rows)],
        "rows_in": len(problems),
        "stages": [report.to_json() for report in reports],
        "rows_out": len(clean),
        "rows_out_by_source": dict(sorted(Counter(problem.source for problem in clean).items())),
        "rows_out_by_level": dict(
            sorted(Counter(problem.level or "" for problem in clean).items())
        ),
    }


def _dropped_rows(
    bad_rows: Iterable[BadRow], reports: Iterable[StageReport]
) -> Iterator[dict[str, Any]]:
    for row in bad_rows:
        yield {
            "stage": "load",
            "reason": row.reason,
            "field": row.field,
            "file": row.file,
            "line": row.line,
        }
    for report in reports:
        for drop in report.result.dropped:
            yield drop.to_row()


def _say_stage(report: StageReport) -> None:
    reasons = ", ".join(f"{reason} {count}" for reason, count in report.result.reasons.items())
    _say(
        f"{report.stage.name}: {report.num_in} -> {len(report.result.kept)}"
        + (f" ({reasons})" if reasons else "")
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _split_overrides(values: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files, and Hydra overrides of the recipe. A file that is there is a file, whatever it is
    called.
    """
    overrides = [
        value for value in values if _OVERRIDE.fullmatch(value) and not Path(value).exists()
    ]
    return [value for value in values if value not in overrides], overrides


def _parse(argv: Sequence[str] | None) -> PrepareConfig:
    parser = Parser("python -m data.prepare", (__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--config-name", metavar="RECIPE", help="a recipe in recipes/data/, without .yaml")
    add("--config-dir", type=file_path, metavar="FOLDER", help="another folder of recipes")
    for name, help in (
        ("--input", "JSONL, JSON or Parquet, may be gzipped"),
        ("--against", "evaluation sets to keep out"),
    ):
        # A flag that is repeated adds up: the last one alone would let test problems through.
        add(name, nargs="+", action="extend", default=[], metavar="FILE", help=help)
    add("--output", metavar="FILE", help="clean problems, JSONL")
    add("--report", metavar="FILE", help="what each stage did, JSON")
    add("--dropped", metavar="FILE", help="dropped rows with stage and reason, JSONL")
    add("--mapping", help="a built-in mapping of columns (gsm8k, math, dapo, ...)")
    for column in ("question", "answer", "id", "level"):
        add(f"--{column}-column", metavar="NAME", help=f"column of the {column}")
    add("--max-bad-rows", type=int, metavar="N", help="skip up to N bad rows")
    add("--tokenizer", metavar="PATH", help="drop prompts over-long under this tokenizer")
    add("--max-prompt-tokens", type=int, default=1024, metavar="N", help="with --tokenizer")
    add("--template", default="r1_zero", help="with --tokenizer: the prompt of a question")
    add("--workers", type=int, metavar="N", help="processes")
    add("--work-dir", metavar="DIR", help="keep each stage's result here and resume from it")
    add("overrides", nargs="*", metavar="key=value", help="overrides of the recipe")
    args = parser.parse(argv)
    for name in ("input", "against"):
        # an option of many files takes all that follows it, and overrides may follow it too
        files, overrides = _split_overrides(getattr(args, name))
        setattr(args, name, files)
        args.overrides += overrides
    flags = {
        "output": args.output,
        "report": args.report,
        "dropped": args.dropped,
        "max_bad_rows": args.max_bad_rows,
        "workers": args.workers,
        "work_dir": args.work_dir,
    }
    columns = {
        c: v for c in ("question", "answer", "id", "level") if (v := getattr(args, f"{c}_column"))
    }
    if args.config_name:
        if columns or args.mapping or args.tokenizer:
            raise UserError(
                "with --config-name, mapping, columns and tokenizer are set in the recipe"
            )
        return from_recipe(
            args.config_name,
            args.overrides,
            args.config_dir,
            flags | {"against": args.against},
            args.input,
        )
    if args.overrides:
        raise UserError(
            f"{args.overrides[0]!r}: overrides go with --config-name; inputs with --input"
        )
    if not args.input or not args.output:
        raise UserError("give --input FILE ... and --output FILE, or --config-name RECIPE")
    given: dict[str, Any] = {
        key: value for key, value in flags.items() if value is not None and key != "output"
    }
    if args.tokenizer:
        length = {
            "tokenizer": args.tokenizer,
            "max_tokens": args.max_prompt_tokens,
            "template": args.template,
        }
        given["stages"] = {**dict.fromkeys(DEFAULT_STAGES), "prompt_length": length}
    return from_flags(
        args.input, args.against, args.output, args.mapping or "plain", columns, **given
    )
