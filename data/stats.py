"""What is in a problem file: counts, lengths, levels, kinds of answers.

python -m data.stats FILE ...
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.cleaning.answers import normalise
from data.cleaning.text import key
from data.sources.loading import load_into
from data.sources.rows import Validator
from data.sources.spec import read_source
from data.types import Problem
from grpo.common.command_line import Parser, run

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("integer", r"[-+]?(?:\d+|\d{1,3}(?:(?:,|\{,\}|,\\!)\d{3})+)"),
        ("decimal", r"[-+]?\d*\.\d+"),
        (
            "fraction",
            r"[-+]?(?:\\[dt]?frac\s*(?:\{\s*[-+]?\d+\s*\}\s*\{\s*\d+\s*\}|\d\s*\d)|\d+\s*/\s*\d+)",
        ),
        ("percent or money", r"\\?\$\s*[\d.,]+|[\d.,]+\s*\\?%"),
        ("choice letter", r"\(?(?:\\text(?:bf)?\{)?\(?[A-H]\)?\}?\)?"),
        ("JSON", r"\{\s*\".*\}"),
        ("matrix", r".*\\begin\{[a-z]*matrix\}.*"),
        ("interval or union", r".*\\cup.*|[\[(][^,]*,[^,]*\]|\[[^,]*,[^,]*[\])]|.*\\infty.*"),
        ("tuple", r"(?:\\left)?\((?:[^()]|\([^()]*\))*,(?:[^()]|\([^()]*\))*\)"),
        ("condition", r".*(?:=|<|>|\\[lg]eq?(?:slant)?|\\neq?|\\equiv|\\in(?![a-z])).*"),
        ("several values", r".*(?:,|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\pm).*"),
        ("words", r"(?:\\text(?:bf|rm|it)?\{)?[A-Za-z][A-Za-z ,.'-]{2,}\}?"),
        (
            "number with unit",
            r"[-+]?[\d.,]+\s*(?:\\\s)?(?:\\(?:text|mathrm|mbox)\s*\{.*|\^\{?\\circ.*|[a-z]{2,}.*)",
        ),
    )
)


def answer_kind(answer: str) -> str:
    """What an answer is to judge by its looks; everything else is an `expression`."""
    answer = normalise(answer)
    return next((name for name, pattern in _KINDS if pattern.fullmatch(answer)), "expression")


def summary(problems: Sequence[Problem]) -> str:
    """The text that the command line prints for one file."""
    questions = [len(problem.question) for problem in problems]
    answers = [len(problem.answer) for problem in problems]
    distinct = len({key(problem.question) for problem in problems})
    lines = [
        f"{len(problems)} problems, {distinct} different texts",
        f"question characters: {_spread(questions)}",
        f"answer characters:   {_spread(answers)}",
        *_table("sources", (problem.source for problem in problems)),
        *_table("levels", (problem.level or "none" for problem in problems)),
        *_table("answer kinds", (answer_kind(problem.answer) for problem in problems)),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. Bad rows are counted: looking at a file needs no
    clean one.
    """
    return run(_command, argv)


def _command(argv: Sequence[str] | None) -> int:
    parser = Parser("python -m data.stats", (__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--mapping", default="plain", help="a built-in mapping of columns")
    args = parser.parse(argv)
    for file in args.files:
        validator = Validator()
        source: Any = read_source({"path": file, "mapping": args.mapping}, file)
        problems = load_into(validator, source, Path(file).stem)
        print(f"{file}\n{summary(problems)}")
        for row in validator.bad_rows[:5]:
            print(f"bad row: {row}")
        if validator.bad_rows:
            print(f"bad rows: {len(validator.bad_rows)}")
    return 0


def _spread(values: Iterable[int]) -> str:
    ordered = sorted(values)
    quantiles = [
        ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.0, 0.5, 0.95, 0.99)
    ]
    return "min {}, median {}, 95% {}, 99% {}".format(*quantiles) + f", max {ordered[-1]}"


def _table(title: str, names: Iterable[str]) -> list[str]:
    counts = Counter(names)
    total = sum(counts.values())
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return [
        f"{title}:",
        *(f"  {name:<20} {count:>8} {100 * count / total:6.2f}%" for name, count in rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
