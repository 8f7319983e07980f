"""`python -m conformance.run --implementation ours|trl|verl [--json]`: who computes what.

A case is passed, differs, or is not offered. A difference is explained by the setting under which
the implementation's value is the right one. One that no setting explains is a defect, and the exit
status is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from conformance.vectors import KINDS, Case, NotOfferedError, difference, finite, load

PASSED, DIFFERS, NOT_OFFERED = "passed", "differs", "not offered"
IMPLEMENTATIONS = ("ours", "trl", "verl")
DEFECT = "defect"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an implementation made of one case."""

    id: str
    kind: str
    outcome: str
    reason: str = ""  # the setting that explains a difference or is not offered, or "defect"
    found: Any = None  # what was computed, where it differs


def judge(case: Case, compute: Callable[[Case], dict[str, Any]]) -> Outcome:
    """Run one case. An adapter that raises anything else has a fault itself."""
    try:
        found = compute(case)
    except NotOfferedError as missing:
        return Outcome(case["id"], case["kind"], NOT_OFFERED, str(missing))
    if difference(found, case["expected"], case["tolerance"]) <= 1:
        return Outcome(case["id"], case["kind"], PASSED)
    reason = DEFECT if finite(found) else f"{DEFECT} (NaN or infinite)"
    for name, other in case["alternatives"].items():
        if difference(found, other, case["tolerance"]) <= 1:
            reason = name
            break
    return Outcome(case["id"], case["kind"], DIFFERS, reason, found)


def run(implementation: str) -> list[Outcome]:
    """All cases on one implementation.

    Args:
        implementation: a module of `conformance.implementations`.
    """
    adapter = importlib.import_module(f"conformance.implementations.{implementation}")
    return [judge(case, adapter.compute) for case in load()]


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts for each kind, then every difference with its reason."""
    lines = [f"{'kind':<16}{PASSED:>8}{DIFFERS:>9}{NOT_OFFERED:>13}"]
    for kind in (*KINDS, "all"):
        counts = [
            sum(1 for o in outcomes if o.outcome == name and kind in (o.kind, "all"))
            for name in (PASSED, DIFFERS, NOT_OFFERED)
        ]
        lines.append(f"{kind:<16}{counts[0]:>8}{counts[1]:>9}{counts[2]:>13}")
    for name in (DIFFERS, NOT_OFFERED):
        some = [o for o in outcomes if o.outcome == name]
        if some:
            lines += ["", f"{name}:"] + [f"  {o.id}: {o.reason}" for o in some]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a difference is a defect."""
    parser = argparse.ArgumentParser(prog="python -m conformance.run", description=__doc__)
    parser.add_argument("--implementation", choices=IMPLEMENTATIONS, required=True)
    parser.add_argument("--json", action="store_true", help="one object for each case, as a list")
    chosen = parser.parse_args(arguments)
    outcomes = run(chosen.implementation)
    if chosen.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        adapter = importlib.import_module(f"conformance.implementations.{chosen.implementation}")
        print(f"{adapter.NAME}\n\n{table(outcomes)}")
    return 1 if any(outcome.reason.startswith(DEFECT) for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
