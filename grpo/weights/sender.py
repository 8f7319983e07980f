"""The learner's end of the weight channel: gloo for CPU, NCCL for GPU.

A channel opens, sends any number of times, and closes. Membership never changes while it is open:
when engines come or go, it is closed and another one opened. Control calls have a deadline, and so
has every wait of the gloo group.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist

from grpo.common.errors import StalledError
from grpo.weights import gloo
from grpo.weights.wire import (
    EngineClient,
    ParamMeta,
    WeightSource,
    announcement,
    current_stream,
    pack,
    pack_bytes,
    settle,
)


class WeightSender(Protocol):
    """One end of the channel on every learner rank; some ranks send, the others take part in the
    gathers.
    """

    def open(self, weights: WeightSource, sends: bool) -> None:
        """Meet all engine workers, if this rank sends."""

    def make_room(self) -> None:
        """The ranks are about to learn. Engines that share their GPUs let go of the memory."""

    def send(self, weights: WeightSource, version: int) -> None:
        """Replace the weights of all engines, which report `version` from then on."""

    def close(self) -> None:
        """Leave the channel; another may be opened to the same engines afterwards."""


@contextmanager
def paused(client: EngineClient) -> Iterator[None]:
    """Engines do not sample inside the block: no token may be made by half-replaced weights.

    Nor do they after a block that failed. What they hold then is of no version.
    """
    client.pause()
    yield
    client.resume()


class GlooSender:
    """Broadcasts whole layers over gloo.

    Args:
        client: the engines' control calls; used where this rank sends.
        address: of the sender, reachable from all engines.
        num_workers: engine workers over all engines.
        timeout_seconds: longest wait for a member.
    """

    def __init__(
        self, client: EngineClient, address: str, num_workers: int, timeout_seconds: int
    ) -> None:
        self.client, self.address = client, address
        self.world_size, self.timeout_seconds = num_workers + 1, timeout_seconds
        self.group: dist.ProcessGroup | None = None
        self.metadata: list[ParamMeta] = []

    def open(self, weights: WeightSource, sends: bool) -> None:
        """Meet all engine workers."""
        self.metadata = weights.metadata()
        if not sends:
            return
        seconds = self.timeout_seconds
        store = gloo.meeting_point(self.address, 0, seconds, host=True)
        init_info = {
            "address": self.address,
            "port": store.port,
            "rank_offset": 1,
            "world_size": self.world_size,
            "timeout_seconds": seconds,
        }
        with ThreadPoolExecutor(1) as thread:  # the engines block until all have met
            met = thread.submit(self.client.init_weight_transfer_engine, init_info)
            self.group = gloo.join(store, 0, self.world_size, seconds, self.address)
            met.result()

    def make_room(self) -> None:
        """Nothing: the engines have memory of their own."""

    def send(self, weights: WeightSource, version: int) -> None:
        """Gather and broadcast, layer by layer."""
        if self.group is None:
            for _ in weights:
                pass
            return
        update_info = announcement(self.metadata)
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
    """Broadcasts bytes over vLLM's NCCL communicator, for learner and engines on separate GPUs.

    The receiving end is vLLM's `NCCLWeightTransferEngine` as it comes. All work of this end is on
    one stream, that of the gather, so nothing is read before it is there or after it is gone.
    NCCL waits for ever for a dead engine. So every wait here has a deadline, at which the
    communicator is aborted. That ends its kernels and calls.

    Args:
        client: the engines' control calls; used where this rank sends.
        address: of the sender, reachable from all engines.
        num_workers: engine workers over all engines.
        timeout_seconds: longest wait for a member, and for a whole transfer.
        buffer_bytes: a message is closed by the tensor that makes it larger than this.
    """

    def __init__(
        self,
        client: EngineClient,
        address: str,
        num_workers: int,
        timeout_seconds: int,
        buffer_bytes: int,
    ) -> None:
        self.client, self.address = client, address
        self.world_size, self.timeout_seconds = num_workers + 1, timeout_seconds
        self.buffer_bytes = buffer_bytes
        self.group: Any = None  # vLLM's PyNcclCommunicator
        self.sends = False
        self.metadata: list[ParamMeta] = []

    def open(self, weights: WeightSource, sends: bool) -> None:
        """Meet all engine workers in one NCCL communicator."""
        self.metadata = weights.metadata()
        self.sends = sends
        if not self.sends:
            return
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
        from vllm.distributed.utils import StatelessProcessGroup
        from vllm.utils.nccl import unpinned_nccl_env

        # vLLM's own `trainer_init`, but for the socket: this port is bound before it is announced.
        listening = socket.create_server(("", 0))
        port = listening.getsockname()[1]
        init_info = {
            "master_address": self.address,
            "master_port": port,
            "world_size": self.world_size,
            "rank_offset": 1,
            "packed": True,
            "packed_buffer_size_bytes": self.buffer_bytes,
            "packed_num_buffers": 2,
        }
        device = torch.accelerator.current_device_index()

        def meet() -> Any:
            torch.accelerator.set_device_index(device)  # the current device belongs to a thread
            group = StatelessProcessGroup.create(
                self.address, port, rank=0, world_size=self.world_size, listen_socket=listening
            )
            with unpinned_nccl_env():
                return PyNcclCommunicator(group, device=device)

        # Both block until all have met.
        engines = in_background(lambda: self.client.init_weight_transfer_engine(init_info))
        own = in_background(meet)
        finished, open_calls = wait(
            [engines, own], self.timeout_seconds, return_when=FIRST_EXCEPTION
        )
        for call in finished:
            call.result()
        if open_calls:
            raise StalledError(
                f"opening the weight channel: not all engines came in {self.timeout_seconds} s"
            )
        self.group = own.result()

    def make_room(self) -> None:
        """Nothing: the engines have GPUs of their own."""

    def send(self, weights: WeightSource, version: int) -> None:
        """Gather and broadcast, message by message.

        Raises:
            StalledError: not all engines have received everything in time. The channel is closed.
            RuntimeError: an earlier failure has closed it.
        """
        if not self.sends:
            for _ in weights:
                pass
            return
        group = self.group
        if group is None:
            raise RuntimeError("the weight channel is closed; open it again before sending")
        update_info = announcement(self.metadata)
        with paused(self.client):
            self.client.start_weight_update()
            received = in_background(lambda: self.client.update_weights(update_info))
            # An engine that has failed takes part in no broadcast any more.
            received.add_done_callback(lambda call: self.close() if call.exception() else None)
            try:
                with abort_after(self.timeout_seconds, self.close, "sending weights"):
                    for message in pack_bytes(self.metadata, weights, self.buffer_bytes):
                        if self.group is None:
                            break  # aborted
                        group.broadcast(message, src=0, stream=current_stream(message))
                        settle(message)
            except Exception:
                if received.done():
                    received.result()  # the cause, where an engine has failed
                raise
            received.result()  # the call has a deadline of its own
            self.client.finish_weight_update()
            self.client.set_weight_version(str(version))

    def close(self) -> None:
        """Leave the communicator, and end what it still has under way."""
        group, self.group = self.group, None
        if group is not None:
            group.destroy()


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """Begin a call in a thread that does not keep the process alive."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def abort_after(seconds: float, abort: Callable[[], None], phase: str) -> Iterator[None]:
    """Call `abort` from another thread if the block takes longer.

    Raises:
        StalledError: it did, whatever the block ended with.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        abort()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not expired.is_set():
            raise
    finally:
        timer.cancel()
    if expired.is_set():
        raise StalledError(f"{phase}: not finished in {seconds:g} s; an engine may be dead")
