"""Probes: functions that look at the responses of an evaluation and measure behaviour.

A recipe names them in `evaluation.probes`. Their numbers are recorded beside accuracy, under their
own names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from grpo.common.names import Registry
from grpo.types import ScoredGroup
from rewards import Sample
from rewards.shaping.language import question_language, share_of_words, thought

Probe = Callable[[Sequence[ScoredGroup]], dict[str, float]]
PROBES: Registry[Probe] = Registry("probe")


@PROBES.register("languages")
def languages(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """How far thoughts keep to the language of their question.

    `language_share` is the mean share of a thought's words that are in it, `one_language_share` the
    share of thoughts with no other word; both also for each language of questions. A thought
    without words is left out.
    """
    found: dict[str, list[float]] = {"": []}
    for group in groups:
        question = group.group.prompt.problem.question
        for response in group.group.responses:
            text = thought(Sample(response=response.text, gold=""))
            share = share_of_words(text, question)
            if share is not None:
                found[""].append(share)
                found.setdefault(f"/{question_language(question)}", []).append(share)
    metrics = {}
    for suffix, shares in found.items():
        if shares:
            metrics[f"language_share{suffix}"] = fmean(shares)
            metrics[f"one_language_share{suffix}"] = fmean(share == 1 for share in shares)
    return metrics
