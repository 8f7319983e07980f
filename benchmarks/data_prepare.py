"""How long preparing data takes, how much memory it needs, and whether it finds what it must.

    python -m benchmarks.data_prepare --data DIR             # DeepScaleR against seven evaluation
    sets python -m benchmarks.data_prepare --data DIR --overlaps  # with copies of evaluation
    problems planted python -m benchmarks.data_prepare --synthetic 1000000    # generated rows, to
    see how memory grows

Each run is a fresh process of `python -m data.prepare`; memory is the resident set of it and its
workers together, sampled ten times a second. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.generators import LEVELLED

TRAIN = "deepscaler_train"
EVALUATION_SETS = ("gsm8k_test", "math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with the DeepScaleR and evaluation files"
    )
    parser.add_argument(
        "--overlaps", action="store_true", help="plant copies of evaluation problems"
    )
    parser.add_argument(
        "--synthetic", type=int, metavar="ROWS", help="rows of generated word problems"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.synthetic:
            rows = folder / "synthetic.jsonl"
            _write(rows, _synthetic(args.synthetic))
            for workers in args.workers:
                _report(run(folder, [rows], [], workers))
        elif args.data and args.overlaps:
            _report(find_planted(folder, args.data, args.workers[-1]))
        elif args.data:
            against = [args.data / f"{name}.jsonl" for name in EVALUATION_SETS]
            for workers in args.workers:
                _report(run(folder, [args.data / f"{TRAIN}.jsonl"], against, workers))
        else:
            parser.error("give --data or --synthetic")


def run(
    folder: Path, inputs: Sequence[Path], against: Sequence[Path], workers: int
) -> dict[str, Any]:
    """One preparation: seconds, memory, and what came of it."""
    command = [
        sys.executable,
        "-m",
        "data.prepare",
        "--input",
        *map(str, inputs),
        "--workers",
        str(workers),
    ]
    command += ["--against", *map(str, against)] if against else []
    command += ["--output", str(folder / "clean.jsonl"), "--report", str(folder / "report.json")]
    start, cpu_before = time.monotonic(), _children_cpu_seconds()
    process = subprocess.Popen(
        [*command, "--dropped", str(folder / "dropped.jsonl")], stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_resident_bytes(pid) for pid in _tree(process.pid)))
        time.sleep(0.1)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"data.prepare ended with {process.returncode}")
    report = json.loads((folder / "report.json").read_text())
    return {
        "workers": workers,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_children_cpu_seconds() - cpu_before, 1),
        "peak_megabytes": round(peak / 2**20),
        "input_megabytes": round(sum(path.stat().st_size for path in inputs) / 2**20, 1),
        "rows_in": report["rows_in"],
        "rows_out": report["rows_out"],
        "dropped": {stage["stage"]: stage["dropped"] for stage in report["stages"]},
    }


def find_planted(folder: Path, data: Path, workers: int) -> dict[str, Any]:
    """Plant every evaluation problem twice, exactly and nearly, and count those that are not found.

    A mistake is a training row that decontamination takes out although no evaluation problem is
    nearly the same under the rule that made the copies: word tokens in lower case, Jaccard at least
    0.8, same
        numbers.
    """
    rng = random.Random(0)
    against = [data / f"{name}.jsonl" for name in EVALUATION_SETS]
    evaluation = [row for path in against for row in _read(path)]
    train = list(_read(data / f"{TRAIN}.jsonl"))
    copies = []
    for row in evaluation:
        copies.append(
            {**row, "id": f"exact/{row['id']}", "problem": _exact_copy(rng, row["problem"])}
        )
        if (near := _near_copy(rng, row["problem"])) is not None:
            copies.append({**row, "id": f"near/{row['id']}", "problem": near})
    rows = folder / "planted.jsonl"
    _write(rows, [*train, *copies])
    figures = run(folder, [rows], against, workers)
    found = {
        row["id"] for row in _read(folder / "dropped.jsonl") if row["stage"] == "decontaminate"
    }
    overlapping = _overlapping(train, evaluation)
    clean = [row["id"] for row in train if row["id"] not in overlapping]
    return figures | {
        "planted_exact": sum(row["id"].startswith("exact/") for row in copies),
        "planted_near": sum(row["id"].startswith("near/") for row in copies),
        "missed_planted": sorted(row["id"] for row in copies if row["id"] not in found),
        "overlaps_in_train": len(overlapping),
        "missed_in_train": sorted(overlapping - found),
        "clean_rows_removed_percent": round(
            100 * sum(row in found for row in clean) / len(clean), 3
        ),
    }


def _exact_copy(rng: random.Random, text: str) -> str:
    changes = (str.upper, str.lower, lambda t: re.sub(r"\s+", "\n ", t), lambda t: f"  {t}  ")
    return str(rng.choice(changes)(text))


def _near_copy(rng: random.Random, text: str) -> str | None:
    """Words replaced or taken out, as many as the similarity allows; None when not even
    one can be.
    """
    words = text.split(" ")
    for _ in range(60):
        i = rng.randrange(len(words))
        changed = [
            *words[:i],
            *rng.choice(([], [f"zq{rng.randrange(99)}".translate(_NO_DIGITS)])),
            *words[i + 1 :],
        ]
        if not re.search(r"\d", words[i]) and _similarity(" ".join(changed), text) >= 0.8:
            words = changed
    copy = " ".join(words)
    return copy if _tokens(copy) != _tokens(text) else None


_NO_DIGITS = str.maketrans("0123456789", "bcdfghjklm")


def _overlapping(train: Sequence[dict[str, Any]], evaluation: Sequence[dict[str, Any]]) -> set[str]:
    by_numbers: dict[frozenset[str], list[frozenset[str]]] = {}
    for row in evaluation:
        by_numbers.setdefault(_numbers(row["problem"]), []).append(_tokens(row["problem"]))
    return {
        row["id"]
        for row in train
        for tokens in [_tokens(row["problem"])]
        if any(
            _jaccard(tokens, other) >= 0.8 for other in by_numbers.get(_numbers(row["problem"]), ())
        )
    }


def _similarity(a: str, b: str) -> float:
    return _jaccard(_tokens(a), _tokens(b))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def _tokens(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _numbers(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\d+(?:\.\d+)?", text))


def _synthetic(count: int) -> Iterator[dict[str, Any]]:
    """Word problems, a tenth of them a second time."""
    stream = LEVELLED["symbolic"].stream(seed=0)
    for number in range(count):
        problem = next(stream)
        yield problem.to_row()
        if number % 10 == 0:
            yield {**problem.to_row(), "id": f"{problem.id}-again"}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(deeper for child in children for deeper in _tree(int(child)))]


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def _report(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
