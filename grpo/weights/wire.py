"""What both ends of a transfer agree on: the control calls, and how weights are packed into
messages.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

IPC_BACKEND = "grpo_ipc"  # the name under which `weights.ipc` is registered with vLLM


class ParamMeta(NamedTuple):
    """What the receiver of a weight must know before it arrives; the shape is that of the whole
    parameter.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Elements of the whole parameter."""
        return math.prod(self.shape)


def announcement(metadata: Sequence[ParamMeta]) -> dict[str, Any]:
    """`names`, `dtype_names` and `shapes` of tensors, as plain types that any call can carry."""
    return {
        "names": [meta.name for meta in metadata],
        "dtype_names": [str(meta.dtype).removeprefix("torch.") for meta in metadata],
        "shapes": [list(meta.shape) for meta in metadata],
    }


class WeightSource(Protocol):
    """A stream of whole weights. Iterating is a collective of the learner ranks; a tensor lives
    until the next.
    """

    def metadata(self) -> list[ParamMeta]:
        """What iteration will yield, in its order, without gathering."""

    def __iter__(self) -> Iterator[tuple[str, Tensor]]: ...


class EngineClient(Protocol):
    """The control calls of vLLM's weight transfer, to all engines at once. Blocking, with a
    deadline.
    """

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...  # noqa: D102

    def start_weight_update(self) -> None: ...  # noqa: D102

    def update_weights(self, update_info: dict[str, Any]) -> None: ...  # noqa: D102

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...  # noqa: D102

    def pause(self) -> None:
        """Stop sampling between two tokens. What is in flight stays, and goes on with `resume`."""

    def resume(self) -> None:
        """Go on sampling."""

    def sleep(self) -> None:
        """Throw weights and KV cache away, and let go of their GPU memory. Nothing is in flight."""

    def wake(self, part: str) -> None:
        """Take the memory of a part again: "weights" or "kv_cache". With both, go on sampling."""

    def set_weight_version(self, version: str) -> None:
        """Everything has arrived: forget the KV cache of the old weights, report `version` from now
        on.
        """

    def weight_hashes(self, announced: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """For each engine, what each of its workers computes with: `weights.inspection`."""


class EngineCalls(ABC):
    """The calls of `EngineClient` that are the same however the engines are reached."""

    @abstractmethod
    def call(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every engine's worker; their answers, when all have come."""

    def start_weight_update(self) -> None:
        """New weights are about to come."""
        self.call("start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive them; returns when all engines have."""
        self.call("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Put them to use."""
        self.call("finish_weight_update")

    def pause(self) -> None:
        """Stop sampling between two tokens."""
        self.call("pause")

    def resume(self) -> None:
        """Go on sampling."""
        self.call("resume")

    def sleep(self) -> None:
        """Let go of the GPU memory of weights and KV cache."""
        self.call("sleep")

    def wake(self, part: str) -> None:
        """Take the memory of a part again."""
        self.call("wake", part)

    def set_weight_version(self, version: str) -> None:
        """Forget the KV cache of the old weights, report `version` with every token from now on."""
        self.call("set_weight_version", version)

    def weight_hashes(self, announced: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """For each engine, what each of its workers computes with."""
        return self.call("weight_hashes", announced)


def current_stream(tensor: Tensor) -> Any:
    """The stream on which work on a GPU tensor is queued now; None for a tensor on CPU."""
    return torch.cuda.current_stream(tensor.device) if tensor.is_cuda else None


def settle(tensor: Tensor) -> None:
    """Wait until all work that is queued on the current stream of a GPU tensor is done."""
    stream = current_stream(tensor)
    if stream is not None:
        stream.synchronize()


def layer_of(name: str) -> str:
    """The unit in which weights are gathered and sent: a decoder layer, or a parameter outside of
    them.

    >>> layer_of("model.layers.3.mlp.up_proj.weight"), layer_of("lm_head.weight")
    ('model.layers.3', 'lm_head.weight')
    """
    parts = name.split(".")
    index = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return name if index is None else ".".join(parts[: index + 1])


def messages(metadata: Sequence[ParamMeta]) -> list[list[ParamMeta]]:
    """Consecutive parameters of one layer and dtype: each group travels as one flat message."""
    return [
        list(group)
        for _, group in groupby(metadata, key=lambda meta: (layer_of(meta.name), meta.dtype))
    ]


def pack(metadata: Sequence[ParamMeta], weights: Iterable[tuple[str, Tensor]]) -> Iterator[Tensor]:
    """Flat messages, in the order of `messages`. Each tensor is copied as soon as it comes, since
    it may not last.
    """
    stream = iter(weights)
    for group in messages(metadata):
        flat: Tensor | None = None
        offset = 0
        for meta in group:
            name, tensor = next(stream)
            assert (name, tuple(tensor.shape)) == (meta.name, meta.shape), (
                f"{name} came in place of {meta.name}"
            )
            if flat is None:
                flat = tensor.new_empty(sum(m.numel for m in group))
            flat[offset : offset + meta.numel].copy_(tensor.reshape(-1))
            offset += meta.numel
        assert flat is not None
        yield flat
    for name, _ in stream:  # runs the source to its end, so that it can leave its last gather
        raise AssertionError(f"{name} was not announced")


def chunks(metadata: Sequence[ParamMeta], limit: int) -> list[list[ParamMeta]]:
    """Consecutive parameters that travel as one message of bytes over NCCL.

    A chunk ends with the parameter that makes it larger than `limit` bytes. That is how vLLM's
    receiver cuts the stream, and both ends must cut it alike.
    """
    cut: list[list[ParamMeta]] = []
    size = limit + 1
    for meta in metadata:
        if size > limit:
            cut.append([])
            size = 0
        cut[-1].append(meta)
        size += meta.numel * meta.dtype.itemsize
    return cut


def pack_bytes(
    metadata: Sequence[ParamMeta], weights: Iterable[tuple[str, Tensor]], limit: int
) -> Iterator[Tensor]:
    """uint8 messages, in the order of `chunks`. Each tensor is copied as soon as it comes.

    Messages hold more than one layer, and a tensor is gone when the source goes on to the next
    layer. vLLM's own packer keeps references until a message is full.
    """
    stream = iter(weights)
    for group in chunks(metadata, limit):
        flat: Tensor | None = None
        offset = 0
        for meta in group:
            name, tensor = next(stream)
            assert (name, tensor.dtype, tuple(tensor.shape)) == meta, (
                f"{name} came in place of {meta.name}"
            )
            if flat is None:
                size = sum(m.numel * m.dtype.itemsize for m in group)
                flat = torch.empty(size, dtype=torch.uint8, device=tensor.device)
            part = tensor.contiguous().view(-1).view(torch.uint8)
            flat[offset : offset + part.numel()].copy_(part)
            offset += part.numel()
        assert flat is not None
        yield flat
    for name, _ in stream:  # runs the source to its end, so that it can leave its last gather
        raise AssertionError(f"{name} was not announced")


def unpack(group: Sequence[ParamMeta], flat: Tensor) -> list[tuple[str, Tensor]]:
    """The named parameters of one message."""
    parts = flat.split([meta.numel for meta in group])
    return [(meta.name, part.view(meta.shape)) for meta, part in zip(group, parts, strict=True)]
