"""Knights and knaves: is every person named, and as what they are?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rewards.registry import register
from rewards.responses import last_tagged
from rewards.types import Reward, Sample

_CLAIM = re.compile(
    r"\b([A-Z]\w{0,30}) is (?:a |the )?(not a )?(knight|knave)\b(?! or\b)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class KnightsGold:
    """Who is what, in words: `Ava is a knight, Ben is a knave`."""

    kinds: Mapping[str, bool]  # name -> is it a knight?

    def to_text(self) -> str:
        """The gold of a row."""
        return ", ".join(
            f"{name} is a {'knight' if knight else 'knave'}" for name, knight in self.kinds.items()
        )

    @classmethod
    def from_text(cls, text: str) -> KnightsGold:
        """The inverse of `to_text`, with names in small letters.

        Raises:
            ValueError: the text says of nobody what they are, or calls somebody both.
        """
        claims = _claims(text)
        if not claims or any(len(kinds) > 1 for kinds in claims.values()):
            raise ValueError(
                "the reward `knights` needs a gold like 'Ava is a knight, Ben is a knave', "
                f"not {text[:50]!r}"
            )
        return cls({name: kinds == {True} for name, kinds in claims.items()})


@register("knights", bounded=True, check_gold=KnightsGold.from_text)
def knights(sample: Sample, partial: bool = False) -> Reward:
    """1 when everyone is called what they are, else 0, or with `partial` the share of people called
    right.

    Claims are read from `<answer>`, or else from all that follows the last `</think>`. Someone who
    is called both is called wrong.
    """
    gold = KnightsGold.from_text(sample.gold).kinds
    answer = last_tagged(sample)
    if isinstance(answer, Reward):
        return answer
    claims = _claims(answer)
    if not claims:
        return Reward(0.0, "no_answer")
    right = sum(claims.get(name) == {knight} for name, knight in gold.items())
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
