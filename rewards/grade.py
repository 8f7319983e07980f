"""Grade a file of responses: `python -m rewards.grade --input cases.jsonl --output scores.jsonl`.

The output appears whole at the end, or not at all; an earlier file of that name stays until then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rewards.accuracy import accuracy
from rewards.execution.pool import Pool, Task
from rewards.types import InfrastructureError, NeedsWorkerError, Reward, Sample

EXIT_CONFIG = 78  # the input is wrong; running again would not help
EXIT_RETRY = 75  # the machine is; running again may help
_CHUNK = 512  # lines that are in memory and in the workers at a time


class BadLineError(ValueError):
    """A line of the input that is not a case."""


def main(argv: Sequence[str] | None = None) -> int:
    """Grade the input line by line, keeping its order; returns the exit status."""
    args = _parser().parse_args(argv)
    if args.workers < 1:
        print(f"--workers {args.workers}: at least 1 is needed", file=sys.stderr)
        return EXIT_CONFIG
    try:
        if args.output.exists() and args.output.samefile(args.input):
            print(f"--output {args.output}: is the input, which would be lost", file=sys.stderr)
            return EXIT_CONFIG
        with args.input.open(encoding="utf-8", errors="surrogateescape") as source:
            num_lines = sum(1 for _ in source)
        bad = _grade_file(args, num_lines)
    except (BadLineError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except InfrastructureError as error:
        print(error, file=sys.stderr)
        return EXIT_RETRY
    if bad:
        print(f"skipped {bad} bad lines of {num_lines}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rewards.grade", description="Grade final answers against gold answers."
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="JSONL; each line has `response`, `gold`, maybe `id`",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="JSONL: id, score, reason, extracted; same order"
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


def _grade_file(args: argparse.Namespace, num_lines: int) -> int:
    """Write the scores; the number of skipped lines.

    Raises:
        BadLineError: a line is no case, and bad lines are not skipped.
    """
    bad = done = 0
    progress = _Progress(num_lines)
    with (
        args.input.open(encoding="utf-8", errors="surrogateescape") as source,
        _whole_or_not(args.output) as output,
        Pool(args.workers) as pool,
    ):
        for chunk in _chunks(source):
            cases = []
            for number, line in chunk:
                try:
                    cases.append(_case(line, number))
                except BadLineError as error:
                    if not args.skip_bad:
                        progress.end()
                        raise
                    print(error, file=sys.stderr)
                    bad += 1
            rewards = _grade_cases(cases, args.source, pool)
            for case, reward in zip(cases, rewards, strict=True):
                output.write(json.dumps(_scored(case, reward)) + "\n")
            done += len(chunk)
            progress.show(done)
    progress.end()
    return bad


@contextmanager
def _whole_or_not(path: Path) -> Iterator[TextIO]:
    """A file to write that gets its name once all of it is written; a fault leaves what stood
    there.
    """
    if (
        path.exists() and not path.is_file()
    ):  # a pipe or a terminal has no part to hide; a folder is refused here
        with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        return
    path = path.resolve()  # a link goes on pointing to its file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _chunks(lines: Iterator[str]) -> Iterator[list[tuple[int, str]]]:
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
        self.done = 0
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
