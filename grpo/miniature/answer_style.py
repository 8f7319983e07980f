"""How the answers of the miniature were reached: worked out step by step, carefully or in haste, or
just stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from grpo.evaluation.metrics import rate
from grpo.evaluation.probes import PROBES
from grpo.miniature import arithmetic
from grpo.types import ScoredGroup


@PROBES.register("answer_style")
def answer_style(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Shares of worked, bare and untagged responses, and the accuracy within each."""
    correct: dict[arithmetic.Style, list[float]] = {"worked": [], "bare": [], "none": []}
    for group in groups:
        for response, score in zip(group.group.responses, group.scores, strict=True):
            if "accuracy" in score.components:
                style = arithmetic.solution_style(response.text)
                correct[style].append(rate(score, "accuracy"))
    total = sum(map(len, correct.values()))
    metrics = {}
    for style, values in correct.items():
        metrics[f"{style}_share"] = len(values) / max(total, 1)
        if values:  # without such answers there is no accuracy, which is not the same as 0
            metrics[f"{style}_accuracy"] = fmean(values)
    return metrics


@PROBES.register("careful_work")
def careful_work(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """How the worked responses work: the share of them with one operation a line, and the accuracy
    within these and within the hasty rest.
    """
    correct: dict[str, list[float]] = {"careful": [], "hasty": []}
    for group in groups:
        for response, score in zip(group.group.responses, group.scores, strict=True):
            worked = arithmetic.solution_style(response.text) == "worked"
            if worked and "accuracy" in score.components:
                work = "hasty" if arithmetic.is_hasty(response.text) else "careful"
                correct[work].append(rate(score, "accuracy"))
    total = sum(map(len, correct.values()))
    metrics = {"careful_share": len(correct["careful"]) / total} if total else {}
    return metrics | {
        f"{work}_accuracy": fmean(values) for work, values in correct.items() if values
    }


def growth(base: Mapping[str, float], final: Mapping[str, float]) -> dict[str, float]:
    """Where the gain in accuracy came from: the shift between styles, or getting better within
    each.

    With shares s and accuracies a of each style, s' a' - s a = (s' - s) a + s' (a' - a): the first
    part is what the base model would have gained by changing how it answers alone, the second is
    better work within a style.
    """
    styles = ("worked", "bare", "none")
    before = {s: base.get(f"{s}_accuracy", 0.0) for s in styles}
    after = {s: final.get(f"{s}_accuracy", before[s]) for s in styles}
    shift = sum((final[f"{s}_share"] - base[f"{s}_share"]) * before[s] for s in styles)
    within = sum(final[f"{s}_share"] * (after[s] - before[s]) for s in styles)
    return {
        "accuracy_gain": shift + within,
        "from_shift_of_style": shift,
        "from_better_work": within,
    }
