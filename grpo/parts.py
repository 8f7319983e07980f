"""The processes of a run: a recipe becomes engines and a learner, on the runtime that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import say
from grpo.config.schema import RunConfig, TrainConfig, dtype_of, memory_share
from grpo.config.sft import SftConfig
from grpo.inputs import Inputs, ModelInputs

if TYPE_CHECKING:
    from grpo.runtime.protocols import Learner, Rollouts


@contextmanager
def start_parts(
    config: TrainConfig,
    inputs: Inputs,
    status: Callable[[str], None],
    *,
    notice: Callable[[str], None] = say,
    with_learner: bool = True,
    later: Mapping[str, TrainConfig] | None = None,
    again: bool = False,
) -> Iterator[tuple[Rollouts, Learner | None]]:
    """Engines and learner of the recipe's runtime, ready for work; stopped at the end of the block.

    Args:
        status: told what goes on.
        notice: told what the user should know afterwards, such as the loss of an engine.
        with_learner: train too.
        later: further recipes that the cluster must be large enough for, those of other stages, by
            what messages about them begin with.
        again: the run had processes before, so what is missing now has been there.

    Raises:
        UserError: the machine or cluster cannot give what the recipe asks for.
        LostError: the same, with `again`, after a wait.
    """
    with start_any(
        config,
        inputs,
        status,
        notice=notice,
        with_learner=with_learner,
        later=later,
        again=again,
    ) as parts:
        rollouts, learner = parts
        assert rollouts is not None
        yield rollouts, learner


@contextmanager
def start_any(
    config: TrainConfig | SftConfig,
    inputs: ModelInputs,
    status: Callable[[str], None],
    *,
    notice: Callable[[str], None] = say,
    with_learner: bool = True,
    later: Mapping[str, TrainConfig] | None = None,
    again: bool = False,
) -> Iterator[tuple[Rollouts | None, Learner | None]]:
    """As `start_parts`; no engines where `inputs` have nothing to sample, being no `Inputs`.

    Raises:
        UserError: the machine or cluster cannot give what the recipe asks for.
        LostError: the same, with `again`, after a wait.
    """
    if config.runtime == "in_process":
        with _start_in_process(config, inputs, status, with_learner=with_learner) as parts:
            yield parts
        return
    if config.runtime == "torchrun":
        assert with_learner, "every process of torchrun is a learner rank"
        with _start_torchrun(config, inputs, status) as parts:
            yield parts
        return
    from grpo.runtime.ray.cluster import reserve
    from grpo.runtime.ray.learner import LearnerGroup
    from grpo.runtime.ray.rollouts import RolloutPool

    with_engines = isinstance(inputs, Inputs)
    status("starting the cluster")
    with reserve(
        config,
        with_learner=with_learner,
        with_engines=with_engines,
        later=later or {},
        again=again,
        notice=notice,
    ) as cluster:
        engines = [f"{config.rollout.num_engines} vLLM engines"] if with_engines else []
        ranks = [f"{config.learner.num_ranks} ZeRO-3 learner ranks"] if with_learner else []
        status(f"starting {' and '.join([*engines, *ranks])}")
        rollouts = learner = None
        seconds = config.cluster.start_timeout_seconds
        try:
            if isinstance(inputs, Inputs):
                engine = engine_spec(config, inputs, cluster.device)
                limits = config.rollout.stall_timeout_seconds, config.rollout.hang_timeout_seconds
                rollouts = RolloutPool(cluster, engine, *limits, notice)
            if with_learner:
                spec = learner_spec(config, inputs, cluster.device)
                deadline = config.cluster.learn_timeout_seconds
                if cluster.pairs is not None and rollouts is not None:
                    # An engine measures the free memory while it starts, so it comes first alone.
                    rollouts.wait_until_ready(seconds)
                    rollouts.client(seconds).sleep()
                learner = LearnerGroup(cluster, spec, deadline, seconds, rollouts)
                learner.wait_until_ready(seconds)
            if rollouts is not None:
                rollouts.wait_until_ready(seconds)
            yield rollouts, learner
        finally:
            # Killed one by one: a process that hangs or was stopped outlives its placement group.
            for part in (learner, rollouts):
                if part is not None:
                    part.close()


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


@contextmanager
def _start_torchrun(
    config: TrainConfig | SftConfig, inputs: ModelInputs, status: Callable[[str], None]
) -> Iterator[tuple[Rollouts | None, Learner | None]]:
    from grpo.runtime.torchrun.launch import leading
    from grpo.runtime.torchrun.ranks import SpmdLearner, SpmdRollouts, check_shared
    from grpo.tracking.folder import run_path

    group, own = leading()
    check_shared(group, own, run_path(config.output_dir or "runs"), inputs.model_folder)
    engines = " with an engine each" if isinstance(inputs, Inputs) else ""
    status(f"starting {group.world_size} ZeRO-3 learner ranks{engines}")
    device, rollouts = own.place.device, None
    if isinstance(inputs, Inputs):
        spec = engine_spec(config, inputs, device)
        limits = config.rollout.stall_timeout_seconds, config.rollout.hang_timeout_seconds
        rollouts = SpmdRollouts(group, own, spec, *limits)
    learner = None
    try:
        learner = SpmdLearner(group, own, learner_spec(config, inputs, device))
        if rollouts is not None:
            rollouts.wait_until_ready(config.cluster.start_timeout_seconds)
        yield rollouts, learner
    finally:
        for part in (learner, rollouts):
            if part is not None:
                part.close()


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
        gpu_memory_share=memory_share(config),
        max_batched_tokens=rollout.max_batched_tokens,
        colocated=config.cluster.colocate,
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
        # Under torchrun nobody but the ranks themselves can notice. With Ray the driver is first.
        collective_timeout_seconds=config.cluster.learn_timeout_seconds
        + (0 if config.runtime == "torchrun" else 60),
        transfer_buffer_bytes=config.cluster.transfer_buffer_mib * 2**20,
        colocated=config.cluster.colocate and isinstance(inputs, Inputs),
    )


def with_float32_head(config: RunConfig, device: str) -> bool:
    """`model.float32_head`, resolved for the device. With float32 weights the output layer is
    float32 anyhow, and neither side does anything of its own.
    """
    return dtype_of(config, device) != "float32" and config.model.float32_head is not False
