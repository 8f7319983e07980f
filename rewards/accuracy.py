"""Accuracy reward: is the final answer of a response the gold answer?"""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.registry import register
from rewards.types import Reward, Sample

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d{1,1000}(?:\.\d{1,1000})?(?:/\d{1,1000})?")


def accuracy_reward(response: str, gold: str, *, prompt_opens_think: bool = False) -> Reward:
    """1 when the answer that follows the last `</think>` equals `gold`, else 0.

    An answer inside the thought does not count, and an unclosed thought scores 0.
    Numbers are compared exactly, as fractions; anything else as stripped text.
    """
    _, closed, final = response.rpartition("</think>")
    if not closed and (prompt_opens_think or "<think>" in response):
        return Reward(0.0, "unclosed_thought")
    answers = _ANSWER.findall(final)
    if not answers:
        return Reward(0.0, "no_answer")
    if len(set(answers)) > 1:
        return Reward(0.0, "several_answers", {"extracted": answers[-1]})
    answer = answers[-1].strip()
    correct = _same(answer, gold.strip())
    return Reward(float(correct), "correct" if correct else "wrong", {"extracted": answer})


@register("accuracy")
def accuracy(sample: Sample) -> Reward:
    """`accuracy_reward` of a sample; a truncated response scores 0."""
    if sample.truncated:
        return Reward(0.0, "truncated")
    return accuracy_reward(sample.response, sample.gold, prompt_opens_think=sample.prompt_opens_think)


def _same(answer: str, gold: str) -> bool:
    if answer == gold:
        return True
    number, target = _number(answer), _number(gold)
    return number is not None and number == target


def _number(text: str) -> Fraction | None:
    if not _NUMBER.fullmatch(text) or re.search(r"/0+$", text):
        return None
    numerator, _, denominator = text.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)
