"""`python -m conformance.derive`: derive every case again and write conformance/cases/."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from conformance.derive import advantages, losses, ratios, small

CASES = Path(__file__).resolve().parent.parent / "cases"
GROUPS = (
    advantages.cases,
    ratios.ratio_cases,
    ratios.mismatch_cases,
    ratios.kl_cases,
    losses.aggregation_cases,
    losses.cases,
    small.reward_cases,
    small.return_cases,
    small.schedule_cases,
    small.controller_cases,
)


def derived() -> dict[str, str]:
    """The text of every file, by its name: one for each kind, one line for each field."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cases in GROUPS:
        for case in cases():
            by_kind[case["kind"]].append(case)
    return {f"{kind}.json": _text(cases) for kind, cases in by_kind.items()}


def _text(cases: list[dict[str, Any]]) -> str:
    def field(name: str, value: Any) -> str:
        if name == "alternatives" and value:
            inner = ",\n".join(
                f"      {json.dumps(key)}: {json.dumps(item, allow_nan=False)}"
                for key, item in value.items()
            )
            return f'    "alternatives": {{\n{inner}\n    }}'
        return f"    {json.dumps(name)}: {json.dumps(value, allow_nan=False)}"

    blocks = (",\n".join(field(*item) for item in case.items()) for case in cases)
    return "[\n" + ",\n".join(f"  {{\n{block}\n  }}" for block in blocks) + "\n]\n"


if __name__ == "__main__":
    for name, text in derived().items():
        (CASES / name).write_text(text)
        print(f"{CASES.name}/{name}")
