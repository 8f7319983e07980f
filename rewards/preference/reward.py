"""A component of a recipe that a model of preferences scores."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.preference.model import Exchange
from rewards.preference.process import ModelProcess
from rewards.preference.settings import PreferenceSettings
from rewards.responses import final_text
from rewards.types import Reward, Sample

_OPEN, _CLOSE = "<answer>", "</answer>"


def preference_rewards(
    samples: Sequence[Sample], settings: PreferenceSettings, process: ModelProcess
) -> list[Reward]:
    """The rewards of some responses, in order. DeepSeek-R1 section 2.3.4.

    What cannot be read gets the lowest score: a truncated response, an unclosed thought or an empty
    summary, where the summary is what is read. What the model gives no finite number for is not
    graded. An exchange that occurs several times is scored once, so that equal texts have equal
    scores to the last bit.

    Raises:
        InfrastructureError, RewardFailedError: as `ModelProcess.score`.
    """
    texts = [_summary(s) if settings.reads == "summary" else _everything(s) for s in samples]
    asked = [
        text if isinstance(text, Reward) else Exchange(sample.question, text)
        for sample, text in zip(samples, texts, strict=True)
    ]
    distinct = list(dict.fromkeys(one for one in asked if isinstance(one, Exchange)))
    outputs = dict(zip(distinct, process.score(distinct), strict=True)) if distinct else {}
    rewards = []
    for one in asked:
        if isinstance(one, Reward):
            rewards.append(Reward(settings.lowest(), one.reason))
            continue
        output = outputs[one]
        details = {"output": output.value, "tokens": output.num_tokens}
        if output.value is None:
            reason = output.fault if output.fault == "not_finite" else "no_score"
            rewards.append(Reward(0.0, reason, {"error": output.fault}, graded=False))
        elif output.cut_tokens:
            details["cut_tokens"] = output.cut_tokens
            rewards.append(Reward(settings.bounded(output.value), "cut", details))
        else:
            rewards.append(Reward(settings.bounded(output.value), "scored", details))
    return rewards


def _summary(sample: Sample) -> str | Reward:
    """All that follows the thought. Answer tags are taken off where they enclose all of it, so
    nothing escapes by standing beside them.
    """
    final = final_text(sample)
    if isinstance(final, Reward):
        return final
    text = final.strip()
    inner = text.removeprefix(_OPEN).removesuffix(_CLOSE)
    enclosed = text == _OPEN + inner + _CLOSE and _OPEN not in inner and _CLOSE not in inner
    text = inner.strip() if enclosed else text
    return text or Reward(0.0, "empty_summary")


def _everything(sample: Sample) -> str:
    return "<think>" + sample.response if sample.prompt_opens_think else sample.response
