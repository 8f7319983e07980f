"""Two results, paired by problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.evaluation.samples import RESULT, differences
from grpo.evaluation.statistics import paired_test


def read_result(path: Path) -> dict[str, Any]:
    """The result of an evaluation, from its folder or its result.json.

    Raises:
        UserError: there is none, or it is none of `grpo eval`.
    """
    file = path / RESULT if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: no such file; an evaluation writes it when it is finished")
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is no JSON ({error})") from None
    if not isinstance(result, dict) or not {"sets", "problems", "settings"} <= result.keys():
        raise UserError(f"{file}: is no result of `grpo eval`, which writes result.json")
    return result


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Differences of accuracy by set, second minus first, over the problems that both have.

    Other settings or versions do not stop a comparison. They are listed, because the difference is
    then one of models and settings together.

    Raises:
        UserError: no set in common, a set whose data differ, or one without a common problem.
    """
    common = [name for name in first["sets"] if name in second["sets"]]
    if not common:
        raise UserError(
            f"nothing to pair: the first has the sets {', '.join(first['sets'])}, the second "
            f"{', '.join(second['sets'])}; evaluate both on one"
        )
    confidence = first["settings"]["confidence"]
    sets: dict[str, Any] = {}
    for name in common:
        digests = [result["data"][name]["sha256"] for result in (first, second)]
        if digests[0] != digests[1]:
            raise UserError(
                f"{name}: the two were measured on different data (sha256 {digests[0][:12]} and "
                f"{digests[1][:12]}), so problems of one id may differ; evaluate both on one file"
            )
        counts = [result["problems"][name] for result in (first, second)]
        sizes = [result["sets"][name]["num_samples"] for result in (first, second)]
        shared = [problem for problem in counts[0] if problem in counts[1]]
        if not shared:
            raise UserError(f"{name}: the two have no problem in common")
        rates = [
            [count[problem] / size for problem in shared]
            for count, size in zip(counts, sizes, strict=True)
        ]
        test = paired_test(rates[0], rates[1], confidence)
        sets[name] = {
            "num_problems": len(shared),
            "unpaired": [len(count) - len(shared) for count in counts],
            "accuracy": [sum(some) / len(shared) for some in rates],
            "difference": test.difference,
            "interval": test.interval,
            "p_value": test.p_value,
            "better": test.better,
            "worse": test.worse,
        }
    told = [
        difference
        for part in ("settings", "versions")
        for difference in differences(first[part], second[part])
    ]
    return {
        "sets": sets,
        "only_first": [name for name in first["sets"] if name not in common],
        "only_second": [name for name in second["sets"] if name not in common],
        "differing": [t.replace(" there, ", " and ").removesuffix(" here") for t in told],
        "same_weights": first["model"]["weights_sha256"] == second["model"]["weights_sha256"],
        "confidence": confidence,
    }
