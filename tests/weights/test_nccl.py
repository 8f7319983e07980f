"""The sender for GPUs, with a communicator that writes down what it is given. NCCL itself is not
run here.
"""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from grpo.common.errors import StalledError
from grpo.learner.zero import GatheredWeights
from grpo.weights.sender import NcclSender, abort_after
from grpo.weights.wire import ParamMeta, chunks, pack_bytes

LIMIT = 100  # bytes


def tensors():
    """Twelve tensors of two types and 4 to 240 bytes; most chunks hold parts of two layers."""
    torch.manual_seed(0)
    sizes = [1, 30, 9, 60, 2, 8, 11, 2, 24, 4, 40, 10]
    kinds = [torch.float32, torch.bfloat16]
    return {
        f"model.layers.{i // 3}.p{i}": torch.randn(size).to(kinds[i % 2])
        for i, size in enumerate(sizes)
    }


def announced(state):
    return [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in state.items()]


@pytest.mark.filterwarnings("ignore:Tensor .* has size")
def test_messages_are_cut_and_filled_as_vllm_does_it():
    from vllm.distributed.weight_transfer.packed_tensor import pack_tensors, unpack_tensor

    state = tensors()
    stream = iter(state.items())
    theirs = []
    while (chunk := pack_tensors(stream, lambda item: item[1], LIMIT)) is not None:
        theirs.append(chunk)
    ours = list(pack_bytes(announced(state), state.items(), LIMIT))
    assert [[m.name for m in group] for group in chunks(announced(state), LIMIT)] == [
        chunk.names for chunk in theirs
    ]
    assert len(ours) > 3
    for message, chunk in zip(ours, theirs, strict=True):
        assert torch.equal(message, chunk.packed_tensor)
        sizes = chunk.names, chunk.shapes, chunk.dtypes, chunk.tensor_sizes
        for name, tensor in unpack_tensor(message, *sizes):
            assert torch.equal(tensor, state[name])


@pytest.fixture
def gathered(monkeypatch):
    """GatheredWeights over parameters that exist only inside their gather."""
    state = tensors()

    class Gather:
        def __init__(self, params):
            self.params = params

        def __enter__(self):
            for p in self.params:
                p.data.copy_(p.source)

        def __exit__(self, *_):
            for p in self.params:
                p.data.fill_(-7)

    module = SimpleNamespace(GatheredParameters=Gather)
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.zero", module)
    params = []
    for name, tensor in state.items():
        p = torch.nn.Parameter(torch.zeros_like(tensor))
        p.source = tensor
        params.append((name, p))
    model = SimpleNamespace(named_parameters=lambda: params, named_modules=lambda: [])
    return state, GatheredWeights(SimpleNamespace(model=model, tied=False))


def test_no_tensor_is_read_after_its_gather_although_messages_span_layers(gathered):
    state, weights = gathered
    sent = list(pack_bytes(weights.metadata(), weights, LIMIT))
    wanted = list(pack_bytes(announced(state), state.items(), LIMIT))
    assert all(torch.equal(a, b) for a, b in zip(sent, wanted, strict=True))


class Client:
    """An engine that receives until `hang` is set, or fails."""

    def __init__(self, error=None, hang=None):
        self.calls, self.error, self.hang = [], error, hang

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))

    def update_weights(self, info):
        self.calls.append(("update_weights", info))
        if self.error is not None:
            raise self.error
        if self.hang is not None:
            self.hang.wait(5)


class Group:
    """A communicator. With `dead` its broadcasts end only when it is destroyed."""

    def __init__(self, dead=False):
        self.dead, self.sent, self.destroyed = dead, [], threading.Event()

    def broadcast(self, message, src, stream):
        assert (src, stream) == (0, None)
        self.sent.append(message.clone())
        if self.dead:
            self.destroyed.wait(5)

    def destroy(self):
        self.destroyed.set()


def sender(client, group, seconds=20.0):
    found = NcclSender(client, "127.0.0.1", 1, seconds, LIMIT)
    found.group, found.metadata, found.sends = group, announced(tensors()), True
    return found


def test_a_transfer_pauses_sends_all_and_raises_the_version(gathered):
    state, weights = gathered
    client, group = Client(), Group()
    sender(client, group).send(weights, 7)
    assert [call[0] for call in client.calls if call[0] != "update_weights"] == [
        "pause",
        "start_weight_update",
        "finish_weight_update",
        "set_weight_version",
        "resume",
    ]
    (update,) = [call[1] for call in client.calls if call[0] == "update_weights"]
    assert update["names"] == list(state)
    wanted = list(pack_bytes(announced(state), state.items(), LIMIT))
    assert all(torch.equal(a, b) for a, b in zip(group.sent, wanted, strict=True))


def test_a_dead_engine_ends_a_transfer_at_its_deadline_and_nothing_samples_on(gathered):
    released = threading.Event()
    client, group = Client(hang=released), Group(dead=True)
    start = time.monotonic()
    with pytest.raises(StalledError, match=r"sending weights: not finished in 0.3 s"):
        sender(client, group, seconds=0.3).send(gathered[1], 1)
    released.set()
    assert time.monotonic() - start < 10
    assert group.destroyed.is_set()
    assert not {"resume", "set_weight_version"} & {call[0] for call in client.calls}


def test_an_engine_that_fails_ends_a_transfer_with_its_own_error_and_no_wait(gathered):
    client, group = Client(error=RuntimeError("engine is gone")), Group(dead=True)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="engine is gone"):
        sender(client, group, seconds=15).send(gathered[1], 1)
    assert time.monotonic() - start < 10
    assert "resume" not in {call[0] for call in client.calls}


def test_a_channel_that_a_failure_closed_sends_nothing_in_silence(gathered):
    failed = sender(Client(error=RuntimeError("engine is gone")), Group())
    with pytest.raises(RuntimeError, match="engine is gone"):
        failed.send(gathered[1], 1)
    with pytest.raises(RuntimeError, match="the weight channel is closed"):
        failed.send(gathered[1], 2)


def test_other_ranks_only_take_part_in_the_gathers(gathered):
    other = NcclSender(Client(), "127.0.0.1", 1, 1, LIMIT)
    other.open(gathered[1], sends=False)
    other.send(gathered[1], 1)
    assert other.client.calls == []


def test_a_block_that_ends_in_time_is_not_aborted():
    aborted = []
    with abort_after(20, lambda: aborted.append(1), "x"):
        pass
    with pytest.raises(KeyError), abort_after(20, lambda: aborted.append(1), "x"):
        raise KeyError
    assert aborted == []
