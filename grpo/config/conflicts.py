"""Combinations of settings that cannot work, each as a message that names the fix.

What a single field can see stands beside the field, in `grpo.config.schema`.
"""

from __future__ import annotations

from collections.abc import Iterable

from data.examples import MAKERS
from data.templates import CHAT_PREFIX, TEMPLATES
from grpo.common.names import hint
from grpo.config.sample import SampleConfig
from grpo.config.schema import (
    DataConfig,
    RewardsConfig,
    RunConfig,
    TrainConfig,
    cpu_problems,
    gpu_problems,
    is_chat,
)
from grpo.config.sft import SftConfig, SftDataConfig
from grpo.config.stages import check_stages
from rewards import Scorer, registry


def impossible(config: TrainConfig) -> list[str]:
    """Everything in a recipe that no single field can see."""
    return [
        *check_names(config, config.data),
        *_batch(config),
        *_off_policy(config),
        *_algorithm(config),
        *_model(config),
        *_template(config.data),
        *_curriculum(config),
        *_machines(config),
        *_rewards(config.rewards),
        *_tracking(config),
        *_stages(config),
    ]


def impossible_sft(config: SftConfig) -> list[str]:
    """Everything in a recipe of `grpo sft` that no single field can see."""
    return [
        *check_names(config, config.data),
        *_sft(config),
        *_model(config),
        *_template(config.data),
        *_machines(config),
        *([] if config.rewards is None else _rewards(config.rewards)),
        *_tracking(config),
    ]


def impossible_sample(config: SampleConfig) -> list[str]:
    """Everything in a recipe of `grpo sample` that no single field can see."""
    rules, components = config.rejection, config.rewards.components
    problems = [
        f"rejection.min_scores.{name}: the recipe has no such reward; {hint(name, components)}"
        for name in rules.min_scores
        if name not in components
    ]
    if not any(map(registry.owns_gold, components)):
        problems.append(
            f"rewards.components={list(components)}: none says whether an answer is right; add "
            "one that does, such as accuracy: {weight: 1.0}"
        )
    missing = [slot for slot in ("{question}", "{answer}") if slot not in rules.hint]
    if missing:
        problems.append(f"rejection.hint={rules.hint!r}: needs {' and '.join(missing)}")
    return [*impossible(config), *problems]


def _sft(config: SftConfig) -> list[str]:
    trainer, problems = config.trainer, []
    if (trainer.max_steps is None) == (trainer.epochs is None):
        problems.append(
            f"trainer.max_steps={trainer.max_steps}, trainer.epochs={trainer.epochs}: set exactly "
            "one of them; the other one is null"
        )
    optimizer = config.optimizer
    if optimizer.warmup_steps and optimizer.warmup_share:
        problems.append(
            f"optimizer.warmup_share={optimizer.warmup_share}: optimizer.warmup_steps="
            f"{optimizer.warmup_steps} says it already; set one of them"
        )
    if config.batch.num_examples < config.learner.num_ranks:
        problems.append(
            f"learner.num_ranks={config.learner.num_ranks}: a step has only "
            f"batch.num_examples={config.batch.num_examples}; use fewer ranks or a larger batch"
        )
    if config.dpo is not None:
        problems += _dpo(config)
    if (config.data.held_out is None) != (config.rewards is None):
        problems.append(
            "data.held_out and rewards: held-out problems are graded by the rewards; set both, or "
            "leave both null"
        )
    limit, context = config.evaluation.max_response_tokens, config.rollout.max_model_len
    if config.data.held_out is not None and limit is None:
        problems.append(
            "evaluation.max_response_tokens=null: the responses to data.held_out need a limit; set "
            "evaluation.max_response_tokens"
        )
    if config.data.held_out is not None and context is not None and context <= (limit or 0):
        problems.append(
            f"rollout.max_model_len={context} leaves no room for a prompt beside "
            f"evaluation.max_response_tokens={limit}; raise it or leave it null"
        )
    return problems


def _dpo(config: SftConfig) -> list[str]:
    """Settings of likelihood that pairs do not look at."""
    problems = []
    if (maker := config.data.train.made_by) is not None:
        problems.append(
            f"data.train.made_by={maker}: it makes examples, and dpo learns from pairs; name a "
            "file such as pairs.jsonl of grpo sample with rejection.pairs=true, or set dpo=null"
        )
    if config.data.train_on == "all":
        problems.append(
            "data.train_on=all: dpo compares the two responses, and the prompt is the same; leave "
            "it out"
        )
    if config.batch.aggregation != "token-mean":
        problems.append(
            f"batch.aggregation={config.batch.aggregation}: dpo sums over the tokens of a "
            "response; leave it out"
        )
    return problems


def check_names(config: RunConfig, data: DataConfig | SftDataConfig) -> list[str]:
    """Names that no registry has."""
    # Here, because these rooms import the settings of this package. The objective is looked up
    # when the run begins, since its registry loads torch.
    from grpo.evaluation.probes import PROBES
    from grpo.learner.model_folder import BUILDERS
    from grpo.rollout.strategies import STRATEGIES

    template = data.template
    inner = "question_only" if template == "chat" else template.removeprefix(CHAT_PREFIX)
    wanted: list[tuple[str, str, str, Iterable[str]]] = [
        ("data.template", template, inner, ["chat", *TEMPLATES]),
        ("rollout.strategy", config.rollout.strategy, config.rollout.strategy, STRATEGIES),
        *(("evaluation.probes", probe, probe, PROBES) for probe in config.evaluation.probes),
    ]
    if isinstance(data, SftDataConfig):
        for key, source in (("train", data.train), ("held_out_examples", data.held_out_examples)):
            if source is not None and (maker := source.made_by) is not None:
                wanted.append((f"data.{key}.made_by", maker, maker, MAKERS))
    if config.model.base is not None:
        wanted.append(("model.base", config.model.base, config.model.base, BUILDERS))
    return [
        f"{key}={value}: no such name; {hint(name, known)}"
        for key, value, name, known in wanted
        if name not in known
    ]


def _off_policy(config: TrainConfig) -> list[str]:
    """Settings by which samples come from older weights than those that are trained."""
    rollout, problems = config.rollout, []
    partial = rollout.strategy == "partial"
    uses = [
        f"rollout.{key}={getattr(rollout, key)}"
        for key in ("segment_tokens", "prompts_in_flight")
        if getattr(rollout, key) is not None
    ]
    if rollout.max_staleness and config.runtime == "torchrun":
        problems.append(
            "rollout.max_staleness=1: under runtime=torchrun the ranks take part in every call of "
            "the engines, and cannot learn meanwhile; use runtime=ray"
        )
    if uses and not partial:
        problems.append(f"{', '.join(uses)}: only rollout.strategy=partial looks at that; set it")
    if partial and rollout.segment_tokens is None:
        problems.append(
            "rollout.strategy=partial: needs rollout.segment_tokens, the tokens of a response that "
            "one step generates"
        )
    if partial and config.batch.zero_variance == "resample":
        problems.append(
            "rollout.strategy=partial: batch.zero_variance=resample would wait for further groups; "
            "use keep or drop"
        )
    if rollout.prompts_in_flight is not None and (
        rollout.prompts_in_flight < config.batch.num_prompts
    ):
        problems.append(
            f"rollout.prompts_in_flight={rollout.prompts_in_flight}: a step needs "
            f"batch.num_prompts={config.batch.num_prompts} groups; raise it to that or more"
        )
    if (partial or rollout.max_staleness) and config.algorithm.mismatch.correction == "none":
        source = "rollout.strategy=partial" if partial else "rollout.max_staleness=1"
        problems.append(
            f"{source}: samples come from older weights, and nothing corrects for that; set "
            "algorithm.mismatch.correction=truncate"
        )
    return problems


def _batch(config: TrainConfig) -> list[str]:
    batch, problems = config.batch, []
    if batch.num_samples == 1:
        problems.append(
            "batch.num_samples=1: a group of one has no baseline, so every advantage is 0; "
            "use at least 2"
        )
    if batch.num_prompts % batch.num_updates:
        problems.append(
            f"batch.num_updates={batch.num_updates} does not divide "
            f"batch.num_prompts={batch.num_prompts}; groups are never split over updates"
        )
    problems += _zero_variance(config)
    if batch.num_responses < config.learner.num_ranks * batch.num_updates:
        problems.append(
            f"learner.num_ranks={config.learner.num_ranks}: an update has only "
            f"{batch.num_responses // batch.num_updates} responses; use fewer ranks or a larger "
            "batch"
        )
    limit, context = config.sampling.max_response_tokens, config.rollout.max_model_len
    if context is not None and context <= limit:
        problems.append(
            f"rollout.max_model_len={context} leaves no room for a prompt beside "
            f"sampling.max_response_tokens={limit}; raise it or leave it null"
        )
    limit = config.evaluation.max_response_tokens or 0
    if context is not None and context <= limit:
        problems.append(
            f"rollout.max_model_len={context} leaves no room for a prompt beside "
            f"evaluation.max_response_tokens={limit}; raise it or leave it null"
        )
    return problems


def _algorithm(config: TrainConfig) -> list[str]:
    """Settings of KL, entropy and mismatch that need another one, or that another one would ignore.

    What objectives and advantages look at is declared beside them: `grpo.config.algorithm`.
    """
    algorithm, mismatch, problems = config.algorithm, config.algorithm.mismatch, []
    defaults = type(algorithm)()
    for key, needs in {
        "kl_in": "kl_coef",
        "kl_target": "kl_coef",
        "reference_refresh_every": "kl_coef",
        "kl_horizon": "kl_target",
        "entropy_coef_step": "entropy_target",
        "entropy_coef_max": "entropy_target",
    }.items():
        value = getattr(algorithm, key)
        if value != getattr(defaults, key) and not getattr(algorithm, needs):
            problems.append(
                f"algorithm.{key}={value}: without algorithm.{needs} it has no effect; set that "
                "too, or leave it out"
            )
    if algorithm.kl_coef and algorithm.kl_in == "loss" and algorithm.kl_estimator == "k1":
        problems.append(
            "algorithm.kl_estimator=k1: its gradient has mean 0, so in the loss it holds nothing "
            "back; use k2 or k3, or algorithm.kl_in=reward"
        )
    if algorithm.kl_coef and algorithm.kl_in == "reward" and algorithm.kl_estimator != "k1":
        problems.append(
            f"algorithm.kl_estimator={algorithm.kl_estimator}: the reward takes the KL of a whole "
            "response, which is k1; set algorithm.kl_estimator=k1"
        )
    if algorithm.kl_in == "reward" and config.batch.zero_variance == "drop":
        problems.append(
            "batch.zero_variance=drop: with algorithm.kl_in=reward the rewards of a dropped group "
            "would still change; use keep or resample"
        )
    if algorithm.entropy_target is not None and algorithm.entropy_coef < 0:
        problems.append(
            f"algorithm.entropy_coef={algorithm.entropy_coef}: with algorithm.entropy_target the "
            "coefficient stays between 0 and entropy_coef_max; start at 0 or above"
        )
    if algorithm.reference_refresh_every and config.learner.lora is not None:
        problems.append(
            f"algorithm.reference_refresh_every={algorithm.reference_refresh_every}: with "
            "learner.lora the reference is the model without its adapter, which does not move; "
            "leave it out"
        )
    if mismatch.correction != "mask" and mismatch.low:
        problems.append(
            f"algorithm.mismatch.low={mismatch.low}: only algorithm.mismatch.correction=mask looks "
            "at it; leave it out"
        )
    if mismatch.correction == "mask" and not mismatch.low < 1 < mismatch.high:
        problems.append(
            f"algorithm.mismatch={{low: {mismatch.low}, high: {mismatch.high}}}: equal weights "
            "have the ratio 1, which must be kept; use low below 1 and high above 1"
        )
    if mismatch.correction == "truncate" and mismatch.high < 1:
        problems.append(
            f"algorithm.mismatch.high={mismatch.high}: equal weights have the ratio 1, which must "
            "not be cut; use 1 or more"
        )
    if config.health.min_effective_share is not None and mismatch.correction == "none":
        problems.append(
            f"health.min_effective_share={config.health.min_effective_share}: without "
            "algorithm.mismatch.correction all samples weigh the same; set truncate or mask"
        )
    return problems


def _zero_variance(config: TrainConfig) -> list[str]:
    """Settings of one rule that another rule would ignore, and rewards that nobody gives."""
    batch, problems = config.batch, []
    defaults = type(batch)()
    owners = {"count_dropped": "drop", "max_refills": "resample", "prompts_per_draw": "resample"}
    for key, rule in owners.items():
        value = getattr(batch, key)
        if batch.zero_variance != rule and value != getattr(defaults, key):
            problems.append(
                f"batch.{key}={value}: only batch.zero_variance={rule} looks at it, and it is "
                f"{batch.zero_variance}; leave it out or set batch.zero_variance={rule}"
            )
    known = ["total", *config.rewards.components]
    if batch.variance_of not in known:
        problems.append(
            f"batch.variance_of={batch.variance_of}: the recipe has no such reward; "
            f"{hint(batch.variance_of, known)}"
        )
    elif batch.zero_variance == "keep" and batch.variance_of != "total":
        problems.append(
            f"batch.variance_of={batch.variance_of}: batch.zero_variance=keep looks at no "
            "variance; leave it out, or set batch.zero_variance=resample"
        )
    if batch.zero_variance == "drop" and not batch.count_dropped and batch.num_updates > 1:
        problems.append(
            f"batch.num_updates={batch.num_updates}: with batch.zero_variance=drop and "
            "batch.count_dropped=false the number of groups varies and does not split into equal "
            "updates; set batch.count_dropped=true, or batch.zero_variance=resample"
        )
    return problems


def _model(config: RunConfig) -> list[str]:
    model, problems = config.model, []
    if (model.path is None) == (model.base is None):
        problems.append(
            "model: set exactly one of model.path (a Hugging Face folder) and model.base (the name "
            "of a builder); the other one is null"
        )
    if model.base is None and model.base_options:
        problems.append(
            f"model.base_options={model.base_options}: only model.base looks at it; set "
            "model.base_options={}"
        )
    return problems


def _template(data: DataConfig | SftDataConfig) -> list[str]:
    if is_chat(data.template):
        return []
    return [
        f"data.{key}={getattr(data, key)}: only chat templates have one, and "
        f"data.template={data.template}; use chat:{data.template} or leave it null"
        for key in ("system_prompt", "enable_thinking")
        if getattr(data, key) is not None
    ]


def _curriculum(config: TrainConfig) -> list[str]:
    prioritised = config.data.curriculum.kind == "prioritised"
    if prioritised and "accuracy" not in config.rewards.components:
        return [
            "data.curriculum.kind=prioritised: failure rates come from the reward accuracy; add it "
            "to rewards.components"
        ]
    return []


def _machines(config: RunConfig) -> list[str]:
    problems = {"gpu": gpu_problems, "cpu": cpu_problems}.get(config.trainer.device, lambda _: [])(
        config
    )
    # Where the device is "auto", the learner asks again as soon as it is known.
    device = {"cpu": "cpu", "gpu": "cuda"}.get(config.trainer.device)
    problems += config.learner.problems(device, config.model.dtype)
    if config.runtime == "torchrun" and config.supervise:
        problems.append(
            "supervise=true: every process of torchrun would start a run of its own; use "
            "torchrun --max-restarts with a fixed output_dir"
        )
    if config.runtime == "in_process":
        if config.cluster.colocate and config.trainer.device != "cpu":
            problems += cpu_problems(config)  # that runtime is for CPU only
        if config.trainer.device == "gpu":
            problems.append(
                "trainer.device=gpu: runtime=in_process works on CPU only; use runtime=ray"
            )
        for key, value in (
            ("rollout.num_engines", config.rollout.num_engines),
            ("learner.num_ranks", config.learner.num_ranks),
        ):
            if value != 1:
                problems.append(
                    f"{key}={value}: runtime=in_process has one; set {key}=1 or runtime=ray"
                )
    return problems


def _rewards(rewards: RewardsConfig) -> list[str]:
    if not rewards.components:
        return [
            "rewards.components: empty; name at least one reward, such as accuracy: {weight: 1.0}"
        ]
    try:
        Scorer(rewards.scorer_components())
    except ValueError as error:
        return str(error).splitlines()
    return []


def _tracking(config: RunConfig) -> list[str]:
    # Here, because tracking itself imports the settings of this package.
    from grpo.tracking.trackers.wandb import resolve_mode

    try:
        resolve_mode(config.tracking.wandb)
    except ValueError as error:
        return [str(error)]
    return []


def _stages(config: TrainConfig) -> list[str]:
    # Here, because tracking itself imports the settings of this package.
    from grpo.tracking.catalogue import METRICS

    return check_stages(config, impossible, [m.key for m in METRICS if "<" not in m.key])
