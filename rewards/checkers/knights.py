"""Knights and knaves: is every person named, and as what they are?"""

from __future__ import annotations

import re

from rewards.extract import final_part, tagged
from rewards.registry import register
from rewards.types import Reward, Sample

_CLAIM = re.compile(
    r"\b([A-Z]\w{0,30}) is (?:a |the )?(not a )?(knight|knave)\b(?! or\b)", re.IGNORECASE
)


@register("knights", bounded=True)
def knights(sample: Sample, partial: bool = False) -> Reward:
    """1 when everyone is called what they are, else 0, or with `partial` the share of people called
    right.

    Claims are read from `<answer>`, or else from all that follows the last `</think>`. Someone who
    is called both is called wrong.
    """
    if sample.truncated:
        return Reward(0.0, "truncated")
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    if final is None:
        return Reward(0.0, "unclosed_thought")
    answers = tagged(final)
    claims = _claims(answers[-1] if answers else final)
    if not claims:
        return Reward(0.0, "no_answer")
    gold = _claims(sample.gold)
    right = sum(claims.get(name) == kinds for name, kinds in gold.items())
    details = {"right": right, "people": len(gold)}
    if right == len(gold) and len(claims) == len(gold):
        return Reward(1.0, "correct", details)
    # a claim about someone who is not there is one more wrong claim
    share = right / max(len(gold), len(claims))
    return Reward(
        share if partial else 0.0, "incomplete" if len(claims) < len(gold) else "wrong", details
    )


def _claims(text: str) -> dict[str, set[bool]]:
    """Name -> what they are said to be; True is a knight."""
    claims: dict[str, set[bool]] = {}
    for name, negated, kind in _CLAIM.findall(text):
        claims.setdefault(name.lower(), set()).add((kind.lower() == "knight") != bool(negated))
    return claims
