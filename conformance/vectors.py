"""The cases as they lie in `cases/`, and what every case must have. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CASES = Path(__file__).resolve().parent / "cases"
FIELDS = {
    "id",
    "kind",
    "source",
    "trap",
    "input",
    "settings",
    "expected",
    "alternatives",
    "tolerance",
}
# What input, settings and expected hold at least, by kind. README.md says what they mean.
KINDS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "advantage": ({"rewards"}, {"estimator"}, {"advantages"}),
    "ratio": ({"logp", "old_logp", "mask"}, {"level"}, {"ratios"}),
    "mismatch": (
        {"old_logp", "behaviour_logp", "mask"},
        {"kind", "level", "low", "high"},
        {"weights"},
    ),
    "kl": ({"logp", "reference_logp"}, {"estimator"}, {"kl", "gradient"}),
    "kl_expectation": ({"logits", "reference_logits"}, {"estimator", "place"}, {"gradient"}),
    "aggregation": (
        {"values", "mask"},
        {"aggregation", "constant", "group_size"},
        {"weights", "aggregate"},
    ),
    "loss": (
        {"logp", "old_logp", "advantages", "mask"},
        {"objective", "aggregation", "constant", "group_size"},
        {"loss", "gradient"},
    ),
    "reward": ({"lengths"}, {"reward"}, {"rewards"}),
    "return": ({"scores"}, {"discount"}, {"returns"}),
    "learning_rate": (
        {"steps"},
        {"schedule", "peak", "warmup_steps", "max_steps", "final_share"},
        {"learning_rates"},
    ),
    "controller": ({"coef", "target"}, {"controller"}, {"coef"}),
}

Case = Mapping[str, Any]


class NotOfferedError(Exception):
    """An implementation has no such setting. The message says which."""


def load(folder: Path = CASES) -> list[dict[str, Any]]:
    """All cases, by kind and in the order of their files.

    Raises:
        ValueError: a case that is not of the schema, or an id that two cases have.
    """
    cases: list[dict[str, Any]] = []
    for kind in KINDS:
        for case in json.loads((folder / f"{kind}.json").read_text()):
            problem = fault(case)
            if problem:
                raise ValueError(f"{kind}.json, case {case.get('id')}: {problem}")
            cases.append(case)
    ids = [case["id"] for case in cases]
    if len(set(ids)) != len(ids):
        raise ValueError(f"ids are not unique: {sorted({i for i in ids if ids.count(i) > 1})}")
    return cases


def fault(case: Case) -> str | None:
    """What is wrong with a case, or None."""
    if set(case) != FIELDS:
        return f"fields {sorted(set(case) ^ FIELDS)} are missing or unknown"
    if case["kind"] not in KINDS:
        return f"kind {case['kind']!r} is unknown"
    for name, needed in zip(("input", "settings", "expected"), KINDS[case["kind"]], strict=True):
        if not needed <= set(case[name]):
            return f"{name} lacks {sorted(needed - set(case[name]))}"
    if set(case["tolerance"]) != {"relative", "absolute"}:
        return "tolerance is relative and absolute"
    for name, other in case["alternatives"].items():
        if set(other) != set(case["expected"]):
            return f"alternative {name!r} has other fields than expected"
    return None


def difference(found: Any, expected: Any, tolerance: Mapping[str, float]) -> float:
    """The largest distance between nested lists of numbers, in units of what is tolerated.

    At most 1 is equal. Infinite for another shape, for NaN, and for a number where None is meant.
    """
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(expected):
            return math.inf
        return max(difference(found[name], expected[name], tolerance) for name in expected)
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return math.inf
        pairs = zip(found, expected, strict=True)
        return max((difference(a, b, tolerance) for a, b in pairs), default=0.0)
    if expected is None or found is None:
        return 0.0 if found is expected else math.inf
    if math.isnan(found):
        return math.inf
    allowed = tolerance["absolute"] + tolerance["relative"] * abs(expected)
    return float(abs(found - expected) / allowed)


def finite(value: Any) -> bool:
    """Are all numbers of nested lists and dictionaries finite?"""
    if isinstance(value, Mapping):
        return all(finite(item) for item in value.values())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return value is None or math.isfinite(value)


PADDING = -7.0  # no value of a case, so that who counts it is found


def filled(value: Any, nothing: float = PADDING) -> Any:
    """Nested lists with a number in place of every None."""
    if isinstance(value, list):
        return [filled(item, nothing) for item in value]
    return nothing if value is None else value
