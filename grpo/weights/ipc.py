"""The weight channel between processes that share a GPU (`cluster.colocate`): CUDA IPC.

vLLM's own `ipc` transfer does the work. Each learner rank packs the gathered weights into a buffer
on its GPU, and the engine worker on that GPU maps it. Two things are ours.

- The handle of a buffer travels as numbers and bytes. vLLM would send it as a pickle, and wants
  VLLM_ALLOW_INSECURE_SERIALIZATION for that, under which a message can run code.
- GPU memory belongs to one side at a time. Engines sleep while the ranks learn, and the ranks give
  their cached memory back before the engines wake.

Engines sleep at level 2, which throws weights and KV cache away. Level 1 would copy the weights to
CPU memory and back for nothing: what an engine gets next is new weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from vllm.distributed.weight_transfer.ipc_engine import (
    IPCTrainerWeightTransferEngine,
    IPCWeightTransferEngine,
    IPCWeightTransferUpdateInfo,
)

from grpo.weights.wire import EngineClient, WeightSource

# What `reduce_tensor` says of a buffer beside numbers and bytes, by place. It is always the same.
CLASSES: dict[int, Any] = {0: torch.Tensor, 4: torch.UntypedStorage, 5: torch.uint8}


def plain(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments of `torch.multiprocessing.reductions.rebuild_cuda_tensor` for a buffer of
    bytes, as types that any message can carry.

    Raises:
        ValueError: they are of something else.
    """
    for place, wanted in CLASSES.items():
        found = arguments[place]
        if found is not wanted and not (place == 4 and found is torch.storage.TypedStorage):
            raise ValueError(f"not the handle of a buffer: {found} in place of {wanted}")
    kept = [value for place, value in enumerate(arguments) if place not in CLASSES]
    return [list(value) if isinstance(value, tuple) else value for value in kept]


def rebuilt(handle: list[Any]) -> tuple[Any, ...]:
    """What `plain` was given."""
    values = [torch.Size(handle[0]), tuple(handle[1]), *handle[2:]]
    for place, value in CLASSES.items():
        values.insert(place, value)
    return tuple(values)


@dataclass
class IpcUpdateInfo(IPCWeightTransferUpdateInfo):
    """vLLM's, with handles as `plain` makes them."""

    ipc_handles: Any = None  # [GPU] the handle of its buffer

    def __post_init__(self) -> None:
        self.ipc_handles = {gpu: rebuilt(list(h)) for gpu, h in self.ipc_handles.items()}
        super().__post_init__()


class IpcReceiver(IPCWeightTransferEngine):
    """vLLM's receiving end, with handles that are data and not code."""

    update_info_cls = IpcUpdateInfo


class _PlainCalls:
    """The engines' control calls as vLLM's sending end makes them."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.client.init_weight_transfer_engine(init_info)

    def start_weight_update(self) -> None:
        self.client.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        handles = {gpu: plain(found) for gpu, found in update_info["ipc_handles"].items()}
        # None stands for a handle in another form, which the receiver would take for one more.
        fields = {key: value for key, value in update_info.items() if value is not None}
        self.client.update_weights({**fields, "ipc_handles": handles})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.client.finish_weight_update()


class IpcSender:
    """One end of the channel on every learner rank, each beside the engine worker on its GPU.

    Args:
        client: the engines' control calls; used on rank 0.
        buffer_bytes: of the buffer on each GPU. It is enlarged to the largest tensor.
    """

    def __init__(self, client: EngineClient, buffer_bytes: int) -> None:
        self.client, self.buffer_bytes = client, buffer_bytes
        self.sends = False
        self.trainer: Any = None  # vLLM's sending end

    def open(self, weights: WeightSource, sends: bool) -> None:
        """Tell the engines what is to come. There is nothing to meet: handles do it."""
        self.sends = sends
        largest = max(meta.numel * meta.dtype.itemsize for meta in weights.metadata())
        self.trainer = IPCTrainerWeightTransferEngine(
            client=_PlainCalls(self.client),
            source=weights,
            is_sender=sends,
            packed=True,
            packed_buffer_size_bytes=max(self.buffer_bytes, largest),
        )
        if sends:
            self.client.init_weight_transfer_engine({"packed": True})

    def make_room(self) -> None:
        """Put the engines to sleep. No rank goes on before they have let go of their memory."""
        if self.sends:
            self.client.sleep()
        self._meet()

    def send(self, weights: WeightSource, version: int) -> None:
        """Wake the engines, replace their weights, and let them sample again under `version`."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._meet()
        if self.sends:
            self.client.wake("weights")
        self._meet()
        self.trainer.source = weights
        self.trainer.send_weights()
        if self.sends:
            # After the transfer, whose buffers the KV cache may need the room of.
            self.client.wake("kv_cache")
            self.client.set_weight_version(str(version))
        self._meet()

    def close(self) -> None:
        """Leave the channel."""
        self.trainer = None

    def _meet(self) -> None:
        if dist.is_initialized():
            dist.barrier()
