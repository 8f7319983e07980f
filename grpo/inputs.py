"""What a run starts from: problems, prompts and a model folder, all checked before anything
expensive is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo.common.errors import UserError
from grpo.config.schema import TrainConfig

if TYPE_CHECKING:
    from grpo.types import Prompt, SamplingSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInputs:
    """The model that a run starts from: checked, and found before anything expensive is started."""

    model_folder: str
    pad_token_id: int
    end_token_ids: tuple[int, ...]
    keeps_reference: bool = False  # some stage measures KL


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs(ModelInputs):
    """What a run that samples starts from."""

    prompts: list[Prompt]  # none where nothing is trained
    held_out: list[Prompt]
    sampling: SamplingSettings  # of training
    max_model_len: int  # tokens


def load_inputs(
    config: TrainConfig,
    status: Callable[[str], None],
    *,
    with_training: bool = True,
    with_learner: bool = True,
) -> Inputs:
    """Problems, model folder, tokenizer and prompts.

    Args:
        config: of the run.
        status: told what takes long.
        with_training: load the training problems; without them nothing is trained.
        with_learner: the machine must have room for a learner too.

    Raises:
        UserError: any of them cannot be used, or this machine, where nothing but it is asked for,
            is too small.
    """
    from grpo.config.algorithm import check_algorithm, check_reference_rates
    from grpo.config.stages import named_recipes, stage_recipes
    from grpo.learner.model_folder import (
        check_model,
        embedding_rows,
        end_token_ids,
        load_tokenizer,
        model_folder,
        pad_token_id,
    )
    from grpo.rollout.prompts import (
        check_disjoint,
        check_rewards,
        load_problems,
        make_prompts,
        make_template,
    )
    from grpo.types import SamplingSettings

    stages = stage_recipes(config)
    for stage in stages:
        check_algorithm(stage)
    train_problems = load_problems("train", config.data.train, config.seed) if with_training else []
    check_reference_rates(config, train_problems)
    held_out_problems = load_problems("held_out", config.data.held_out, config.seed)
    check_disjoint(train_problems, held_out_problems)
    with config.rewards.scorer() as scorer:
        limit = max(stage.sampling.max_response_tokens for stage in stages)
        check_rewards(train_problems, scorer, "data.train", limit)
        check_rewards(held_out_problems, scorer, "data.held_out", limit)
    if config.runtime == "ray":
        from grpo.runtime.ray.cluster import check_machine

        for name, stage in named_recipes(config).items():
            check_machine(stage, with_learner=with_learner and with_training, where=name)
    folder = model_folder(config.model, status)
    tokenizer = load_tokenizer(folder)
    context = check_model(folder)
    template = make_template(config.data, tokenizer)
    prompts = make_prompts(train_problems, template, tokenizer)
    held_out = make_prompts(held_out_problems, template, tokenizer)
    limits = {
        "sampling.max_response_tokens": limit,
        "evaluation.max_response_tokens": max(
            stage.evaluation.max_response_tokens or 0 for stage in stages
        ),
    }
    wished = [stage.rollout.max_model_len for stage in stages if stage.rollout.max_model_len]
    # Engines are started with the longest context of all stages, which costs no memory before it is
    # used: the KV cache is paged.
    max_model_len = engine_context(
        max(wished, default=None),
        [*prompts, *held_out],
        limits,
        context,
        embedding_rows(folder),
    )
    return Inputs(
        model_folder=str(folder),
        prompts=prompts,
        held_out=held_out,
        sampling=SamplingSettings(
            num_samples=config.batch.num_samples,
            temperature=config.sampling.temperature,
            max_tokens=config.sampling.max_response_tokens,
            stop=template.stop,
            cut=template.cut,
            seed=config.seed if config.sampling.seeded else None,
            prompt_opens_think=template.opens_think,
        ),
        pad_token_id=pad_token_id(folder, tokenizer),
        end_token_ids=end_token_ids(folder, tokenizer),
        max_model_len=max_model_len,
        keeps_reference=any(stage.algorithm.needs_reference for stage in stages),
    )


def engine_context(
    wished: int | None,
    prompts: Sequence[Prompt],
    limits: Mapping[str, int],
    context: int,
    embedding_rows: int,
) -> int:
    """Tokens of prompt and response that an engine must have room for.

    Args:
        wished: `rollout.max_model_len`; None is what the prompts and limits need.
        prompts: all that are sampled from.
        limits: tokens of a response, by setting.
        context: of the model, in tokens.
        embedding_rows: of the model.

    Raises:
        UserError: a prompt with a full response does not fit, or a token has no embedding.
    """
    from grpo.rollout.prompts import check_lengths, check_tokens

    check_tokens(prompts, embedding_rows)
    if (wished or 0) > context:
        raise UserError(
            f"rollout.max_model_len={wished}: the context of the model is "
            f"{context} tokens; "
            "lower it, or leave it null"
        )
    longest = max(len(prompt.token_ids) for prompt in prompts)
    max_model_len = wished or longest + max(limits.values())
    check_lengths(prompts, limits, max_model_len, "rollout.max_model_len")
    check_lengths(prompts, limits, context, "the context of the model")
    return max_model_len
