"""From the samples of an evaluation to its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from grpo.evaluation.samples import Key, Row
from grpo.evaluation.statistics import (
    clustered_interval,
    majority_at_k,
    pass_at_k,
    powers_up_to,
)

KINDS = ("level", "subject")


def set_report(groups: Sequence[Sequence[Row]], confidence: float) -> dict[str, Any]:
    """The scores of one set: a group is the n rows of a problem.

    `accuracy` is avg@n, the mean over problems of the share of right responses, which is also
    pass@1. A cut-off response is wrong, and is named apart where lengths are told, because its
    length is that of the limit.
    """
    num_samples = len(groups[0])
    rows = [row for group in groups for row in group]
    cut = [row for row in rows if row["finish_reason"] == "length"]
    right = [row for row in rows if row["right"]]
    wrong = [row for row in rows if not row["right"] and row["finish_reason"] != "length"]
    counts = [sum(row["right"] for row in group) for group in groups]
    votes = [_votes(group) for group in groups]
    ks = powers_up_to(num_samples)
    report = {
        "num_problems": len(groups),
        "num_samples": num_samples,
        **_accuracy(groups, confidence),
        "pass_at": {
            str(k): fmean(pass_at_k(num_samples, count, k) for count in counts) for k in ks
        },
        "majority_at": {str(k): fmean(majority_at_k(*vote, k) for vote in votes) for k in ks},
        "reward": fmean(row["reward"] for row in rows),
        "mean_length": fmean(row["length"] for row in rows),
        "truncation_share": len(cut) / len(rows),
        "no_answer_share": fmean(row["answer_class"] is None for row in rows),
        "lengths": {
            name: {
                "responses": len(some),
                "mean_length": fmean(row["length"] for row in some) if some else None,
            }
            for name, some in (("right", right), ("wrong", wrong), ("cut_off", cut))
        },
        "ungraded": sum(not row["graded"] for row in rows),
    }
    for kind in KINDS:
        values = sorted({row[kind] for row in rows if kind in row})
        if values:
            report[f"by_{kind}"] = {
                value: _accuracy([g for g in groups if g[0].get(kind) == value], confidence)
                for value in values
            }
    return report


def _accuracy(groups: Sequence[Sequence[Row]], confidence: float) -> dict[str, Any]:
    rates = [fmean(row["right"] for row in group) for group in groups]
    low, high = clustered_interval(rates, len(groups[0]), confidence)
    return {"num_problems": len(groups), "accuracy": fmean(rates), "interval": [low, high]}


def _votes(group: Sequence[Row]) -> tuple[int, list[int], int]:
    """Responses with the right answer, with each wrong one, and with none."""
    counts = Counter(row["answer_class"] for row in group)
    silent, right = counts.pop(None, 0), counts.pop(0, 0)
    return right, [counts[number] for number in sorted(counts)], silent


def report(groups: Mapping[Key, Sequence[Row]], confidence: float) -> dict[str, Any]:
    """The scores of all sets, their plain mean, and how each problem went."""
    names = dict.fromkeys(name for name, _ in groups)
    sets = {
        name: set_report([g for key, g in groups.items() if key[0] == name], confidence)
        for name in names
    }
    return {
        "sets": sets,
        "mean_accuracy": fmean(one["accuracy"] for one in sets.values()),
        "problems": {
            name: {
                key[1]: sum(row["right"] for row in group)
                for key, group in groups.items()
                if key[0] == name
            }
            for name in names
        },
    }


def pass_rate_rows(groups: Iterable[tuple[Key, Sequence[Row]]]) -> list[dict[str, Any]]:
    """What filters and curricula read: `id`, `pass_rate`, and what it was measured from."""
    return [
        {
            "id": key[1],
            "pass_rate": fmean(row["right"] for row in group),
            "num_samples": len(group),
            "set": key[0],
        }
        for key, group in groups
    ]
