"""The recipe of supervised fine-tuning: what it has besides the blocks of every run.

A batch is `num_examples` examples, whatever the number of ranks. Where the recipe names held-out
problems, they are sampled and graded as in `grpo train`; without them no engine is started.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data.examples import ExampleSource
from data.sources.spec import Source
from grpo.common.recipes import Settings
from grpo.config.schema import (
    AlgorithmConfig,
    Count,
    DeviceConfig,
    OptimizerConfig,
    Positive,
    RewardsConfig,
    RunConfig,
    Share,
    Text,
    Unit,
)


class SftDataConfig(Settings):
    """Examples, the template that makes token sequences of them, and which tokens are trained."""

    train: Annotated[ExampleSource, Field(examples=["examples.jsonl"])]
    """The examples that are trained on; with `dpo`, files of pairs."""
    held_out_examples: ExampleSource | None = None
    """Examples whose likelihood measures progress. None of them may be trained on."""
    held_out: Source | None = None
    """Problems that are sampled and graded, as in `grpo train`. They need `rewards` and
    `evaluation.max_response_tokens`. Null starts no engine."""
    template: Text = "chat"
    """As in `grpo train`. `chat` is the chat template of the tokenizer. A plain template such as
    `r1_zero` makes the prompt of one user message; the answer and the end token follow."""
    system_prompt: Text | None = None
    """The system message of conversations that have none. Chat templates only."""
    enable_thinking: bool | None = None
    """The thinking switch of the tokenizer's chat template. Null leaves it to the tokenizer. Chat
    templates only."""
    train_on: Literal["assistant", "last_assistant", "all"] = "assistant"
    """The tokens that carry loss: all turns of the assistant with their end tokens, the last one,
    or everything. `train` of a message overrides it."""
    max_tokens: Annotated[int | None, Field(ge=2), Unit("tokens")] = None
    """The longest example. Null: the context of the model."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What becomes of longer examples. `drop` leaves them out and says how many. None is cut."""


class SftBatchConfig(Settings):
    """The batch of one step, over all ranks."""

    num_examples: Annotated[Count, Unit("examples")] = 64
    """Examples of one step, or pairs with `dpo`. The last step of an epoch takes the rest from the
    next one."""
    aggregation: Literal["token-mean", "seq-mean-token-mean"] = "token-mean"
    """How token losses become one number: the mean over all trained tokens of the batch, or over
    those of an example and then over examples. DPO sums over the tokens of a response."""


class SftTrainerConfig(DeviceConfig):
    """How long to train and on what. Set exactly one of `max_steps` and `epochs`."""

    max_steps: Annotated[int | None, Field(ge=1), Unit("steps")] = None
    """Steps of the whole run."""
    epochs: Annotated[int | None, Field(ge=1), Unit("epochs")] = None
    """Times that each example is seen. The last step has what is left."""


class SftOptimizerConfig(OptimizerConfig):
    """AdamW and its learning-rate schedule. The schedule counts steps, from 0."""

    warmup_share: Share = 0.0
    """The warm-up as a share of all steps, in place of `warmup_steps`."""


class DpoConfig(Settings):
    """Preferences in place of likelihood: DPO (Rafailov et al., arXiv:2305.18290, equation 7). The
    reference is the model that the run starts from.
    """

    beta: Positive = 0.1
    """How strongly the reference holds the policy: the weight of log policy - log reference."""


class SftConfig(RunConfig):
    """A whole recipe of `grpo sft`."""

    trainer: Annotated[SftTrainerConfig, Field(examples=[{"max_steps": 1}])]
    """How long to train and on what."""
    optimizer: SftOptimizerConfig = SftOptimizerConfig()
    """AdamW and its schedule."""
    data: SftDataConfig
    """Examples, held-out problems and template."""
    batch: SftBatchConfig = SftBatchConfig()
    """The batch of one step."""
    dpo: DpoConfig | None = None
    """Learns from pairs by DPO: the rows of `data.train` are pairs, such as the `pairs.jsonl` of
    `grpo sample`. Null learns from examples by maximum likelihood."""
    rewards: RewardsConfig | None = None
    """Named rewards and their weights, which grade the held-out problems."""

    @property
    def algorithm(self) -> AlgorithmConfig:
        """The learner's loss. Maximum likelihood is REINFORCE with the advantage 1 on tokens that
        somebody else chose. DPO is REINFORCE with a weight of each response (`grpo.algorithm.dpo`),
        summed over its tokens.
        """
        if self.dpo is not None:
            return AlgorithmConfig(objective="reinforce", aggregation="seq-sum-constant")
        return AlgorithmConfig(objective="reinforce", aggregation=self.batch.aggregation)
