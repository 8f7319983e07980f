"""DeepSpeed ZeRO-3 around a policy: start-up, and the gathered weights, a layer at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch import Tensor, nn

from grpo.config.schema import LoraSettings, OptimizerConfig
from grpo.learner import lora
from grpo.learner.policy import Policy, load_model
from grpo.weights.gloo import INTERFACES, interface_to, meeting_point
from grpo.weights.wire import ParamMeta, layer_of, settle

TIMEOUT = timedelta(minutes=10)  # of a collective of the ranks, while they start


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroSettings:
    """How to build a partitioned policy."""

    folder: Path
    dtype: torch.dtype
    max_grad_norm: float
    param_persistence_threshold: int
    head_chunk_tokens: int
    float32_head: bool
    gradient_checkpointing: bool
    stage: int = 3  # of ZeRO
    lora: LoraSettings | None = None
    offload_optimizer: bool = False  # moments and float32 weights in CPU memory
    offload_parameters: bool = False  # partitions of the weights too; stage 3 only

    def deepspeed_config(self) -> dict[str, Any]:
        """What DeepSpeed is told. Micro-batches vary in number, so accumulation boundaries are set
        by hand in the learner.
        """
        offload: dict[str, Any] = {}
        if self.offload_optimizer:
            offload["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if self.offload_parameters:
            offload["offload_param"] = {"device": "cpu", "pin_memory": True}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.max_grad_norm,
            "bf16": {"enabled": self.dtype is torch.bfloat16},
            # The default is the model's type, and sums of many micro-batches in bf16 lose digits.
            "communication_data_type": "fp32",
            "data_types": {"grad_accum_dtype": "fp32"},
            "zero_optimization": {
                "stage": self.stage,
                "stage3_param_persistence_threshold": self.param_persistence_threshold,
                # Buckets are allocated whole: the default of 5e8 elements would take 2 GB for the
                # smallest model.
                "reduce_bucket_size": 50_000_000,
                "stage3_prefetch_bucket_size": 50_000_000,
                "overlap_comm": self.dtype is torch.bfloat16,
                **offload,
            },
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 1_000_000_000,
        }


def init_distributed(
    rank: int, world_size: int, address: str, port: int, backend: str, store: dist.TCPStore | None
) -> None:
    """Join the learner's process group; `address:port` is rank 0's.

    Args:
        rank: of this process.
        world_size: number of ranks.
        address, port: where rank 0 hosts the store through which the ranks find each other.
        backend: "gloo" or "nccl".
        store: that store, on rank 0. The others connect to it.

    DeepSpeed's shared-memory collectives serve inference only. Listing no compatible op keeps it
    from compiling them at start-up, which takes a minute and a compiler, and ZeRO-3 never calls
    them.
    """
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(world_size))
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    if backend == "gloo":
        os.environ["DS_ACCELERATOR"] = "cpu"
        # As in `weights.gloo.join`, for this group and those that DeepSpeed makes of it.
        if (interface := interface_to(address)) is not None:
            os.environ.setdefault(INTERFACES, interface)
    if not dist.is_initialized():
        # Ours and not the one that torch would host: its port is bound from the moment it is known.
        if store is None:
            store = meeting_point(address, port, TIMEOUT.seconds, host=False)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
    import deepspeed
    import deepspeed.ops

    if backend == "gloo":
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(
        dist_backend=backend,
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
        verbose=False,
    )


def limit_collectives(seconds: float) -> None:
    """A rank waits so long for the others from now on, in every process group that there is.

    DeepSpeed makes groups of its own without a limit of ours: torch's default is 30 minutes for
    gloo, and 10 for NCCL.
    """
    for group in c10d._world.pg_map:
        c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def build_policy(settings: ZeroSettings) -> Policy:
    """Load the model. In stage 3 it is born partitioned: no rank ever holds more than one layer of
    it whole.
    """
    from transformers.integrations import HfDeepSpeedConfig

    alive = HfDeepSpeedConfig(settings.deepspeed_config())  # from_pretrained looks for a living one
    model = load_model(settings.folder, settings.dtype, settings.gradient_checkpointing)
    del alive
    policy = Policy(model, settings.head_chunk_tokens, settings.float32_head)
    if settings.lora is not None:
        lora.add(policy, settings.lora)
    return policy


def adamw(policy: Policy, optimizer: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over a policy. Only matrices decay: norms and biases have no size to hold down."""
    trained = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in trained if len(_whole_shape(p)) >= 2],
            "weight_decay": optimizer.weight_decay,
        },
        {"params": [p for p in trained if len(_whole_shape(p)) < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optimizer.lr,
        betas=(optimizer.betas[0], optimizer.betas[1]),
        eps=optimizer.eps,
    )


def wrap(policy: Policy, settings: ZeroSettings, optimizer: torch.optim.Optimizer | None) -> Any:
    """The DeepSpeed engine of a policy; without an optimizer it serves forward passes only."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    if optimizer is None and settings.stage < 3:
        # Nothing is partitioned in these stages without an optimizer, so there is nothing to wrap.
        return policy.to(get_accelerator().current_device_name())
    engine, *_ = deepspeed.initialize(
        model=policy, optimizer=optimizer, config=settings.deepspeed_config()
    )
    return engine


def step(engine: Any) -> float:
    """The optimizer step after the last backward of an update.

    Returns:
        The norm of the whole gradient before it is clipped. It is infinite where the gradient has
        a number that is not finite: then weights and moments stay as they were.
    """
    if engine.zero_optimization_stage() > 0:
        engine.step()
        return float(engine.get_global_grad_norm())
    # Without ZeRO DeepSpeed neither reports the norm nor looks for numbers that are not finite.
    grads = [p.grad for p in engine.module.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(grads))
    if not math.isfinite(norm):
        for grad in grads:
            grad.zero_()
        return math.inf
    engine.step()
    return norm


class GatheredWeights:
    """All weights of a partitioned model under their checkpoint names, whole, one layer at a time.

    Iterating is a collective: every rank must do it, and every rank sees every tensor. A tensor is
    only valid until the next one is asked for. Tied output weights are listed under both names,
    because an engine may keep a repacked copy of its own. Adapters come merged into their matrices.

    On a GPU a tensor is whole when it is yielded, for a reader on any stream. A layer is let go
    when the reader's stream has done all its work on it. That is one wait for the device at either
    end of a layer.
    """

    def __init__(self, policy: Policy) -> None:
        self._adapted = lora.layers(policy.model)
        self._params: list[tuple[str, nn.Parameter]] = []
        for full_name, p in policy.model.named_parameters():
            if (name := lora.checkpoint_name(full_name)) is not None:
                self._params.append((name, p))
        names = {name for name, _ in self._params}
        if policy.tied and "lm_head.weight" not in names:
            self._params.append(("lm_head.weight", policy.model.get_input_embeddings().weight))

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and whole shapes, in the order of iteration, without gathering."""
        return [ParamMeta(name, p.dtype, tuple(_whole_shape(p))) for name, p in self._params]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.runtime.zero import GatheredParameters

        for _, group in groupby(self._params, key=lambda item: layer_of(item[0])):
            layer = list(group)
            adapted = {
                name: self._adapted[name.removesuffix(".weight")]
                for name, _ in layer
                if name.removesuffix(".weight") in self._adapted
            }
            needed = [p for _, p in layer]
            for module in adapted.values():
                needed += [*module.lora_A.parameters(), *module.lora_B.parameters()]
            with GatheredParameters(needed):
                settle(layer[0][1].data)
                for name, p in layer:
                    yield name, lora.merged(adapted[name]) if name in adapted else p.data
                settle(layer[0][1].data)


def partition_report(policy: nn.Module) -> dict[str, float]:
    """How much of the model this rank holds right now: `local_share` of all elements, and `whole`
    parameters.
    """
    total = local = whole = 0
    for p in policy.parameters():
        partitioned = hasattr(p, "ds_numel")  # in stage 3 only
        total += p.ds_numel if partitioned else p.numel()
        local += p.ds_tensor.numel() if partitioned else p.numel()
        whole += p.numel() > 0
    return {"local_share": local / total, "whole": whole, "total": total}


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Make the weights of `target` those of `source`, two policies of the same partition.

    Each rank copies what it holds: its own partitions, and parameters that ZeRO-3 keeps whole.
    """
    with torch.no_grad():
        for p, q in zip(source.parameters(), target.parameters(), strict=True):
            if hasattr(p, "ds_tensor"):
                q.ds_tensor.copy_(p.ds_tensor)
            if p.numel() and p.shape == q.shape:
                q.copy_(p)


def largest_weight(policy: nn.Module, rank: int) -> Tensor:
    """[] the largest absolute value among the weights that this rank holds, in float64.

    NaN or infinity when one of them is. It reads the rank's own partition once, and copies nothing.
    """
    largest = []
    for p in policy.parameters():
        if hasattr(p, "ds_tensor"):
            # The last ranks' parts are padded, and nothing says with what.
            held = p.ds_tensor.numel()
            own = p.ds_tensor.detach()[: max(0, min(held, p.ds_numel - rank * held))]
        else:
            own = p.detach()
        if own.numel():
            largest.append(torch.stack(torch.aminmax(own)).abs().max().double())
    # torch.max keeps NaN, which a comparison would lose
    return torch.stack(largest).max() if largest else torch.zeros((), dtype=torch.float64)


def _whole_shape(p: Tensor) -> torch.Size:
    return p.ds_shape if hasattr(p, "ds_shape") else p.shape
