"""The engine's end of the gloo channel: a vLLM weight-transfer engine that runs inside every engine
worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from grpo.weights import gloo
from grpo.weights.wire import ParamMeta, messages, unpack


@dataclass
class GlooInitInfo(WeightTransferInitInfo):
    """Where to meet the sender. `rank_offset` is the group rank of this engine's first worker."""

    address: str
    port: int
    rank_offset: int
    world_size: int
    timeout_seconds: int


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """What the next broadcasts hold, in order."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]

    def metadata(self) -> list[ParamMeta]:
        """The announced parameters."""
        rows = zip(self.names, self.dtype_names, self.shapes, strict=True)
        return [ParamMeta(name, getattr(torch, dtype), tuple(shape)) for name, dtype, shape in rows]


class GlooWeightTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """Receives checkpoint-format weights over gloo and loads them through vLLM's layerwise reload.

    The reload repeats what loading does after reading a checkpoint; on CPU that repacks the linear
    layers.
    """

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo
    group: dist.ProcessGroup | None = None

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Join the sender's group, in place of any that was joined before."""
        self.shutdown()
        seconds = init_info.timeout_seconds
        store = gloo.meeting_point(init_info.address, init_info.port, seconds, host=False)
        rank = init_info.rank_offset + self.parallel_config.rank
        self.group = gloo.join(store, rank, init_info.world_size, seconds, init_info.address)

    def start_weight_update(self) -> None:
        """Make the model ready to load a checkpoint again."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive all weights. The inherited method ends in an accelerator call that has no meaning
        on CPU.
        """
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """One broadcast for each layer, loaded as it comes."""
        assert self.group is not None, "init_transfer_engine() comes first"
        for group in messages(update_info.metadata()):
            flat = torch.empty(sum(meta.numel for meta in group), dtype=group[0].dtype)
            gloo.broadcast(self.group, flat)
            self.model.load_weights(unpack(group, flat))

    def finish_weight_update(self) -> None:
        """Process what was loaded into the form that the kernels use."""
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Leave the group."""
        self.group = None
