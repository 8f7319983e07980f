"""Format reward: does the response keep to the think/answer structure of DeepSeek-R1-Zero (section
2.2.2)?
"""

from __future__ import annotations

import re
from typing import Literal

from rewards.registry import register
from rewards.types import Reward, Sample

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# A response may end in more end tokens than the one that the engine cut off.
_END_TOKEN = re.compile(
    r"(?:<[|｜]\w{0,30}(?:end|eo[mst]|return)[\w▁]{0,30}[|｜]>|</s>|<eos>|<end_of_turn>)\Z",
    re.IGNORECASE,
)
_LONGEST_END_TOKEN = 70
_STRICT = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@register("format", bounded=True)
def format_reward(
    sample: Sample, rule: Literal["strict", "lenient", "tag_count"] = "strict"
) -> Reward:
    """1 when the response has the asked structure, else 0.

    `strict`: the whole response is one non-empty thought and one non-empty answer, each tag once
    and in order.
    `lenient` (R1): one thought, opened and closed, is enough.
    `tag_count`: a quarter for each of the four tags that occurs exactly once.
    A prompt that already ends in `<think>` counts as part of the response. End tokens do not.

    Raises:
        ValueError: no such rule.
    """
    text = "<think>" + sample.response if sample.prompt_opens_think else sample.response
    text = text.rstrip()
    while (end := _END_TOKEN.search(text[-_LONGEST_END_TOKEN:])) is not None:
        text = text[: -len(end[0])].rstrip()
    if rule == "lenient":
        ok = "</think>" in text.partition("<think>")[2]
        return Reward(float(ok), "ok" if ok else "no_thought")
    if rule == "tag_count":
        share = sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS)
        return Reward(share, "ok" if share == 1 else "missing_or_repeated_tag")
    if rule != "strict":
        raise ValueError(
            f"rewards.components.format.rule={rule!r}: use strict, lenient or tag_count"
        )
    return _strict(text)


def _strict(text: str) -> Reward:
    for tag in TAGS:
        if (count := text.count(tag)) != 1:
            return Reward(0.0, "missing_tag" if count == 0 else "repeated_tag", {"tag": tag})
    match = _STRICT.fullmatch(text)
    if match is None:
        return Reward(0.0, "wrong_order")
    if not all(part.strip() for part in match.groups()):
        return Reward(0.0, "empty_part")
    return Reward(1.0, "ok")
