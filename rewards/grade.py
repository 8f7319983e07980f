"""Grade a file of responses: `python -m rewards.grade --input cases.jsonl --output scores.jsonl`.

The output appears whole at the end, or not at all; an earlier file of that name stays until then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from grpo.common.command_line import Parser, file_path, run
from grpo.common.errors import UserError
from grpo.common.files import check_writable, json_line, write_atomically
from rewards.accuracy import accuracy
from rewards.execution.pool import Pool, Task
from rewards.types import InfrastructureError, NeedsWorkerError, Reward, Sample

EXIT_RETRY = 75  # the machine is at fault; running again may help
_CHUNK = 512  # lines that are in memory and in the workers at a time


class BadLineError(UserError):
    """A line of the input that is not a case."""


def main(argv: Sequence[str] | None = None) -> int:
    """Grade the input line by line, keeping its order; returns the exit status."""
    return run(_main, argv)


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse(argv)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least 1 is needed")
    try:
        if args.output.exists() and args.output.samefile(args.input):
            raise UserError(f"--output {args.output}: is the input, which would be lost")
        with _opened(args.input) as source:
            progress = _Progress(sum(1 for _ in source))
        if args.output.exists() and not args.output.is_file() and not args.output.is_dir():
            # A pipe or a terminal has no part to hide.
            with args.output.open("w", encoding="utf-8", errors="backslashreplace") as output:
                output.writelines(json_line(row) + "\n" for row in _rows(args, progress))
        else:
            check_writable([args.output])
            # Resolved, so that a link goes on pointing to its file.
            write_atomically({args.output.resolve(): _rows(args, progress)})
    except OSError as error:
        raise UserError(f"{error.filename or args.output}: {error.strerror or error}") from error
    except InfrastructureError as error:
        print(f"grpo: {error}", file=sys.stderr)
        return EXIT_RETRY
    if progress.bad:
        print(f"skipped {progress.bad} bad lines of {progress.total}", file=sys.stderr)
    return 0


def _parser() -> Parser:
    parser = Parser("rewards.grade", "Grade final answers against gold answers.")
    parser.add_argument(
        "--input",
        type=file_path,
        required=True,
        help="JSONL; each line has `response`, `gold`, maybe `id`",
    )
    parser.add_argument(
        "--output",
        type=file_path,
        required=True,
        help="JSONL: id, score, reason, extracted; same order",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes for the answers that need one"
    )
    parser.add_argument(
        "--source",
        choices=["boxed", "answer_tag", "any"],
        default="any",
        help="where answers stand",
    )
    parser.add_argument("--skip-bad", action="store_true", help="report malformed lines and go on")
    return parser


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="surrogateescape")


def _rows(args: argparse.Namespace, progress: _Progress) -> Iterator[dict[str, Any]]:
    """The scores, in the order of the input.

    Raises:
        BadLineError: a line is no case, and bad lines are not skipped.
    """
    with _opened(args.input) as source, Pool(args.workers) as pool:
        try:
            for chunk in _chunks(source):
                cases = []
                for number, line in chunk:
                    try:
                        cases.append(_case(line, number))
                    except BadLineError as error:
                        if not args.skip_bad:
                            raise
                        print(error, file=sys.stderr)
                        progress.bad += 1
                rewards = _grade_cases(cases, args.source, pool)
                for case, reward in zip(cases, rewards, strict=True):
                    yield _scored(case, reward)
                progress.show(progress.done + len(chunk))
        finally:
            progress.end()


def _chunks(lines: TextIO) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        chunk.append((number, line))
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _case(line: str, number: int) -> dict[str, Any]:
    """The case on a line.

    Raises:
        BadLineError: it is not an object with the texts `response` and `gold`; the message has its
        number.
    """
    try:
        case = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"line {number}: not JSON: {error}") from None
    if not isinstance(case, dict):
        raise BadLineError(f"line {number}: not a JSON object")
    for key in ("response", "gold"):
        if not isinstance(case.get(key), str):
            state = "missing" if key not in case else "not a string"
            raise BadLineError(f"line {number}: `{key}` is {state}")
    return case


def _grade_cases(cases: list[dict[str, Any]], source: str, pool: Pool) -> list[Reward]:
    samples = [Sample(response=case["response"], gold=case["gold"]) for case in cases]
    rewards: dict[int, Reward] = {}
    tasks: dict[int, Task] = {}
    for index, sample in enumerate(samples):
        try:
            rewards[index] = accuracy(sample, source=source)
        except NeedsWorkerError:
            tasks[index] = Task(name="accuracy", samples=[sample], options={"source": source})
    results = pool.run(list(tasks.values())) if tasks else []
    rewards |= {index: result[0] for index, result in zip(tasks, results, strict=True)}
    return [rewards[index] for index in range(len(samples))]


def _scored(case: dict[str, Any], reward: Reward) -> dict[str, Any]:
    start = {"id": case["id"]} if "id" in case else {}
    return start | {
        "score": reward.score,
        "reason": reward.reason,
        "extracted": reward.details.get("extracted"),
    }


class _Progress:
    """A bar on standard error, redrawn a few times a second; one plain line at the end where it is
    no terminal.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.bad = 0
        self.started = self.drawn = time.monotonic()

    def show(self, done: int) -> None:
        self.done = done
        now = time.monotonic()
        if sys.stderr.isatty() and (now - self.drawn > 0.2 or done == self.total):
            self.drawn = now
            filled = 30 * done // max(self.total, 1)
            bar = "#" * filled + "-" * (30 - filled)
            print(
                f"\r[{bar}] {done}/{self.total} {self._rate()}", end="", file=sys.stderr, flush=True
            )

    def end(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        else:
            print(f"graded {self.done}/{self.total} lines, {self._rate()}", file=sys.stderr)

    def _rate(self) -> str:
        return f"{self.done / max(time.monotonic() - self.started, 1e-9):.0f} lines/s"


if __name__ == "__main__":
    sys.exit(main())
