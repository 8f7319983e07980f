"""Which responses to a problem give the same answer: the ballots of maj@k.

Answers are the same when the grader says so, not when their texts are: 0.5 and 1/2 are one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards import Sample, Scorer
from rewards.accuracy import accuracy_reward
from rewards.extract import extract, final_part
from rewards.responses import last_tagged

_MAX_SHOWN = 200  # characters of an answer that are kept

Ballot = tuple[str | None, int | None]  # the answer as written, and the number of its class


def ballots(
    samples: Sequence[Sample], right: Sequence[bool], checker: str, scorer: Scorer
) -> list[Ballot]:
    """The answer of each response to one problem, and its class: 0 is right, others count from 1.

    All right responses are one class, because each equals the gold. A wrong response is graded
    with the first answer of each wrong class as the gold, by the recipe's `accuracy`. Other
    checkers own their format of golds, so there wrong answers are compared as text without blanks.

    A response that was cut off, has an open thought or no answer votes for nothing. So does a
    wrong one that gives several answers.

    Args:
        samples: the responses to one problem.
        right: the grader's verdict on each.
        checker: the component that gave it.
        scorer: of the evaluation.
    """
    options = dict(scorer.components[checker].options)
    if checker == "accuracy":
        per_source = options.get("per_data_source") or {}
        options |= per_source.get(samples[0].data_source, {}) if samples else {}
        options.pop("per_data_source", None)
    by_grader = checker == "accuracy"
    found: list[Ballot] = []
    classes: list[str] = []  # the first answer of each wrong class
    known: dict[str, int] = {}  # answers that were compared before, by their text
    for sample, is_right in zip(samples, right, strict=True):
        answer = stated_answer(sample, options) if by_grader else _tagged_answer(sample)
        if is_right:
            found.append((answer, 0))
            continue
        if not answer:
            found.append((None, None))
            continue
        text = answer if by_grader else "".join(answer.split())
        if text not in known:
            same = (
                place
                for place, first in enumerate(classes, start=1)
                if by_grader and _equal(sample, first, options)
            )
            known[text] = next(same, len(classes) + 1)
            if known[text] > len(classes):
                classes.append(text)
        found.append((answer[:_MAX_SHOWN], known[text]))
    return found


def stated_answer(sample: Sample, options: Mapping[str, Any]) -> str | None:
    """The one answer that `accuracy` reads in a response; None without one, or with several."""
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    if sample.truncated or final is None:
        return None
    candidates = extract(final, options.get("source", "any")).candidates
    return candidates[-1].strip() if len(set(candidates)) == 1 else None


def _tagged_answer(sample: Sample) -> str | None:
    found = last_tagged(sample)
    return found.strip() if isinstance(found, str) else None


def _equal(sample: Sample, answer: str, options: Mapping[str, Any]) -> bool:
    """Does the grader take the response for right where `answer` is the gold?"""
    reward = accuracy_reward(
        sample.response,
        answer,
        prompt_opens_think=sample.prompt_opens_think,
        question=sample.question,
        **options,
    )
    return reward.score >= 1
