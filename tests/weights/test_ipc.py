"""Colocation: whose turn it is, and handles of GPU memory that travel as plain data. CUDA itself is
not run here.
"""

from __future__ import annotations

import asyncio

import pytest
import torch

from grpo.rollout.vllm.worker import RolloutWorker
from grpo.weights.ipc import IpcSender, IpcUpdateInfo, _PlainCalls, plain, rebuilt
from grpo.weights.wire import EngineCalls, ParamMeta

# As `reduce_tensor` gives them for a buffer of 64 bytes on a GPU.
HANDLE = (
    *(torch.Tensor, torch.Size([64]), (1,), 0, torch.UntypedStorage, torch.uint8, 0),
    *(b"\x00handle\xff", 2_097_152, 512, False, b"counter", 3, b"event", True),
)


class Calls(EngineCalls):
    """Writes down the control calls of all engines."""

    def __init__(self):
        self.made = []

    def call(self, method, *args):
        self.made.append((method, *args))
        return []

    def init_weight_transfer_engine(self, init_info):
        self.made.append(("init", init_info))


class Weights:
    """Two tensors, of 8 and 400 bytes."""

    def metadata(self):
        return [ParamMeta("a", torch.float32, (2,)), ParamMeta("b", torch.float32, (10, 10))]

    def __iter__(self):
        yield from (("a", torch.zeros(2)), ("b", torch.zeros(10, 10)))


class Trainer:
    """Stands for vLLM's sending end, which needs CUDA: makes its calls in its order."""

    def __init__(self, client, **settings):
        self.client, self.settings = client, settings

    def send_weights(self):
        self.client.start_weight_update()
        info = {"names": ["a"], "dtype_names": ["float32"], "shapes": [[2]], "tensor_sizes": [8]}
        handles = {"ipc_handles": {"GPU-1": HANDLE}, "ipc_handles_pickled": None}
        self.client.update_weights(info | handles)
        self.client.finish_weight_update()


@pytest.fixture
def sender(monkeypatch):
    monkeypatch.setattr("grpo.weights.ipc.IPCTrainerWeightTransferEngine", Trainer)
    found = IpcSender(Calls(), buffer_bytes=100)
    found.open(Weights(), sends=True)
    return found


def test_engines_sleep_before_the_ranks_learn_and_wake_before_the_weights_come(sender):
    sender.make_room()
    sender.send(Weights(), 7)
    assert [call[:2] if call[0] in ("wake", "set_weight_version") else call[:1]
            for call in sender.client.made] == [
        ("init",),
        ("sleep",),
        ("wake", "weights"),
        ("start_weight_update",),
        ("update_weights",),
        ("finish_weight_update",),
        ("wake", "kv_cache"),  # after the transfer, whose buffer may need the room
        ("set_weight_version", "7"),
    ]  # fmt: skip


def test_the_buffer_holds_the_largest_tensor(sender):
    assert sender.trainer.settings["packed_buffer_size_bytes"] == 400
    assert sender.trainer.settings["packed"] and sender.trainer.settings["is_sender"]


def test_other_ranks_make_no_calls(monkeypatch):
    monkeypatch.setattr("grpo.weights.ipc.IPCTrainerWeightTransferEngine", Trainer)
    other = IpcSender(Calls(), 100)
    other.open(Weights(), sends=False)
    other.make_room()
    assert other.client.made == [] and not other.trainer.settings["is_sender"]


def test_a_handle_crosses_vllms_wire_as_data_and_comes_back_whole(monkeypatch):
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    monkeypatch.delenv("VLLM_ALLOW_INSECURE_SERIALIZATION", raising=False)
    calls = Calls()
    Trainer(_PlainCalls(calls)).send_weights()
    ((_, info),) = [call for call in calls.made if call[0] == "update_weights"]
    decoded = MsgpackDecoder().decode(MsgpackEncoder().encode(info))
    received = IpcUpdateInfo(**decoded)
    assert received.ipc_handles == {"GPU-1": HANDLE}
    with pytest.raises(ValueError, match="not the handle of a buffer"):
        plain((*HANDLE[:5], torch.float32, *HANDLE[6:]))
    assert rebuilt(plain(HANDLE)) == HANDLE


def test_the_backend_is_known_to_vllm():
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from grpo.weights import plugin
    from grpo.weights.ipc import IpcReceiver
    from grpo.weights.wire import IPC_BACKEND

    plugin.register()
    assert WeightTransferEngineFactory._registry[IPC_BACKEND]() is IpcReceiver


class Engine:
    """Writes down what a sleeping engine is asked."""

    def __init__(self):
        self.asked = []

    async def sleep(self, level):
        self.asked.append(f"sleep {level}")

    async def wake_up(self, tags):
        self.asked.append(tags)


def test_a_sleeping_engine_refuses_requests_until_both_its_parts_are_awake():
    worker = RolloutWorker(None)
    worker._engine = engine = Engine()

    async def turns():
        await worker.sleep()
        await worker.sleep()  # once is enough
        await worker.wake("weights")
        with pytest.raises(RuntimeError, match="the engine sleeps"):
            await worker.submit([], None)
        await worker.wake("kv_cache")
        await worker.wake("kv_cache")
        await worker.submit([], None)
        worker._tasks[1] = None
        with pytest.raises(RuntimeError, match="1 requests are in flight"):
            await worker.sleep()

    asyncio.run(turns())
    assert engine.asked == ["sleep 2", ["weights"], ["kv_cache"]]
