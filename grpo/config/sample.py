"""The recipe of rejection sampling: one of `grpo train`, and which responses are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from grpo.common.recipes import Settings
from grpo.config.schema import Count, Number, Share, Text, TrainConfig, Unit


class RejectionConfig(Settings):
    """Which responses are kept. The filters are those of DeepSeek-R1 (arXiv:2501.12948, section
    2.3.3), which gives no numbers; the limits here are ours. They look at the thought alone.
    """

    max_per_problem: Annotated[Count, Unit("responses")] = 1
    """The most that are kept of one problem."""
    shortest: bool = False
    """Keeps the shortest right responses, as Kimi k1.5's long2short does. False keeps the first
    ones that were sampled."""
    pairs: bool = False
    """Writes `pairs.jsonl` too, for `grpo sft` with `dpo`, as Kimi k1.5's long2short does: the
    shortest right response that is not filtered out against longer ones."""
    pair_length_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.5
    """A right response is rejected in a pair from this many times the length of the chosen one
    on. A wrong one is when it is longer."""
    min_scores: dict[str, Number] = Field(default={})
    """Components of the rewards and the least score of each, such as `{format: 1}`. Right answers
    are asked for anyhow."""
    min_language_share: Share = 0.9
    """The smallest share of the thought's words in the language of the question. 0: any mix. A
    thought without words passes."""
    max_paragraph_chars: Annotated[int | None, Field(ge=1), Unit("characters")] = 4000
    """The longest paragraph of a thought; a blank line ends one. Null: any length."""
    allow_code: bool = False
    """Keeps thoughts with fenced code blocks."""
    hint_on_fail: bool = False
    """Problems without a right response are sampled again with the answer in the prompt, as STaR
    (arXiv:2203.14465) does. What is kept has the prompt without it."""
    hint: Text = "{question} (The answer is {answer}.)"
    """The question with the answer in it, for `hint_on_fail`."""
    problems_per_round: Annotated[Count, Unit("problems")] = 512
    """Problems that are sampled before what is kept of them is written. An interrupted run goes on
    behind the last round."""


class SampleConfig(TrainConfig):
    """A recipe of `grpo sample`: any recipe of `grpo train`. `data.train` are the problems,
    `batch.num_samples` the responses to each, and `sampling` and `rewards` as in training.
    """

    rejection: RejectionConfig = RejectionConfig()
    """Which responses are kept."""
