"""How every checker begins: a truncated response, an open thought or several answers score 0."""

from __future__ import annotations

from rewards.extract import Source, extract, final_part, tagged
from rewards.types import Reward, Sample


def final_text(sample: Sample) -> str | Reward:
    """What follows the thought of a complete response, or the reward that says why nothing does."""
    if sample.truncated:
        return Reward(0.0, "truncated")
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    return Reward(0.0, "unclosed_thought") if final is None else final


def last_tagged(sample: Sample) -> str | Reward:
    """The last `<answer>` of a response, or all of its final part where it has none."""
    final = final_text(sample)
    if isinstance(final, Reward):
        return final
    answers = tagged(final)
    return answers[-1] if answers else final


def only_answer(sample: Sample, source: Source, max_chars: int = 2_000) -> str | Reward:
    """The one answer of a response, or the reward that says why there is none."""
    final = final_text(sample)
    if isinstance(final, Reward):
        return final
    candidates, reason, _ = extract(final, source)
    if not candidates:
        return Reward(0.0, reason)
    if len({" ".join(text.split()) for text in candidates}) > 1:
        return Reward(0.0, "several_answers", {"extracted": candidates[-1][:200]})
    return candidates[-1] if len(candidates[-1]) <= max_chars else Reward(0.0, "limit")
