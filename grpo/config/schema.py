"""The recipe schema: typed, frozen dataclasses. Everything impossible is refused here, before torch
is imported.

Units are in the names. A batch is `num_prompts` prompts x `num_samples` responses, whatever the
number of ranks. What can be derived is a property and not a field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.curriculum import CurriculumSpec
from data.mappings import MAPPINGS
from data.templates import TEMPLATES, Template
from grpo.common.errors import RecipeError, UserError
from grpo.config import strict
from grpo.miniature.arithmetic import ArithmeticSpec
from grpo.tracking.settings import TrackingConfig
from grpo.tracking.trackers.wandb import resolve_mode
from rewards import Component, Scorer

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The policy: a Hugging Face folder, or a small base model that the project builds itself."""

    path: str | None = None
    base: str | None = None
    base_options: dict[str, Any] = field(default_factory=dict)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: float32 on CPU, bfloat16 on GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Where problems come from: a generator, or a file that `data.loading` reads (JSONL, JSON,
    Parquet, gzip).
    """

    source: Literal["arithmetic", "file"] = "arithmetic"
    path: str | None = None
    mapping: str = (
        "plain"  # how rows become problems, see data/mappings.py; plain: id, problem, answer
    )
    max_bad_rows: int = 0  # rows that may be skipped; the first one more stops the start
    num_problems: int | None = (
        None  # the first N; None takes all of a file and is refused for a generator
    )
    arithmetic: ArithmeticSpec = field(
        default_factory=ArithmeticSpec
    )  # which expressions the generator makes


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Training and held-out problems, and the template that makes prompts of them."""

    train: SourceConfig
    held_out: SourceConfig
    template: str = "r1_zero"
    curriculum: CurriculumSpec = field(
        default_factory=CurriculumSpec
    )  # which training problems a step draws


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """The batch of one step."""

    num_prompts: int = 64
    num_samples: int = 8  # G: responses per prompt, the group whose mean reward is the baseline
    num_updates: int = 1  # optimizer steps per batch; 1 is strictly on-policy

    @property
    def num_responses(self) -> int:
        """B, the responses of one step over all ranks."""
        return self.num_prompts * self.num_samples


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How training responses are sampled."""

    temperature: float = 1.0
    max_response_tokens: int = 1024
    # Own seed for every sample, so that each can be made again alone. Costs a loop per token on
    # GPU: see docs.
    seeded: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardsConfig:
    """Named rewards with their weights; every other key of a component is an option of its
    function.
    """

    components: dict[str, Any]
    modules: tuple[
        str, ...
    ] = ()  # importable modules of the operator that register further rewards
    num_workers: int = (
        0  # processes for answers whose grading has no small bound; 0: one, when first needed
    )

    def scorer_components(self) -> dict[str, Component]:
        """Components for `rewards.Scorer`.

        Raises:
            ValueError: a component without a numeric weight.
        """
        components = {}
        for name, settings in self.components.items():
            if not isinstance(settings, Mapping) or not _is_number(settings.get("weight")):
                raise ValueError(
                    f"rewards.components.{name}: needs a numeric weight, such as {{weight: 1.0}}"
                )
            options = {
                key: value for key, value in settings.items() if key not in ("weight", "requires")
            }
            requires = settings.get("requires", [])
            if not isinstance(requires, list | tuple) or not all(
                isinstance(other, str) for other in requires
            ):
                raise ValueError(
                    f"rewards.components.{name}.requires={requires}: expected a list of components"
                )
            components[name] = Component(
                weight=float(settings["weight"]), options=options, requires=requires
            )
        return components

    def scorer(self) -> Scorer:
        """The scorer that the recipe asks for.

        Raises:
            ValueError: components that cannot be used, all of them in one message.
        """
        return Scorer(self.scorer_components(), modules=self.modules, num_workers=self.num_workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmConfig:
    """GRPO (DeepSeekMath, arXiv:2402.03300, section 4) and its published variants."""

    advantage_std: Literal["population", "sample", "none"] = (
        "population"  # ddof 0, ddof 1, Dr. GRPO
    )
    advantage_eps: float = 1e-6
    clip_low: float = 0.2
    clip_high: float = 0.2  # larger than clip_low is DAPO's clip-higher
    kl_coef: float = (
        0.0  # weight of the k3 estimate of KL(policy || reference); 0 keeps no reference
    )
    entropy_coef: float = 0.0
    objective: str = "grpo"
    aggregation: Literal["seq-mean-token-mean", "token-mean", "seq-sum-constant"] = (
        "seq-mean-token-mean"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW and its learning-rate schedule; the schedule counts steps of the recipe, from 0."""

    lr: float = 1e-6
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    final_lr_share: float = 0.0  # share of `lr` left at the last step of linear and cosine


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """How long to train and on what."""

    max_steps: int
    device: Literal["auto", "cpu", "gpu"] = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Held-out evaluation at the start, every `every` steps and at the end."""

    every: int = 20  # 0: only at the start and at the end
    num_samples: int = 8  # per problem at `temperature`; greedy always takes one
    temperature: float = 1.0
    probes: tuple[str, ...] = ()
    top_p: float = 1.0
    interim_problems: int = (
        128  # problems of the evaluations between start and end, greedy and one sample each
    )
    max_response_tokens: int | None = None  # None: as in training


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """The vLLM engines."""

    strategy: str = "plain"
    stall_timeout_seconds: int = 600
    num_engines: int = 1
    cpus_per_engine: float = 1.0
    gpus_per_engine: float = 1.0  # ignored on CPU; whole numbers above 1 are tensor parallel
    # One OpenMP thread makes CPU samples independent of their batch to the last bit.
    threads_per_engine: int = 1
    max_num_seqs: int = 512  # per engine; fewer than the samples in flight makes them queue
    max_model_len: int | None = None  # tokens; None: longest prompt + max_response_tokens
    kv_cache_gib: float = 1.0  # CPU only
    gpu_memory_share: float = 0.9
    enforce_eager: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """The DeepSpeed ZeRO-3 ranks."""

    num_ranks: int = 2
    cpus_per_rank: float = 1.0
    gpus_per_rank: float = 1.0  # ignored on CPU
    threads_per_rank: int = 1
    tokens_per_microbatch: int = (
        16_384  # padded tokens per rank; sets memory use, never the gradient
    )
    param_persistence_threshold: int = (
        100_000  # elements; smaller parameters stay whole on every rank. 0: none
    )
    head_chunk_tokens: int = 1024  # tokens whose logits exist at one time, forward and backward
    gradient_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where the actors run. RAY_ADDRESS wins over `address`; neither starts a private local
    cluster.
    """

    address: str | None = None
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    start_timeout_seconds: int = 600
    transfer_timeout_seconds: int = 300
    learn_timeout_seconds: int = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A whole recipe."""

    model: ModelConfig
    data: DataConfig
    rewards: RewardsConfig
    trainer: TrainerConfig
    modules: tuple[str, ...] = ()
    runtime: Literal["ray", "in_process"] = "ray"
    seed: int = 0
    output_dir: str | None = None  # None: runs/<recipe>/<timestamp>
    batch: BatchConfig = field(default_factory=BatchConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @property
    def template(self) -> Template:
        """The prompt template that `data.template` names."""
        return TEMPLATES[self.data.template]

    def as_tree(self) -> dict[str, Any]:
        """The resolved recipe as plain types, ready for YAML."""
        return _plain(dataclasses.asdict(self))


def load_config(name: str, overrides: list[str], folder: Path | None = None) -> TrainConfig:
    """Read recipe `name` from `folder`, apply Hydra overrides, and check all of it.

    Raises:
        UserError: no such recipe, or an override that Hydra's grammar refuses.
        RecipeError: unknown keys, wrong types and impossible combinations, all at once.
    """
    tree = _compose(name, overrides, folder or RECIPES)
    config, problems = strict.read(TrainConfig, tree)
    if config is not None:
        problems += impossible(config)
    if config is None or problems:
        raise RecipeError(name, problems)
    return config


def _compose(name: str, overrides: list[str], folder: Path) -> Any:
    """The recipe as a plain tree. Hydra composes; we apply the overrides, so that all errors come
    at once.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not (folder / f"{name}.yaml").is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise UserError(
            f"--config-name {name}: no such recipe in {folder}; recipes there: {', '.join(known)}"
        )
    try:
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            tree = compose(config_name=name)
        OmegaConf.set_struct(tree, False)
        for override in OverridesParser.create().parse_overrides(overrides):
            if override.is_delete():
                key, _, last = override.key_or_group.rpartition(".")
                parent = OmegaConf.select(tree, key) if key else tree
                if parent is not None:
                    parent.pop(last, None)
            else:
                OmegaConf.update(
                    tree, override.key_or_group, override.value(), merge=False, force_add=True
                )
        return OmegaConf.to_container(tree, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(
            f"cannot read recipe {name!r} with overrides {overrides}: {error}"
        ) from None


def impossible(config: TrainConfig) -> list[str]:
    """Every combination of settings that cannot work, as messages that name the fix."""
    return [*_out_of_range(config), *_conflicts(config), *_reward_problems(config)]


def _out_of_range(config: TrainConfig) -> list[str]:
    at_least_one = {
        "batch.num_prompts": config.batch.num_prompts,
        "batch.num_samples": config.batch.num_samples,
        "batch.num_updates": config.batch.num_updates,
        "sampling.max_response_tokens": config.sampling.max_response_tokens,
        "trainer.max_steps": config.trainer.max_steps,
        "evaluation.num_samples": config.evaluation.num_samples,
        "evaluation.interim_problems": config.evaluation.interim_problems,
        "rollout.num_engines": config.rollout.num_engines,
        "rollout.threads_per_engine": config.rollout.threads_per_engine,
        "rollout.max_num_seqs": config.rollout.max_num_seqs,
        "learner.num_ranks": config.learner.num_ranks,
        "learner.threads_per_rank": config.learner.threads_per_rank,
        "learner.tokens_per_microbatch": config.learner.tokens_per_microbatch,
        "learner.head_chunk_tokens": config.learner.head_chunk_tokens,
        "cluster.start_timeout_seconds": config.cluster.start_timeout_seconds,
    }
    if config.evaluation.max_response_tokens is not None:
        at_least_one["evaluation.max_response_tokens"] = config.evaluation.max_response_tokens
    positive = {
        "sampling.temperature": config.sampling.temperature,
        "optimizer.lr": config.optimizer.lr,
        "optimizer.eps": config.optimizer.eps,
        "optimizer.max_grad_norm": config.optimizer.max_grad_norm,
        "evaluation.temperature": config.evaluation.temperature,
        "rollout.kv_cache_gib": config.rollout.kv_cache_gib,
        "rollout.cpus_per_engine": config.rollout.cpus_per_engine,
        "rollout.gpus_per_engine": config.rollout.gpus_per_engine,
        "learner.cpus_per_rank": config.learner.cpus_per_rank,
        "learner.gpus_per_rank": config.learner.gpus_per_rank,
    }
    not_negative = {
        "seed": config.seed,
        "rewards.num_workers": config.rewards.num_workers,
        "algorithm.kl_coef": config.algorithm.kl_coef,
        "algorithm.clip_low": config.algorithm.clip_low,
        "algorithm.clip_high": config.algorithm.clip_high,
        "algorithm.advantage_eps": config.algorithm.advantage_eps,
        "optimizer.weight_decay": config.optimizer.weight_decay,
        "optimizer.warmup_steps": config.optimizer.warmup_steps,
        "evaluation.every": config.evaluation.every,
        "learner.param_persistence_threshold": config.learner.param_persistence_threshold,
        "data.train.max_bad_rows": config.data.train.max_bad_rows,
        "data.held_out.max_bad_rows": config.data.held_out.max_bad_rows,
    }
    everything = {**at_least_one, **positive, **not_negative}
    return [
        *(
            f"{key}={value}: must be a finite number"
            for key, value in everything.items()
            if not math.isfinite(value)
        ),
        *(f"{key}={value}: must be at least 1" for key, value in at_least_one.items() if value < 1),
        *(
            f"{key}={value}: must be greater than 0"
            for key, value in positive.items()
            if value <= 0
        ),
        *(
            f"{key}={value}: must not be negative"
            for key, value in not_negative.items()
            if value < 0
        ),
    ]


def _conflicts(config: TrainConfig) -> list[str]:
    batch, model, algorithm, optimizer = (
        config.batch,
        config.model,
        config.algorithm,
        config.optimizer,
    )
    problems = []
    if (model.path is None) == (model.base is None):
        problems.append(
            "model: set exactly one of model.path (a Hugging Face folder) and model.base (built here)"
        )
    if config.data.template not in TEMPLATES:
        problems.append(
            f"data.template={config.data.template}: known templates are {', '.join(TEMPLATES)}"
        )
    if batch.num_samples == 1:
        problems.append(
            "batch.num_samples=1: a group of one has no baseline, so every advantage is 0; use at least 2"
        )
    if batch.num_prompts % max(batch.num_updates, 1):
        problems.append(
            f"batch.num_updates={batch.num_updates} does not divide batch.num_prompts={batch.num_prompts}; "
            "groups are never split over updates"
        )
    if batch.num_responses < config.learner.num_ranks * batch.num_updates:
        problems.append(
            f"learner.num_ranks={config.learner.num_ranks}: an update has only "
            f"{batch.num_responses // max(batch.num_updates, 1)} responses; use fewer ranks or a larger batch"
        )
    if algorithm.clip_low > 1:
        problems.append(
            f"algorithm.clip_low={algorithm.clip_low}: a ratio cannot fall below 0; use at most 1"
        )
    if len(optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in optimizer.betas):
        problems.append(f"optimizer.betas={list(optimizer.betas)}: expected two numbers in [0, 1)")
    if not 0 <= optimizer.final_lr_share <= 1:
        problems.append(
            f"optimizer.final_lr_share={optimizer.final_lr_share}: a share lies in [0, 1]"
        )
    if config.rollout.gpus_per_engine > 1 and config.rollout.gpus_per_engine % 1:
        problems.append(
            f"rollout.gpus_per_engine={config.rollout.gpus_per_engine}: above 1 it is the size of tensor parallelism, "
            "a whole number"
        )
    if not 0 < config.rollout.gpu_memory_share <= 1:
        problems.append(
            f"rollout.gpu_memory_share={config.rollout.gpu_memory_share}: a share lies in (0, 1]"
        )
    if config.rollout.max_model_len is not None and (
        config.rollout.max_model_len <= config.sampling.max_response_tokens
    ):
        problems.append(
            f"rollout.max_model_len={config.rollout.max_model_len} leaves no room for a prompt beside "
            f"sampling.max_response_tokens={config.sampling.max_response_tokens}; raise it or leave it null"
        )
    try:
        resolve_mode(config.tracking.wandb)
    except ValueError as error:
        problems.append(str(error))
    if config.data.curriculum.kind == "prioritised" and "accuracy" not in config.rewards.components:
        problems.append(
            "data.curriculum.kind=prioritised: failure rates come from the reward accuracy; add it"
        )
    for name, source in (("train", config.data.train), ("held_out", config.data.held_out)):
        problems += _source_problems(f"data.{name}", source)
    return problems


def _source_problems(path: str, source: SourceConfig) -> list[str]:
    problems = []
    if source.source == "file" and source.path is None:
        problems.append(f"{path}.path: missing; source file needs one")
    if source.mapping not in MAPPINGS:
        problems.append(
            f"{path}.mapping={source.mapping}: known mappings are {', '.join(sorted(MAPPINGS))}"
        )
    if source.source == "arithmetic" and source.path is not None:
        problems.append(
            f"{path}.path={source.path}: source arithmetic generates its problems; set source=file"
        )
    if source.source == "arithmetic" and source.num_problems is None:
        problems.append(f"{path}.num_problems: missing; a generator needs to know how many")
    if source.num_problems is not None and source.num_problems < 1:
        problems.append(f"{path}.num_problems={source.num_problems}: must be at least 1")
    return problems


def _reward_problems(config: TrainConfig) -> list[str]:
    if not config.rewards.components:
        return [
            "rewards.components: empty; name at least one reward, such as accuracy: {weight: 1.0}"
        ]
    try:
        Scorer(config.rewards.scorer_components(), modules=config.rewards.modules)
    except ImportError as error:
        return [f"rewards.modules={list(config.rewards.modules)}: {error}; is it on PYTHONPATH?"]
    except ValueError as error:
        return str(error).splitlines()
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
