"""A recipe, a model shape and a device become memory of every actor, time of every phase, and the
settings that make it fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from grpo.config.schema import TrainConfig, memory_share
from grpo.config.stages import effective_config
from grpo.planning import memory, seconds
from grpo.planning.hardware import Device
from grpo.planning.memory import GIB, MIB
from grpo.planning.shapes import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Tokens of prompts and responses, which no recipe knows. Memory is planned for the longest,
    time for the means.
    """

    prompt: float
    longest_prompt: int
    response: float | None = None  # None: half of the limit

    def mean_response(self, limit: int) -> float:
        """Tokens of a response on average."""
        return min(limit, self.response or limit / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """The processes of one kind, each on `devices` devices: its own, unless they are colocated."""

    role: str
    count: int
    devices: int  # GPUs of each; 0 on a CPU
    parts: dict[str, float]  # bytes on each device at the peak
    capacity: float  # bytes of a device
    host: float = 0.0  # bytes of CPU memory beside a GPU: offloaded state, checkpoints, the policy
    expected: float = 0.0  # bytes at the peak with responses of mean length
    room: str = ""  # what the rest is good for

    @property
    def total(self) -> float:
        """Bytes on each device at the peak."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Is that less than a device has?"""
        return self.total <= self.capacity


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The plan of one stage, or of the whole run where it has none."""

    name: str
    config: TrainConfig
    actors: list[Actor]
    tokens: float  # sampled in a step
    seconds: dict[str, float]  # of a step, by phase
    steps: int
    evaluation_hours: float
    advice: list[str]  # settings that make it fit; empty where it does

    @property
    def hours(self) -> float:
        """Of all its steps and evaluations."""
        return sum(self.seconds.values()) * self.steps / 3600 + self.evaluation_hours

    @property
    def fits(self) -> bool:
        """Does every actor fit, and on a CPU all of them together?"""
        return fits(self.actors)


def fits(actors: Sequence[Actor]) -> bool:
    """As `Stage.fits`."""
    apart = all(actor.fits for actor in actors)
    shared = [actor for actor in actors if actor.devices == 0]
    return apart and sum(a.total * a.count for a in shared) <= min(
        (a.capacity for a in shared), default=math.inf
    )


def make_plan(config: TrainConfig, shape: Shape, device: Device, lengths: Lengths) -> list[Stage]:
    """One plan for each stage of a recipe. Stages that a condition ends are given the most steps
    that it allows.
    """
    stages = [effective_config(config, i) for i in range(len(config.stages))] or [config]
    names = [stage.name for stage in config.stages] or ["whole run"]
    # Engines and reference are kept for the stage that needs most.
    reference = any(stage.algorithm.needs_reference for stage in stages)
    plans, left = [], config.trainer.max_steps
    for i, (name, stage) in enumerate(zip(names, stages, strict=True)):
        until = config.stages[i].until if config.stages else None
        steps = min(left, most_steps(until) or left)
        left -= steps
        actors = actors_of(stage, shape, device, lengths, reference)
        advice: list[str] = []
        if not fits(actors):
            advice = settings_that_fit(stage, shape, device, lengths, reference)
        phases = step_seconds(stage, shape, device, lengths, reference)
        mean = lengths.mean_response(stage.sampling.max_response_tokens)
        plans.append(
            Stage(
                name=name,
                config=stage,
                actors=actors,
                tokens=stage.batch.num_responses * mean,
                seconds=phases,
                steps=steps,
                evaluation_hours=evaluation_hours(stage, shape, device, lengths, steps),
                advice=advice,
            )
        )
    return plans


def most_steps(until: Any) -> int | None:
    """Steps after which a condition ends its stage at the latest; None where it need not.

    >>> most_steps({"any": [{"max_steps": 2000}, {"all": [{"max_steps": 10}, {"plateau": "r"}]}]})
    2000
    """
    if not isinstance(until, dict):
        return None
    if "max_steps" in until:
        return int(until["max_steps"])
    found = [steps for part in until.get("any", []) if (steps := most_steps(part))]
    return min(found, default=None)


def weight_width(config: TrainConfig, device: Device) -> int:
    """Bytes of a weight: `model.dtype`, resolved for the device."""
    kinds = {"auto": 2 if device.on_gpu else 4, "float32": 4, "bfloat16": 2}
    return kinds[config.model.dtype]


# --- memory ---------------------------------------------------------------------------------------


def actors_of(
    config: TrainConfig, shape: Shape, device: Device, lengths: Lengths, reference: bool
) -> list[Actor]:
    """Memory of all actors of a recipe without stages.

    Args:
        config: the recipe.
        shape: of its model.
        device: that all actors have.
        lengths: of prompts and responses.
        reference: is a reference policy kept?
    """
    rank = _rank(config, shape, device, lengths, reference)
    if device.on_gpu:
        engine = _gpu_engine(config, shape, device, lengths)
        return list(_in_turn(engine, rank)) if config.cluster.colocate else [engine, rank]
    engine = _cpu_engine(config, shape, device, lengths)
    if config.runtime == "in_process":
        parts: dict[str, float] = {"process": memory.BOTH_BASE}
        parts |= {k: v for k, v in (engine.parts | rank.parts).items() if k != "process"}
        # Both have weights.
        parts["weights"] = engine.parts["weights"] + rank.parts["weights"]
        expected = sum(parts.values()) - rank.total + rank.expected
        return [replace(rank, role="engine, rank and loop", parts=parts, expected=expected)]
    driver = Actor(
        role="driver", count=1, devices=0, parts={"process": memory.DRIVER_BASE},
        capacity=device.memory, expected=memory.DRIVER_BASE,
    )  # fmt: skip
    return [engine, rank, driver]


def _gpu_engine(config: TrainConfig, shape: Shape, device: Device, lengths: Lengths) -> Actor:
    """vLLM fills its share of the memory with KV cache. What it needs besides is one sequence."""
    rollout, width = config.rollout, weight_width(config, device)
    parallel = max(1, int(rollout.gpus_per_engine))
    longest = context_of(config, lengths)
    share = memory_share(config) * device.memory
    weights = width * shape.parameters / parallel
    profile = memory.profile_bytes(shape, width, max(8192, longest), rollout.max_num_seqs)
    kv_token = memory.kv_bytes_per_token(shape, width) / min(parallel, shape.kv_heads)
    cache = max(share - weights - profile, kv_token * longest)  # less is no engine
    graphs = 0.0 if rollout.is_eager("cuda") else memory.CUDA_GRAPHS
    buffer = config.cluster.transfer_buffer_mib * MIB
    parts = {
        "weights": weights,
        "KV cache": cache,
        "forward pass": profile,
        "CUDA graphs": graphs,
        "weight messages": memory.transfer_bytes(shape, width, buffer, 2),
        "CUDA context": memory.CUDA_CONTEXT,
    }
    mean = lengths.prompt + lengths.mean_response(config.sampling.max_response_tokens)
    return Actor(
        role="engine",
        count=rollout.num_engines,
        devices=parallel,
        parts=parts,
        capacity=device.memory,
        expected=sum(parts.values()),
        room=(
            f"KV cache for {cache / kv_token:,.0f} tokens: {cache / kv_token / longest:,.0f} "
            f"sequences of {longest:,} tokens, {cache / kv_token / mean:,.0f} of {mean:,.0f}"
        ),
    )


def _in_turn(engine: Actor, rank: Actor) -> tuple[Actor, Actor]:
    """Both on the same GPUs (`cluster.colocate`): beside the peak of each stands what the other one
    keeps. A rank keeps its state. An engine that sleeps keeps its context and its CUDA graphs, and
    it maps the messages of the rank (CUDA IPC), so it has none of its own.
    """
    passing = {"gathered layers", "activations", "output layer", "optimizer step"}
    passing.add("weight messages")
    state = sum(size for part, size in rank.parts.items() if part not in passing)
    asleep = engine.parts["CUDA graphs"] + engine.parts["CUDA context"]
    awake = {part: size for part, size in engine.parts.items() if part != "weight messages"}
    awake["state of the rank"] = state
    return (
        replace(engine, parts=awake, expected=sum(awake.values())),
        replace(
            rank,
            parts=rank.parts | {"engine, asleep": asleep},
            expected=rank.expected + asleep,
        ),
    )


def _cpu_engine(config: TrainConfig, shape: Shape, device: Device, lengths: Lengths) -> Actor:
    rollout, width = config.rollout, weight_width(config, device)
    longest = context_of(config, lengths)
    cache = rollout.kv_cache_gib * GIB
    parts = {
        "process": memory.ENGINE_BASE,
        "weights": memory.ENGINE_WEIGHTS_FACTOR * width * shape.parameters,
        "KV cache": cache,
        "forward pass": memory.profile_bytes(
            shape, width, max(8192, longest), rollout.max_num_seqs
        ),
        "requests and sampling": memory.ENGINE_WORKING,
    }
    tokens = cache / memory.kv_bytes_per_token(shape, width)
    return Actor(
        role="engine", count=rollout.num_engines, devices=0, parts=parts, capacity=device.memory,
        expected=sum(parts.values()),
        room=f"KV cache for {tokens:,.0f} tokens: {tokens / longest:,.0f} of {longest:,} tokens",
    )  # fmt: skip


def _rank(
    config: TrainConfig, shape: Shape, device: Device, lengths: Lengths, reference: bool
) -> Actor:
    """A learner rank at its peak: in the backward pass, or in the step of the optimizer."""
    learner, width = config.learner, weight_width(config, device)
    ranks = 1 if config.runtime == "in_process" else learner.num_ranks
    adapters = 0 if learner.lora is None else shape.adapters(learner.lora)
    trained = adapters or shape.parameters
    state = memory.state_bytes(
        total=shape.parameters + adapters,
        trained=trained,
        ranks=ranks,
        stage=learner.zero_stage,
        width=width,
    )
    moved = ["float32 weights", "moments", "gradients"] if learner.offload_optimizer else []
    moved += ["weights"] if learner.offload_parameters else []
    host = sum(state[kind] for kind in moved)
    parts = {kind: size for kind, size in state.items() if kind not in moved and size}
    if learner.zero_stage == 3:
        parts["gathered layers"] = memory.gathered_bytes(shape, width)
    if reference and learner.lora is None:
        share = 1 / ranks if learner.zero_stage == 3 else 1
        held = width * shape.parameters * share
        if learner.offload_parameters:
            host += held
        else:
            parts["reference"] = held
    bucket = float(4 * memory.BUCKET_ELEMENTS)
    parts["buckets"] = bucket if device.on_gpu else min(bucket, 4.0 * trained)
    token = memory.activation_bytes(
        shape, width, checkpointing=learner.gradient_checkpointing and device.on_gpu
    )
    token *= 1 + memory.FRAGMENTATION if device.on_gpu else memory.HEAP_FACTOR
    worst, expected = microbatch_tokens(config, lengths, ranks)
    output_layer = memory.output_layer_bytes(
        shape,
        width,
        trained=learner.lora is None,
        chunk_tokens=learner.head_chunk_tokens,
        on_gpu=device.on_gpu,
    )
    step = (
        0.0 if learner.offload_optimizer else memory.step_bytes(trained, ranks, learner.zero_stage)
    )
    parts |= {"activations": worst * token, "output layer": output_layer}
    # The heap of a CPU process keeps what the backward pass had.
    passing = max(expected * token + output_layer, step)
    if device.on_gpu:
        # A checkpoint copies weights and moments, and rank 0 holds the whole policy to save it.
        host += 12 * trained / ranks + width * shape.parameters
        parts["CUDA context"] = memory.CUDA_CONTEXT
        buffer = config.cluster.transfer_buffer_mib * MIB
        parts["weight messages"] = memory.transfer_bytes(shape, width, buffer, 1)
        if step > worst * token + output_layer:
            parts |= {"activations": 0.0, "output layer": 0.0, "optimizer step": step}
    else:
        parts = {"process": memory.RANK_BASE, **parts}
        parts["optimizer step"] = step  # holes in the heap that activations leave are too small
        frozen = reference and learner.lora is None
        parts["other phases"] = memory.heap_bytes(shape, trained, ranks, width, reference=frozen)
        passing = expected * token + output_layer + step
    parts = {name: size for name, size in parts.items() if size}
    fixed = sum(
        size
        for name, size in parts.items()
        if name not in ("activations", "output layer", "optimizer step")
    )
    return Actor(
        role="learner rank",
        count=ranks,
        devices=1 if device.on_gpu else 0,
        parts=parts,
        capacity=device.memory,
        host=host,
        expected=fixed + passing,
        room=f"micro-batches of {worst:,} tokens at most, {expected:,} expected",
    )


def context_of(config: TrainConfig, lengths: Lengths) -> int:
    """Tokens of the longest sequence that an engine must have room for."""
    limit = max(config.sampling.max_response_tokens, config.evaluation.max_response_tokens or 0)
    return config.rollout.max_model_len or lengths.longest_prompt + limit


def spread(mean: float, limit: int, count: int) -> list[int]:
    """`count` lengths with this mean, evenly spread from 0 to twice the mean, or to the limit.

    >>> spread(10, 100, 5)
    [2, 6, 10, 14, 18]
    >>> spread(90, 100, 5)
    [82, 86, 90, 94, 98]
    """
    half = min(mean, limit - mean)
    return [max(1, round(mean - half + 2 * half * (i + 0.5) / count)) for i in range(count)]


def microbatch_tokens(config: TrainConfig, lengths: Lengths, ranks: int) -> tuple[int, int]:
    """Padded tokens of the largest micro-batch of a rank: with all sequences at their limit, and
    with lengths spread around their mean.
    """
    from grpo.learner.packing import plan_microbatches

    limit, budget = config.sampling.max_response_tokens, config.learner.tokens_per_microbatch
    rows = math.ceil(config.batch.num_responses / config.batch.num_updates / ranks)
    longest = context_of(config, lengths) - 1  # the last token predicts nothing
    worst = max(longest, min(budget, rows * longest))
    means = spread(lengths.mean_response(limit), limit, rows * ranks)
    sizes = [round(lengths.prompt) + size - 1 for size in reversed(means)]
    plan = plan_microbatches(sizes, ranks, budget)
    return worst, min(worst, max(len(part[0]) * sizes[part[0][0]] for part in plan))


# --- what to change -------------------------------------------------------------------------------


def changed(config: TrainConfig, key: str, value: Any) -> TrainConfig:
    """The recipe with another value of `block.key`."""
    block, name = key.split(".")
    part = getattr(config, block).model_copy(update={name: value})
    return config.model_copy(update={block: part})


def settings_that_fit(
    config: TrainConfig, shape: Shape, device: Device, lengths: Lengths, reference: bool
) -> list[str]:
    """For each actor the settings that make it fit: each of them alone where one does, otherwise
    together. No setting here changes the gradient.
    """

    def works(candidate: TrainConfig) -> bool:
        return fits(actors_of(candidate, shape, device, lengths, reference))

    def repaired(role: str, candidate: TrainConfig) -> bool:
        found = actors_of(candidate, shape, device, lengths, reference)
        return all(actor.fits for actor in found if actor.role == role)

    if not device.on_gpu:
        return [_first_that_work(config, _cpu_changes(config, lengths), works)]
    advice = []
    for role, changes in (
        ("engine", _engine_changes(config)),
        ("learner rank", _rank_changes(config, lengths)),
    ):
        if not repaired(role, config):
            found = _first_that_work(config, changes, partial(repaired, role))
            advice.append(f"{role}: {found}")
    return advice


Change = tuple[str, Sequence[Any]]  # a setting, and its values from the gentlest on


def _first_that_work(
    config: TrainConfig, changes: Sequence[Change], works: Callable[[TrainConfig], bool]
) -> str:
    """The gentlest value of every setting that suffices alone; otherwise settings that do together,
    the first of which have their last value.
    """
    alone = []
    for key, values in changes:
        enough = next((value for value in values if works(changed(config, key, value))), None)
        if enough is not None:
            alone.append(f"{key}={_shown(enough)}")
    if alone:
        return "set " + " or ".join(alone)
    together: list[str] = []
    for key, values in changes:
        last = values[-1]
        enough = next((value for value in values if works(changed(config, key, value))), last)
        config = changed(config, key, enough)
        together.append(f"{key}={_shown(enough)}")
        if works(config):
            return "set " + " and ".join(together)
    return f"not even {' and '.join(together)} suffices; take a larger device or a smaller model"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _smaller(value: int, least: int) -> list[int]:
    """Multiples of 512 below `value`, the largest first, and `least` at the end."""
    first = memory.round_down(value - 1, 512)
    return [*range(first, least, -512), least] if least < value else []


def _rank_changes(config: TrainConfig, lengths: Lengths) -> list[Change]:
    learner = config.learner
    # A single longer row goes alone, so a smaller micro-batch would change nothing.
    least = context_of(config, lengths)
    return [
        (key, values)
        for key, values in (
            ("learner.gradient_checkpointing", [] if learner.gradient_checkpointing else [True]),
            ("learner.tokens_per_microbatch", _smaller(learner.tokens_per_microbatch, least)),
            ("learner.zero_stage", [] if learner.zero_stage == 3 else [3]),
            ("learner.offload_optimizer", [] if learner.offload_optimizer else [True]),
            # Colocated ranks are as many as the GPUs of the engines, so they cannot grow alone.
            (
                "learner.num_ranks",
                []
                if config.cluster.colocate
                else [learner.num_ranks * factor for factor in range(2, 17)],
            ),
        )
        if values
    ]


def _engine_changes(config: TrainConfig) -> list[Change]:
    rollout = config.rollout
    shares = [share / 100 for share in range(95, 30, -5)]
    parallel = [n for n in (2, 4, 8) if n > rollout.gpus_per_engine]
    changes: list[Change] = [
        ("rollout.gpu_memory_share", [s for s in shares if s < memory_share(config)])
    ]
    if not config.cluster.colocate:
        changes.append(("rollout.gpus_per_engine", parallel))
    elif not config.learner.offload_optimizer:  # the state of the rank beside it
        changes.append(("learner.offload_optimizer", [True]))
    return [(key, values) for key, values in changes if values]


def _cpu_changes(config: TrainConfig, lengths: Lengths) -> list[Change]:
    rollout, learner = config.rollout, config.learner
    gib = [rollout.kv_cache_gib / 2**n for n in range(1, 4)]
    smaller = _smaller(learner.tokens_per_microbatch, context_of(config, lengths))
    changes: list[Change] = [
        ("learner.tokens_per_microbatch", smaller),
        ("rollout.kv_cache_gib", gib),
        ("rollout.num_engines", [*range(rollout.num_engines - 1, 0, -1)]),
        ("learner.num_ranks", [*range(learner.num_ranks - 1, 0, -1)]),
    ]
    return [(key, values) for key, values in changes if values]


# --- time -----------------------------------------------------------------------------------------


def step_seconds(
    config: TrainConfig, shape: Shape, device: Device, lengths: Lengths, reference: bool
) -> dict[str, float]:
    """Seconds of one step by phase, as `metrics.jsonl` names them."""
    limit = config.sampling.max_response_tokens
    mean, width = lengths.mean_response(limit), weight_width(config, device)
    eff = seconds.ON_GPU if device.on_gpu else seconds.ON_CPU
    responses, learner = config.batch.num_responses, config.learner
    ranks = 1 if config.runtime == "in_process" else learner.num_ranks
    length = lengths.prompt + mean
    passes = 1.0 if reference else 0.0  # of the reference
    passes += (config.batch.num_updates - 1) / config.batch.num_updates  # of the old policy
    flops = learn_tokens(config, length) * seconds.learn_flops(
        shape, length, checkpointing=learner.gradient_checkpointing, forward_passes=passes
    )
    microbatches = (
        math.ceil(learn_tokens(config, length) / ranks / learner.tokens_per_microbatch)
        + config.batch.num_updates
    )
    gathers = 0.0
    if learner.zero_stage == 3 and ranks > 1:
        # Forward, backward, and the gradients that are scattered: three times the weights.
        gathers = seconds.link_seconds(3.0 * width * shape.parameters * microbatches, device, eff)
    compute = flops / (device.flops * eff.learning * ranks)
    return {
        "sample": sample_seconds(config, shape, device, lengths, responses, mean, limit),
        "score": responses * eff.score_seconds,
        "learn": max(compute, gathers) + microbatches * eff.microbatch_seconds,
        # Gathered, sent, and loaded.
        "transfer": seconds.link_seconds(3.0 * width * shape.parameters, device, eff) + 0.05,
    }


def learn_tokens(config: TrainConfig, length: float) -> float:
    """Tokens that a step is trained on."""
    return config.batch.num_responses * length


def sample_seconds(
    config: TrainConfig,
    shape: Shape,
    device: Device,
    lengths: Lengths,
    responses: float,
    mean: float,
    limit: int,
) -> float:
    """Seconds until the engines have made `responses` of `mean` tokens."""
    rollout, width = config.rollout, weight_width(config, device)
    eff = seconds.ON_GPU if device.on_gpu else seconds.ON_CPU
    engines = 1 if config.runtime == "in_process" else rollout.num_engines
    make = _gpu_engine if device.on_gpu else _cpu_engine
    engine = make(config, shape, device, lengths)
    devices = max(1, engine.devices)
    room = engine.parts["KV cache"] * devices / memory.kv_bytes_per_token(shape, width)
    length = lengths.prompt + mean
    own = responses / engines
    at_once = max(1.0, min(own, rollout.max_num_seqs, room / length))
    steps = seconds.decode_steps(own, at_once, mean, min(limit, 2 * mean))
    one = seconds.decode_step_seconds(
        shape, device, eff,
        sequences=own * mean / steps, length=lengths.prompt + mean / 2, width=width,
        devices=devices,
    )  # fmt: skip
    # The samples of a prompt share it in the prefix cache, on a GPU.
    prompts = own / (config.batch.num_samples if device.on_gpu else 1) * lengths.prompt
    prefill = prompts * seconds.forward_flops(shape, lengths.prompt)
    return steps * one + prefill / (device.flops * eff.prefill * devices)


def evaluation_hours(
    config: TrainConfig, shape: Shape, device: Device, lengths: Lengths, steps: int
) -> float:
    """Of evaluations: with `interim_problems` problems every `every` steps, and of at least so many
    at start and end. The number of held-out problems is known for generated ones only.
    """
    evaluation = config.evaluation
    limit = evaluation.max_response_tokens or config.sampling.max_response_tokens
    held_out = config.data.held_out.model_dump().get("num_problems") or 0
    whole = max(int(held_out), evaluation.interim_problems) * (1 + evaluation.num_samples)
    interim = (
        evaluation.interim_problems * 2 * (steps // evaluation.every if evaluation.every else 0)
    )
    mean = lengths.mean_response(limit)
    total = sample_seconds(config, shape, device, lengths, 2.0 * whole + interim, mean, limit)
    return total / 3600


def as_json(stages: Sequence[Stage]) -> Iterator[dict[str, Any]]:
    """The plan as plain types: bytes, seconds and hours."""
    for stage in stages:
        yield {
            "stage": stage.name,
            "fits": stage.fits,
            "advice": stage.advice,
            "tokens_per_step": stage.tokens,
            "seconds": stage.seconds,
            "steps": stage.steps,
            "hours": stage.hours,
            "actors": [
                {
                    "role": actor.role,
                    "count": actor.count,
                    "devices": actor.devices,
                    "bytes": actor.total,
                    "expected_bytes": actor.expected,
                    "host_bytes": actor.host,
                    "capacity_bytes": actor.capacity,
                    "fits": actor.fits,
                    "parts": actor.parts,
                    "room": actor.room,
                }
                for actor in stage.actors
            ],
        }
