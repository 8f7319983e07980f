"""Do the tests notice faults? Plants one at a time in a copy of the tree: `make mutants`.

A fault is a text, what replaces it, and the tests that should fail then. Its text must occur
exactly once below its folder. So the list stays true when files move, and fails when the line is
rewritten.

    python -m benchmarks.mutants [--jobs 2] [--only WORD] [--check]
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mutants_list import FAULTS, Fault

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What became of one fault. `verdict` is killed, survived or error."""

    fault: Fault
    verdict: str
    seconds: float
    detail: str = ""


def locate(tree: Path, fault: Fault) -> Path:
    """The one file below `fault.where` that holds the text.

    Raises:
        LookupError: the text occurs nowhere, or more than once.
    """
    top = tree / fault.where
    files = [top] if top.is_file() else sorted(top.rglob("*.py"))
    counts = {file: file.read_text(encoding="utf-8").count(fault.old) for file in files}
    if sum(counts.values()) != 1:
        raise LookupError(f"its text occurs {sum(counts.values())} times below {fault.where}")
    return next(file for file, count in counts.items() if count)


def run_tests(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Pytest in the copy, up to the first failure."""
    # A fault may have the size of what it replaces, and come in the same second: byte code of the
    # sound file would be taken for its own.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=900
    )


def try_fault(tree: Path, fault: Fault) -> Outcome:
    """Plant one fault, run its tests, and mend it again."""
    start = time.monotonic()
    try:
        file = locate(tree, fault)
    except LookupError as error:
        return Outcome(fault, "error", 0.0, str(error))
    sound = file.read_text(encoding="utf-8")
    file.write_text(sound.replace(fault.old, fault.new), encoding="utf-8")
    try:
        done = run_tests(tree, fault.tests)
    except subprocess.TimeoutExpired:
        # A fault that makes the tests hang has been noticed.
        return Outcome(fault, "killed", time.monotonic() - start, "timeout")
    finally:
        file.write_text(sound, encoding="utf-8")
    # 1: a test failed. Anything else says nothing of the tests: 2 is a file that could not be
    # imported, 4 a test that does not exist, 5 no test at all. Then the list is at fault.
    verdict = {0: "survived", 1: "killed"}.get(done.returncode, "error")
    told = f"pytest ended with {done.returncode}: {done.stdout[-600:]}{done.stderr[-300:]}"
    return Outcome(fault, verdict, time.monotonic() - start, told if verdict == "error" else "")


def copy_tree(target: Path) -> Path:
    """What git knows of the tree, new files included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def main(argv: list[str] | None = None) -> int:
    """Run the list and print a table; 1 when a fault survives or cannot be planted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="faults whose name or folder contains this")
    parser.add_argument("--check", action="store_true", help="only look whether texts are found")
    options = parser.parse_args(argv)
    chosen = [f for f in FAULTS if options.only in f.name or options.only in f.where]
    if options.check:
        return check(chosen)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for i in range(options.jobs):
            trees.put(copy_tree(Path(folder) / str(i)))

        def one(fault: Fault) -> Outcome:
            tree = trees.get()
            try:
                return try_fault(tree, fault)
            finally:
                trees.put(tree)

        # Tests that fail anyhow would count every fault as noticed.
        sound = run_tests(
            Path(folder) / "0", tuple(sorted({test for f in chosen for test in f.tests}))
        )
        if sound.returncode:
            print("the tests fail without any fault:\n" + sound.stdout[-3000:])
            return 1
        with ThreadPoolExecutor(options.jobs) as workers:
            outcomes = []
            for outcome in workers.map(one, chosen):
                outcomes.append(outcome)
                print(
                    f"{outcome.verdict:9} {outcome.seconds:6.1f} s  {outcome.fault.where:18} "
                    f"{outcome.fault.name} {outcome.detail}",
                    flush=True,
                )
    killed = sum(outcome.verdict == "killed" for outcome in outcomes)
    print(f"{killed} of {len(outcomes)} faults noticed")
    return int(killed < len(outcomes))


def check(faults: list[Fault]) -> int:
    """Whether every text is found once; prints those that are not."""
    wrong = 0
    for fault in faults:
        try:
            locate(ROOT, fault)
        except LookupError as error:
            wrong += 1
            print(f"{fault.name}: {error}")
    print(f"{len(faults) - wrong} of {len(faults)} texts found")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
