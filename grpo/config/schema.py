"""The recipe of a training run: every setting with its type, range, unit and reason.

`docs/configuration.md` is generated from this file (`python -m grpo.config.document`). A batch is
`num_prompts` prompts x `num_samples` responses, whatever the number of ranks. What can be derived
is a property and not a setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from data.curricula.spec import CurriculumSpec
from data.sources.spec import Source
from data.templates import CHAT_PREFIX, TEMPLATES, Template
from grpo.common.recipes import PathText, Settings
from grpo.config.stages import StageConfig
from rewards import Component, Scorer


class Unit(str):
    """The unit of a setting, for the documentation."""


Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1), Unit("tokens")]
Seconds = Annotated[int, Field(ge=1), Unit("seconds")]
Text = Annotated[str, Field(min_length=1)]


class ModelConfig(Settings):
    """The policy that is trained. Set exactly one of `path` and `base`."""

    path: PathText | None = None
    """A local Hugging Face folder with safetensors and tokenizer. `~` is your home folder.

    A dense model of type gemma3_text, llama, mistral, qwen2 or qwen3."""
    base: Text | None = None
    """The registered builder of a small base model, such as `miniature` of `grpo.miniature`."""
    base_options: dict[str, Any] = Field(default={})
    """Options of that builder. The builder checks them."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights. `auto` is float32 on CPU and bfloat16 on GPU."""
    float32_head: Literal["auto", True, False] = "auto"
    """Logits in float32 although the weights are bfloat16, in learner and engines alike. `auto` is
    true. False rounds every logit to 8 bits, differently on the two sides."""


class DataConfig(Settings):
    """Training and held-out problems, and the template that makes prompts of them."""

    train: Annotated[Source, Field(examples=[{"source": "file", "path": "problems.jsonl"}])]
    """The problems that are trained on. data/generators has the generators and their options."""
    held_out: Annotated[Source, Field(examples=[{"source": "file", "path": "problems.jsonl"}])]
    """The problems that measure progress. None of them may be trained on."""
    template: Text = "r1_zero"
    """A name of data/templates.py. `chat` is the chat template of the tokenizer, and `chat:NAME` is
    the template NAME as the user's turn of it."""
    system_prompt: Text | None = None
    """The system message. Chat templates only."""
    enable_thinking: bool | None = None
    """The thinking switch of the tokenizer's chat template. Null leaves it to the tokenizer. Chat
    templates only."""
    curriculum: CurriculumSpec = CurriculumSpec.model_validate({})
    """Which training problems a step draws. By default all equally often, in shuffled epochs."""


class BatchConfig(Settings):
    """The batch of one step, over all ranks."""

    num_prompts: Annotated[Count, Unit("prompts")] = 64
    """Prompts of one step."""
    num_samples: Annotated[Count, Unit("responses per prompt")] = 8
    """G, the group whose mean reward is the baseline. A group of one has none: use 2 or more."""
    num_updates: Annotated[Count, Unit("optimizer steps")] = 1
    """Optimizer steps per batch. 1 is strictly on-policy. It must divide `num_prompts`."""
    zero_variance: Literal["keep", "drop", "resample"] = "keep"
    """What becomes of groups whose rewards are all equal, which have no policy gradient. `keep`
    trains on them (KL and entropy terms act), `drop` leaves them out, `resample` draws other
    prompts in their place (DAPO's dynamic sampling)."""
    variance_of: Text = "total"
    """The reward that must differ within a group: `total`, or the name of a component. DAPO looks
    at accuracy."""
    count_dropped: bool = True
    """`drop` only. Dropped groups still count in the denominators of the loss, so that a step with
    few teaching groups is a small step."""
    max_refills: Annotated[Count, Unit("rounds")] = 10
    """`resample` only. After so many further rounds of sampling, groups of equal rewards fill the
    batch up."""
    prompts_per_draw: Annotated[int | None, Field(ge=1), Unit("prompts")] = None
    """`resample` only. Prompts of one round of sampling. DAPO draws three times the batch. Null:
    `num_prompts`."""

    @property
    def num_responses(self) -> int:
        """B, the responses of one step over all ranks."""
        return self.num_prompts * self.num_samples


class SamplingConfig(Settings):
    """How training responses are sampled."""

    temperature: Positive = 1.0
    """Divides the logits before sampling. Log-probs of the loss are computed at the same value."""
    max_response_tokens: Tokens = 1024
    """A response that reaches this length is cut and counts as truncated."""
    seeded: bool = True
    """Every sample has a seed of its own, so that each can be made again alone."""


class RewardsConfig(Settings):
    """Named rewards and their weights."""

    components: Annotated[dict[str, Any], Field(examples=[{"accuracy": {"weight": 1.0}}])]
    """`NAME: {weight: W, requires: [OTHER], ...}`. All other keys are options of the reward. With
    `kind: preference` a reward model gives it."""
    modules: tuple[Text, ...] = ()
    """Your own importable modules that register further rewards."""
    num_workers: Annotated[Index, Unit("processes")] = 0
    """Processes for answers whose grading has no small bound. 0 starts one when it
    is first needed."""

    def scorer_components(self) -> dict[str, Component]:
        """Components for `rewards.Scorer`.

        Raises:
            ValueError: components without a numeric weight, or with a `requires` that is no list;
                all of them in one message.
        """
        components, problems = {}, []
        for name, settings in self.components.items():
            where = f"rewards.components.{name}"
            weight = settings.get("weight") if isinstance(settings, Mapping) else None
            if isinstance(weight, bool) or not (
                isinstance(weight, int | float) and math.isfinite(weight)
            ):
                problems.append(f"{where}: needs a numeric weight, such as {{weight: 1.0}}")
                continue
            requires = settings.get("requires", [])
            if not isinstance(requires, list | tuple) or not all(
                isinstance(other, str) for other in requires
            ):
                problems.append(f"{where}.requires={requires}: expected a list of components")
                continue
            kind = settings.get("kind", "rule")
            if kind not in ("rule", "preference"):
                problems.append(f"{where}.kind={kind}: must be rule or preference")
                continue
            options = {k: v for k, v in settings.items() if k not in ("weight", "requires", "kind")}
            components[name] = Component(
                weight=float(weight), options=options, requires=requires, kind=kind
            )
        if problems:
            raise ValueError("\n".join(problems))
        return components

    def scorer(self) -> Scorer:
        """The scorer that the recipe asks for.

        Raises:
            ValueError: components that cannot be used, all of them in one message.
        """
        return Scorer(self.scorer_components(), modules=self.modules, num_workers=self.num_workers)


class MismatchConfig(Settings):
    """Correction for the engine's probabilities, which differ a little from the learner's."""

    correction: Literal["none", "truncate", "mask"] = "none"
    """`truncate` weighs a term with min(ratio, high): truncated importance sampling (TIS). `mask`
    weighs it with the ratio inside [low, high] and drops it outside (MIS, IcePop)."""
    level: Literal["token", "sequence", "geometric"] = "token"
    """The ratio of a token, the product over a response, or the geometric mean over it."""
    low: NotNegative = 0.0
    """`mask` only. The smallest ratio that is kept."""
    high: Positive = 2.0
    """The largest weight, or the largest ratio that is kept."""


class AlgorithmConfig(Settings):
    """GRPO (DeepSeekMath, arXiv:2402.03300, section 4) and its published variants.

    docs/algorithms.md has the formulas and papers.
    """

    objective: Text = "grpo"
    """The registered loss: `grpo`, `gspo`, `cispo`, `reinforce`, `kimi`, or your own."""
    advantage: Text = "grpo"
    """The registered advantage: `grpo`, `rloo`, `reinforce_pp`, `reinforce_pp_baseline`,
    `batch_std`, `gdpo`, `reference_accuracy`, or your own."""
    advantage_std: Literal["population", "sample", "none"] = "population"
    """Divisor of the group-relative advantage: ddof 0, ddof 1, or none as in Dr. GRPO."""
    advantage_eps: NotNegative = 1e-6
    """Added to that divisor, so that a group of equal rewards divides by no zero."""
    clip_low: Share = 0.2
    """The ratio is clipped below at 1 - clip_low. A ratio cannot fall below 0."""
    clip_high: NotNegative = 0.2
    """The ratio is clipped above at 1 + clip_high. Larger than `clip_low` is DAPO's clip-higher."""
    dual_clip: Annotated[float | None, Field(gt=1, allow_inf_nan=False)] = None
    """Bounds the loss of a token with a negative advantage at this times the advantage."""
    mirror_tau: Positive = 0.1
    """Strength of the pull to the policy of the step's start. Objective `kimi` only."""
    kl_coef: NotNegative = 0.0
    """Weight of KL(policy, reference). 0 keeps no reference and costs no memory."""
    kl_in: Literal["loss", "reward"] = "loss"
    """`reward` takes kl_coef times the KL of the whole response off its reward (k1)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimate of the KL. In the loss k2 or k3, in the reward k1."""
    kl_target: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """The coefficient follows this KL, in nats per token. Null keeps it."""
    kl_horizon: Annotated[Count, Unit("responses")] = 10_000
    """Responses in which the coefficient can move by a fifth towards `kl_target`."""
    reference_refresh_every: Annotated[Index, Unit("steps")] = 0
    """Steps after which the reference becomes the policy of that moment. 0: never."""
    entropy_coef: Number = 0.0
    """Weight of the entropy bonus. A negative one lowers the entropy."""
    entropy_target: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """The coefficient rises while the entropy is below this, in nats per token, and falls above."""
    entropy_coef_step: Positive = 1e-4
    """Change of the coefficient in a step, with `entropy_target`."""
    entropy_coef_max: Positive = 5e-3
    """Bound of the coefficient, with `entropy_target`."""
    aggregation: Literal["seq-mean-token-mean", "token-mean", "seq-sum-constant", "prompt-mean"] = (
        "seq-mean-token-mean"
    )
    """How token losses become one number: GRPO, DAPO, Dr. GRPO, ScaleRL."""
    mask_truncated: bool = False
    """Truncated responses leave the loss (DAPO's overlong filtering). They still count as
    responses, and in the baseline of their group; their tokens do not count."""
    token_discount: Share = 0.0
    """Discount of rewards per token, such as `token_repetition`, over earlier tokens. 0 charges the
    token alone."""
    mismatch: MismatchConfig = MismatchConfig()
    """Correction for the engine's probabilities."""

    @property
    def needs_reference(self) -> bool:
        """Does the learner keep a reference policy?"""
        return bool(self.kl_coef)


class OptimizerConfig(Settings):
    """AdamW and its learning-rate schedule. The schedule counts steps of the recipe, from 0."""

    lr: Positive = 1e-6
    """The highest learning rate."""
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)], ...],
        Field(min_length=2, max_length=2),
    ] = (0.9, 0.999)
    """Decay of the first and second moment, two numbers in [0, 1)."""
    eps: Positive = 1e-8
    """Added to the root of the second moment. Far above the size of the gradients it turns AdamW
    into SGD with momentum."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay of the matrices. Norms and biases do not decay."""
    max_grad_norm: Positive = 1.0
    """Gradients of a larger norm are scaled down to this one."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the learning rate after the warm-up."""
    warmup_steps: Annotated[Index, Unit("steps")] = 0
    """Steps in which the learning rate rises linearly from 0."""
    final_lr_share: Share = 0.0
    """Share of `lr` that is left at the last step of `linear` and `cosine`."""


class DeviceConfig(Settings):
    """What to train on."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes the GPUs of the cluster where it has some."""


class TrainerConfig(DeviceConfig):
    """How long to train and on what."""

    max_steps: Annotated[Count, Unit("steps"), Field(examples=[1])]
    """Steps of the whole run."""


class EvaluationConfig(Settings):
    """Held-out evaluation at the start, every `every` steps and at the end."""

    every: Annotated[Index, Unit("steps")] = 20
    """Steps between evaluations. 0 evaluates only at the start and at the end."""
    num_samples: Annotated[Count, Unit("responses per problem")] = 8
    """Sampled responses at `temperature`. Greedy decoding always takes one."""
    temperature: Positive = 1.0
    """Temperature of the sampled responses."""
    top_p: PositiveShare = 1.0
    """Sampled tokens come from the smallest set with this share of probability. 1 takes all."""
    interim_problems: Annotated[Count, Unit("problems")] = 128
    """Problems of the evaluations between start and end. Each gets one greedy and one sample."""
    max_response_tokens: Annotated[int | None, Field(ge=1), Unit("tokens")] = None
    """Null: as in training."""
    probes: tuple[Text, ...] = ()
    """Registered measurements of the responses, such as `answer_style` of `grpo.miniature`."""


class RolloutConfig(Settings):
    """The vLLM engines."""

    strategy: Text = "plain"
    """The registered way to make groups of responses."""
    max_staleness: Annotated[int, Field(ge=0, le=1), Unit("updates")] = 0
    """1 samples the next batch while the learner works on this one, so a step takes the longer of
    the two and not their sum. Needs `algorithm.mismatch.correction`. 0 is strictly on-policy."""
    segment_tokens: Annotated[int | None, Field(ge=1), Unit("tokens")] = None
    """`strategy: partial` only. A step generates at most so many tokens of a response. An
    unfinished one goes on in the next step, under the new weights."""
    prompts_in_flight: Annotated[int | None, Field(ge=1), Unit("prompts")] = None
    """`strategy: partial` only. Groups that are worked on at one time. Null: twice
    `batch.num_prompts`."""
    num_engines: Annotated[Count, Unit("engines")] = 1
    """Engines that sample side by side."""
    cpus_per_engine: Annotated[Positive, Unit("CPUs")] = 1.0
    """CPUs that Ray reserves for an engine."""
    gpus_per_engine: Annotated[Positive, Unit("GPUs")] = 1.0
    """Ignored on CPU. A whole number above 1 is the size of tensor parallelism."""
    threads_per_engine: Annotated[Count, Unit("threads")] = 1
    """OpenMP threads. One makes CPU samples independent of their batch to the last bit."""
    max_num_seqs: Annotated[Count, Unit("responses per engine")] = 512
    """Responses that an engine works on at one time. The others queue."""
    max_model_len: Annotated[int | None, Field(ge=1), Unit("tokens")] = None
    """Prompt and response together. Null: the longest prompt and the longest response."""
    kv_cache_gib: Annotated[Positive, Unit("GiB")] = 1.0
    """Memory of the KV cache of an engine. CPU only."""
    gpu_memory_share: PositiveShare | None = None
    """Share of a GPU's memory for weights and KV cache of an engine. Null: 0.9, and 0.5 where
    `cluster.colocate` leaves the rest to a learner rank."""
    max_batched_tokens: Tokens = 16_384
    """Tokens that an engine computes in one step, those of new prompts included. More fill the GPU
    better, and take memory from the KV cache. GPU only."""
    enforce_eager: bool | None = None
    """True runs without CUDA graphs. Null: eager on CPU, graphs on GPU."""
    stall_timeout_seconds: Seconds = 600
    """An engine that has finished no response for so long is replaced, and then the run ends."""
    hang_timeout_seconds: Seconds = 120
    """An engine that has not answered at all for so long is killed and replaced."""

    def is_eager(self, device: Literal["cpu", "cuda"] | str) -> bool:
        """`enforce_eager`, resolved for the device: `cpu` or `cuda`."""
        return device == "cpu" if self.enforce_eager is None else self.enforce_eager


class LoraSettings(Settings):
    """Low-rank adapters (LoRA, arXiv:2106.09685) in place of training all weights."""

    rank: Count = 16
    """Columns of B and rows of A."""
    alpha: Positive = 32.0
    """The product B A is scaled by alpha / rank."""
    target_modules: Annotated[tuple[Text, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Modules of the model that get adapters, by the end of their names."""


class LearnerConfig(Settings):
    """The DeepSpeed ZeRO ranks. Nothing here changes the gradient."""

    num_ranks: Annotated[Count, Unit("ranks")] = 2
    """Processes that share the weights, the gradients and the optimizer state."""
    cpus_per_rank: Annotated[Positive, Unit("CPUs")] = 1.0
    """CPUs that Ray reserves for a rank."""
    gpus_per_rank: Annotated[Positive, Unit("GPUs")] = 1.0
    """Ignored on CPU. On GPU it is 1, because NCCL takes one rank a GPU."""
    threads_per_rank: Annotated[Count, Unit("threads")] = 1
    """Threads of torch in a rank."""
    tokens_per_microbatch: Tokens = 16_384
    """Padded tokens per rank and micro-batch. It sets the use of memory."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 3
    """What the ranks share: 1 the optimizer state, 2 the gradients too, 3 the weights too. 0 shares
    nothing and needs float32."""
    offload_optimizer: bool = False
    """Keeps optimizer state in CPU memory. GPU only: less GPU memory, slower steps."""
    offload_parameters: bool = False
    """Keeps the rank's share of the weights in CPU memory too. GPU and `zero_stage: 3` only."""
    param_persistence_threshold: Annotated[Index, Unit("elements")] = 100_000
    """Smaller parameters stay whole on every rank. 0: none."""
    head_chunk_tokens: Tokens = 1024
    """Tokens whose logits exist at one time."""
    gradient_checkpointing: bool = False
    """Computes activations again in the backward pass: less memory, about a third more time."""
    lora: LoraSettings | None = None
    """Trains low-rank adapters and leaves the weights as they are. Null trains all weights."""

    def problems(self, device: str | None, dtype: str | None) -> list[str]:
        """What DeepSpeed cannot do; `device` is "cpu" or "cuda", None where it is not known yet."""
        found = []
        if self.offload_parameters and self.zero_stage < 3:
            found.append(
                f"learner.offload_parameters=true: learner.zero_stage={self.zero_stage} keeps the "
                "weights whole on every rank; use learner.zero_stage=3"
            )
        if self.offload_optimizer and self.zero_stage == 0:
            found.append(
                "learner.offload_optimizer=true: learner.zero_stage=0 has no state to move; use "
                "learner.zero_stage=1 or more"
            )
        if self.zero_stage == 0 and dtype == "bfloat16":
            found.append(
                "learner.zero_stage=0: there DeepSpeed keeps no float32 copy of bfloat16 weights, "
                "so small updates would be lost; use learner.zero_stage=1 or model.dtype=float32"
            )
        for key in ("offload_optimizer", "offload_parameters"):
            if getattr(self, key) and device == "cpu":
                found.append(
                    f"learner.{key}=true: on CPU everything is in CPU memory already; leave it out"
                )
        return found


class ClusterConfig(Settings):
    """Where the actors run. RAY_ADDRESS wins over `address`. Neither starts a private cluster."""

    address: Text | None = None
    """The address of a running Ray cluster."""
    colocate: bool = False
    """Engines and learner ranks on the same GPUs, in turn: engines sleep while the ranks learn.
    Each GPU has one rank and one worker of an engine. GPU only."""
    placement: Literal["PACK", "SPREAD"] = "PACK"
    """Engines node after node, or one a node in turn. Learner ranks are always on as few nodes as
    hold them, and engines on other nodes where there are such."""
    start_timeout_seconds: Seconds = 600
    """All actors must be ready after this time. A run that has lost a node of a named cluster waits
    as long for it."""
    transfer_timeout_seconds: Seconds = 300
    """New weights must have arrived in all engines after this time."""
    transfer_buffer_mib: Annotated[Count, Unit("MiB")] = 256
    """Size of a message of weights between GPUs, up to one more tensor. Rank 0 has one and each
    engine two. GPU only."""
    learn_timeout_seconds: Seconds = 3600
    """An update of the learner must be finished after this time. With `runtime=torchrun` it is the
    longest wait of the ranks for each other."""


class RunHealthConfig(Settings):
    """When a run that goes wrong ends."""

    max_bad_steps: Annotated[Count, Unit("steps")] = 3
    """Steps in a row with a loss or gradient that is not finite. So many end the run.

    A weight that is not finite ends it at once."""
    weight_check_every: Annotated[Index, Unit("steps")] = 50
    """Steps between proofs that the engines compute with the learner's weights: a content hash of
    every tensor on both sides, after the hand-over. The first hand-over is always proven. A
    difference ends the run. It costs about ten passes over the weights in integer arithmetic on
    rank 0 and on each engine, which samples nothing meanwhile, and no copy of the model. 0: off."""
    max_restarts: Index = 3
    """A learner rank that dies or hangs costs the steps since the last checkpoint: all processes
    are started again, and finished samples are not made twice. So many times in a row in one step,
    then the run ends with exit code 75."""


class HealthConfig(RunHealthConfig):
    """When a run that goes wrong ends."""

    max_logprob_gap: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """A larger mean gap between engine and learner, in nats per token, ends the run. Published
    limits: 0.0104 (SkyRL). Null: no limit."""
    max_mismatch_kl: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """A larger KL(engine, learner), in nats per token, ends the run. Published limits: 5e-4
    (prime-rl, NeMo-RL). Null: no limit."""
    min_effective_share: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    """A smaller effective share of samples under the correction of the mismatch ends the run.
    Null: no limit."""


class RunCheckpointConfig(Settings):
    """What a run keeps on disk to go on from: weights, moments and its whole state."""

    every: Annotated[Index, Unit("steps")] = 20
    """Steps between checkpoints. There is one more at the end, where a stage ends, and at every
    evaluation that is the best of its stage. 0: only these."""
    keep: Annotated[int, Field(ge=2), Unit("checkpoints")] = 2
    """The newest ones that are kept. The best of the stage, and those that a later stage names,
    stay as well."""
    grace_seconds: Seconds = 25
    """After the first Ctrl-C or SIGTERM: time to finish the update and to save. Clusters that take
    machines back usually leave 30 seconds. A second signal ends the run at once."""


class CheckpointConfig(RunCheckpointConfig):
    """What a run keeps on disk to go on from: weights, moments and its whole state."""

    best: Text = "sampled/reward"
    """The number of an evaluation that makes a checkpoint the best one, the higher the better."""


class WandbConfig(Settings):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto` is online where a key is found and offline otherwise. WANDB_MODE overrides `auto`."""
    project: Text = "grpo"
    """The project that the run belongs to."""
    entity: Text | None = None
    """User or team. Null: the default of the key."""
    name: Text | None = None
    """Name of the run. Null: the recipe and the name of the run's folder."""
    group: Text | None = None
    """Runs that belong together, such as the seeds of one recipe."""
    tags: list[Text] = Field(default=[])
    """Tags of the run."""


class TrackingConfig(Settings):
    """Copies of the record for looking at. The record itself is always written."""

    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""
    tensorboard: bool = True
    """Write TensorBoard files."""
    plots: bool = True
    """Draw plots at the end of the run."""
    rollout_tokens: bool = True
    """Record token ids, log-probs and weight versions beside the texts of rollouts/."""
    hash_weights_every: Index = 1
    """Steps between content hashes of the weights in chain.jsonl. 0: only at the beginning."""


class RunConfig(Settings):
    """What every way of training has: a model, its optimizer, machines and a record."""

    modules: tuple[Text, ...] = ()
    """Importable modules that register generators, makers of examples, model builders, probes,
    objectives, advantages, strategies and triggers. They are imported before the recipe is
    checked."""
    runtime: Literal["ray", "in_process", "torchrun"] = "ray"
    """`in_process` runs one engine and one rank in this process, without Ray. With `torchrun` each
    process that torchrun starts is a rank with an engine of its own."""
    seed: Index = 0
    """Decides data order and samples. The held-out problems do not depend on it."""
    output_dir: PathText | None = None
    """The folder of the run. Null: runs/RECIPE/TIMESTAMP. `~` is your home folder."""
    resume: PathText = "auto"
    """`auto` goes on from the newest checkpoint where `output_dir` has a run of this recipe.
    `fresh` begins anew there and moves the old run aside. Or the folder of a run or checkpoint to
    branch off from."""
    supervise: bool = False
    """Starts the run again, with growing pauses, when it ends by a crash or by a signal to it
    alone. Gives up when the same step fails three times."""
    allow_config_change: tuple[Text, ...] = ()
    """Settings, or blocks of settings, that may differ from those of the run that goes on. The
    steps that follow are then not those that would have followed."""
    model: Annotated[ModelConfig, Field(examples=[{"base": "example"}])]
    """The policy that is trained."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and its schedule."""
    trainer: DeviceConfig
    """How long to train and on what."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out evaluation."""
    rollout: RolloutConfig = RolloutConfig()
    """The vLLM engines."""
    learner: LearnerConfig = LearnerConfig()
    """The DeepSpeed ZeRO-3 ranks."""
    cluster: ClusterConfig = ClusterConfig()
    """Where the actors run."""
    checkpoint: RunCheckpointConfig = RunCheckpointConfig()
    """What the run can go on from."""
    health: RunHealthConfig = RunHealthConfig()
    """When a run that goes wrong ends."""
    tracking: TrackingConfig = TrackingConfig()
    """Copies of the record."""

    def as_tree(self) -> dict[str, Any]:
        """The resolved recipe as plain types, ready for YAML."""
        return self.model_dump(mode="json")


class TrainConfig(RunConfig):
    """A whole recipe."""

    trainer: TrainerConfig
    """How long to train and on what."""
    health: HealthConfig = HealthConfig()
    """When a run that goes wrong ends."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """What the run can go on from."""
    data: DataConfig
    """Problems and prompts."""
    batch: BatchConfig = BatchConfig()
    """The batch of one step."""
    sampling: SamplingConfig = SamplingConfig()
    """How training responses are sampled."""
    rewards: RewardsConfig
    """Named rewards and their weights."""
    algorithm: AlgorithmConfig = AlgorithmConfig()
    """Advantages and loss."""
    stages: tuple[StageConfig, ...] = ()
    """Parts of the run with settings of their own, and the conditions that end them. Empty: the
    whole run has the settings of the recipe."""

    @property
    def template(self) -> Template:
        """The prompt template that `data.template` names, if it needs no tokenizer.

        Raises:
            ValueError: a chat template; `data.templates.resolve` makes that with the tokenizer.
        """
        name = self.data.template
        if is_chat(name):
            raise ValueError(f"data.template={name}: a chat template needs the tokenizer")
        return TEMPLATES[name]


def is_chat(template: str) -> bool:
    """Does this name mean the chat template of the tokenizer?"""
    return template == "chat" or template.startswith(CHAT_PREFIX)


def memory_share(config: RunConfig) -> float:
    """`rollout.gpu_memory_share`, resolved: an engine that has its GPU to itself takes more."""
    return config.rollout.gpu_memory_share or (0.5 if config.cluster.colocate else 0.9)


def gpu_problems(config: RunConfig) -> list[str]:
    """What cannot work on GPUs. With `trainer.device=auto` it is known only when the cluster is."""
    engine, rank, problems = config.rollout.gpus_per_engine, config.learner.gpus_per_rank, []
    if engine < 1:
        problems.append(
            f"rollout.gpus_per_engine={engine}: engines cannot share a GPU, because NCCL takes one "
            "rank a GPU; use 1"
        )
    elif engine % 1:
        problems.append(
            f"rollout.gpus_per_engine={engine}: it is the size of tensor parallelism; use a whole "
            "number"
        )
    if rank != 1:
        problems.append(
            f"learner.gpus_per_rank={rank}: NCCL takes one rank a GPU; use 1, and "
            "learner.num_ranks for more GPUs"
        )
    workers = int(config.rollout.num_engines * engine)
    if config.cluster.colocate and not problems and workers != config.learner.num_ranks:
        problems.append(
            f"cluster.colocate=true: each GPU has one rank and one worker of an engine, and "
            f"rollout.num_engines={config.rollout.num_engines} x rollout.gpus_per_engine="
            f"{engine:g} is not learner.num_ranks={config.learner.num_ranks}; make them equal"
        )
    return problems


def dtype_of(config: RunConfig, device: str) -> str:
    """`model.dtype`, resolved for the device, which is "cpu" or "cuda"."""
    if config.model.dtype != "auto":
        return config.model.dtype
    return "float32" if device == "cpu" else "bfloat16"


def device_problems(config: RunConfig, device: str) -> list[str]:
    """What cannot work on a device, "cpu" or "cuda", which `trainer.device=auto` has come to."""
    problems = (gpu_problems if device == "cuda" else cpu_problems)(config)
    return problems + config.learner.problems(device, dtype_of(config, device))


def cpu_problems(config: RunConfig) -> list[str]:
    """What cannot work without GPUs."""
    if not config.cluster.colocate:
        return []
    return [
        "cluster.colocate=true: engines give their memory back by vLLM's sleep mode and take "
        "weights by CUDA IPC, and neither exists on CPU; leave it out there"
    ]
