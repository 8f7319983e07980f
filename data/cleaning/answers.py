"""Answer normalisation: the same answer written in the same way. The value is never changed."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from fractions import Fraction
from typing import ClassVar

from data.cleaning.base import Context, Dropped, Result, Stage
from data.cleaning.text import normal
from data.latex import last_boxed, strip_wrappers
from data.types import Problem
from rewards import accuracy_reward

_LEAD = re.compile(r"(?:the )?(?:final )?answer(?: is)?(?: [:=]|[:=]| )\s*(?=[^\s.])", re.I)
_ALTERNATIVES = re.compile(r"\s*(?:\\text\s*\{\s*(?:or|OR)\s*\}|\bOR\b)\s*")
_DECIMAL = re.compile(r"[+-]?\d{1,400}(?:\.\d{1,400})?")
_FRACTION = re.compile(
    r"([+-]?)(?:\\frac\{([+-]?\d{1,400})\}\{(\d{1,400})\}|([+-]?\d{1,400})/(\d{1,400}))"
)


class NormaliseAnswers(Stage):
    r"""Takes what stands around an answer off it, such as `$`, `\[` and `\boxed{}`; keeps the
    original beside it.
    """

    name: ClassVar[str] = "normalise_answers"

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        kept: list[Problem] = []
        dropped: list[Dropped] = []
        changed = 0
        for problem in problems:
            if not problem.answer:  # a model of preferences scores it
                kept.append(problem)
                continue
            answer = normalise(problem.answer)
            if not answer.strip("{}() "):
                dropped.append(Dropped(problem=problem, stage=self.name, reason="empty_answer"))
            elif answer == problem.answer:
                kept.append(problem)
            else:
                changed += 1
                extra = {**problem.extra, "original_answer": problem.answer}
                kept.append(dataclasses.replace(problem, answer=answer, extra=extra))
        return Result(kept, dropped, {"changed": changed})


def normalise(answer: str) -> str:
    r"""The answer without what is around it; of two ways to write a value (`0.5 \text{ or }
    \frac12`) the first.
    """
    answer = strip_wrappers(unicodedata.normalize("NFC", answer))
    answer = strip_wrappers(_LEAD.sub("", answer, count=1)) if _LEAD.match(answer) else answer
    if answer.count(r"\boxed") == 1 and (boxed := last_boxed(answer)):
        return strip_wrappers(boxed)  # a derivation that ends in its box
    first, *others = _ALTERNATIVES.split(answer)
    if others and all(same_answer(first, other) for other in others):
        return first
    return answer


def answer_key(answer: str) -> str:
    """Equal for two answers that differ in their looks only, or that are the same rational
    number.
    """
    text = re.sub(r"\s+", "", normal(strip_wrappers(answer)))
    if _DECIMAL.fullmatch(text):
        return str(Fraction(text))
    if match := _FRACTION.fullmatch(text):
        sign, top, bottom, top2, bottom2 = match.groups()
        if int(bottom or bottom2):
            value = Fraction(int(top or top2), int(bottom or bottom2))
            return str(-value if sign == "-" else value)
    return text


def same_answer(a: str, b: str) -> bool:
    """True when the project's grader takes one for the other, in at least one direction."""
    if answer_key(a) == answer_key(b):
        return True
    return any(
        accuracy_reward(f"<answer>{x}</answer>", y).score == 1.0 for x, y in ((a, b), (b, a))
    )
