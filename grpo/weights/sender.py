"""The learner's end of the weight channel: gloo for CPU, vLLM's nccl trainer engine for GPU.

A channel opens, sends any number of times, and closes. Membership never changes while it is open:
when engines come or go, it is closed and another one opened. Control calls have a deadline, and so
has every wait of the gloo group.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import torch.distributed as dist

from grpo.weights import gloo
from grpo.weights.wire import EngineClient, ParamMeta, WeightSource, pack


class WeightSender(Protocol):
    """One end of the channel on every learner rank; only rank 0 sends, the others take part in the
    gathers.
    """

    def open(self, weights: WeightSource, rank: int) -> None:
        """Meet all engine workers."""

    def send(self, weights: WeightSource, version: int) -> None:
        """Replace the weights of all engines, which report `version` from then on."""

    def close(self) -> None:
        """Leave the channel; another may be opened to the same engines afterwards."""


@contextmanager
def paused(client: EngineClient) -> Iterator[None]:
    """Engines do not sample inside the block: no token may be made by half-replaced weights."""
    client.pause()
    try:
        yield
    finally:
        client.resume()


class GlooSender:
    """Broadcasts whole layers over gloo.

    Args:
        client: the engines' control calls; used on rank 0.
        address, port: of the sender, reachable from all engines.
        num_workers: engine workers over all engines.
        timeout_seconds: longest wait for a member.
    """

    def __init__(
        self, client: EngineClient, address: str, port: int, num_workers: int, timeout_seconds: int
    ) -> None:
        self.client, self.address, self.port = client, address, port
        self.world_size, self.timeout_seconds = num_workers + 1, timeout_seconds
        self.group: dist.ProcessGroup | None = None
        self.metadata: list[ParamMeta] = []

    def open(self, weights: WeightSource, rank: int) -> None:
        """Meet all engine workers."""
        self.metadata = weights.metadata()
        if rank != 0:
            return
        seconds = self.timeout_seconds
        store = gloo.meeting_point(self.address, self.port, seconds, host=True)
        init_info = {
            "address": self.address,
            "port": self.port,
            "rank_offset": 1,
            "world_size": self.world_size,
            "timeout_seconds": seconds,
        }
        with ThreadPoolExecutor(1) as thread:  # the engines block until all have met
            met = thread.submit(self.client.init_weight_transfer_engine, init_info)
            self.group = gloo.join(store, 0, self.world_size, seconds)
            met.result()

    def send(self, weights: WeightSource, version: int) -> None:
        """Gather and broadcast, layer by layer."""
        if self.group is None:
            for _ in weights:
                pass
            return
        update_info = {
            "names": [meta.name for meta in self.metadata],
            "dtype_names": [str(meta.dtype).removeprefix("torch.") for meta in self.metadata],
            "shapes": [list(meta.shape) for meta in self.metadata],
        }
        with paused(self.client):
            self.client.start_weight_update()
            thread = ThreadPoolExecutor(1)
            received = thread.submit(self.client.update_weights, update_info)
            for message in pack(self.metadata, weights):
                gloo.broadcast(self.group, message)
            received.result()
            thread.shutdown(wait=False)
            self.client.finish_weight_update()
            self.client.set_weight_version(str(version))

    def close(self) -> None:
        """Leave the group."""
        self.group = None


class NcclSender:
    """vLLM's own nccl trainer engine, for learner and engines on separate GPUs. Arguments as
    `GlooSender`.
    """

    def __init__(
        self, client: EngineClient, address: str, port: int, num_workers: int, timeout_seconds: int
    ) -> None:
        self.client, self.address, self.port = client, address, port
        self.world_size = num_workers + 1
        self.engine: Any = None

    def open(self, weights: WeightSource, rank: int) -> None:
        """Meet all engine workers in one NCCL communicator."""
        from vllm.distributed.weight_transfer.nccl_engine import (
            NCCLTrainerInitInfo,
            NCCLTrainerWeightTransferEngine,
        )

        init_info = NCCLTrainerInitInfo(
            master_address=self.address,
            master_port=self.port,
            world_size=self.world_size,
            rank=rank,
        )
        self.engine = NCCLTrainerWeightTransferEngine.trainer_init(
            init_info,
            client=self.client,
            source=weights,  # type: ignore[arg-type]  # satisfied by its methods
        )

    def send(self, weights: WeightSource, version: int) -> None:
        """Gather and broadcast, packed by vLLM; `weights` must be the source that was given to
        `open`.
        """
        if not self.engine.is_sender:
            self.engine.send_weights()
            return
        with paused(self.client):
            self.engine.send_weights()
            self.client.set_weight_version(str(version))

    def close(self) -> None:
        """Leave the communicator."""
        self.engine = None
