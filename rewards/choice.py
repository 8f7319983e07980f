"""Choice letters, exact texts and numbers: answers that need no mathematics to compare."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.extract import Source, extract, final_part
from rewards.registry import register
from rewards.types import Reward, Sample

_LETTER = re.compile(
    r"(?:option|choice|answer)?\s*\(?\s*([A-Za-z])\s*(?:(?P<mark>\)|[.:])\s*(?P<text>\S[^\n]*)|[).:]*)",
    re.IGNORECASE,
)
_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{|[*$}]|\\[ ,;]")
_SECOND_CHOICE = re.compile(
    r"\s*(?:or|and|,|/|&)\b|\(?\b[A-Z]\b[).:]|\s*(?:is|isn['’]t|not|was|no)\b|[\W\d]*[A-Z]\W*$"
)
_FUNCTION_OF = re.compile(r"\w\([A-Z]\)")  # P(A)
_NUMBER = re.compile(
    r"([+-]?)(\d+(?:,\d{3})+|\d{1,400})?(\.\d{1,400})?(?:[eE]([+-]?\d{1,3}))?", re.ASCII
)


@register("choice", bounded=True, owns_gold=True)
def choice(sample: Sample, source: Source = "any", letters: str = "ABCDE") -> Reward:
    """1 when the answer is the gold letter: `C`, `(c)`, `C.`, `(C) 12`, `C: Both A and B`. Several
    choices are wrong.
    """
    answer = _answer(sample, source)
    if isinstance(answer, Reward):
        return answer
    match = _LETTER.fullmatch(_WRAPPERS.sub(" ", answer).strip())
    letter = match[1].upper() if match else None
    text = _FUNCTION_OF.sub("", (match["text"] or "") if match else "")
    offered = _SECOND_CHOICE.match(text) or re.search(r"\(?\b[A-Z]\b[).:]", text)
    if letter is None or letter not in letters or offered:
        return Reward(0.0, "no_letter", {"extracted": answer[:200]})
    right = letter == sample.gold.strip().strip("().").upper()
    return Reward(float(right), "correct" if right else "wrong", {"extracted": letter})


@register("exact", bounded=True, owns_gold=True)
def exact(sample: Sample, source: Source = "any", ignore_case: bool = True) -> Reward:
    """1 when the answer is the gold text, up to blanks (and case)."""
    answer = _answer(sample, source)
    if isinstance(answer, Reward):
        return answer
    texts = [" ".join(text.split()) for text in (answer, sample.gold)]
    right = texts[0].casefold() == texts[1].casefold() if ignore_case else texts[0] == texts[1]
    return Reward(float(right), "correct" if right else "wrong", {"extracted": answer[:200]})


@register("numeric", bounded=True, owns_gold=True)
def numeric(
    sample: Sample, source: Source = "any", rel_tol: float = 0.0, abs_tol: float = 0.0
) -> Reward:
    """1 when the answer is a plain decimal number within a tolerance of the gold one (exact by
    default).

    Raises:
        ValueError: the gold is not a number.
    """
    answer = _answer(sample, source)
    if isinstance(answer, Reward):
        return answer
    gold = _number(sample.gold)
    if gold is None:
        raise ValueError(f"the reward `numeric` needs a number as gold, not {sample.gold[:50]!r}")
    value = _number(answer)
    if value is None:
        return Reward(0.0, "no_number", {"extracted": answer[:200]})
    right = abs(value - gold) <= max(Fraction(rel_tol) * abs(gold), Fraction(abs_tol))
    return Reward(float(right), "correct" if right else "wrong", {"extracted": answer[:200]})


def _answer(sample: Sample, source: Source) -> str | Reward:
    """The one answer of a response, or the reward that says why there is none."""
    if sample.truncated:
        return Reward(0.0, "truncated")
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    if final is None:
        return Reward(0.0, "unclosed_thought")
    candidates, reason, _ = extract(final, source)
    if len({" ".join(text.split()) for text in candidates}) > 1:
        return Reward(0.0, "several_answers", {"extracted": candidates[-1][:200]})
    if not candidates:
        return Reward(0.0, reason)
    return candidates[-1] if len(candidates[-1]) <= 2_000 else Reward(0.0, "limit")


def _number(text: str) -> Fraction | None:
    text = text.strip().strip("$").rstrip(".").strip()
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    digits = (match[2] or "0").replace(",", "") + (match[3] or "")
    value = Fraction(digits) * Fraction(10) ** int(match[4] or 0)
    return -value if match[1] == "-" else value
