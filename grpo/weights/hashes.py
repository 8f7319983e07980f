"""Content hashes of weights: proof that engines compute with what the learner holds.

The hash of a tensor is a sum over its elements of mix(index, value) modulo 2^64, where mix is the
bijective finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014). A sum has two merits over
SHA-256. Parts of a tensor can be hashed where they lie, in fused layers and on tensor-parallel
workers, and add up to the hash of the whole. And it is a few passes of arithmetic on the device,
without a copy to the host. One changed element always changes the sum. Any other damage is missed
with a chance of 2^-64. It finds faults and not forgers.

Values are hashed as the kernels compute with them: as float32, with 0 for subnormal numbers and for
-0. So float32 and bfloat16 copies of one number agree, and so does a matrix product that flushes
subnormals.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grpo.types import WeightReport
from grpo.weights.wire import ParamMeta, WeightSource

CHUNK = 2**22  # elements that are hashed at one time: about 100 MB of integers
MASK = 2**64 - 1


def _signed(value: int) -> int:
    """The same 64 bits as torch's int64 has them."""
    return value - 2**64 if value >= 2**63 else value


_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a tensor: element (i, j, ...) lies at start + i * strides[0] + j * strides[1]
    + ... of the tensor's flat memory.
    """

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> View:
        """All of a tensor of this shape, in row-major order."""
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        return cls(0, tuple(shape), tuple(strides))

    @classmethod
    def of(cls, tensor: Tensor) -> View:
        """Where a view lies in its storage."""
        return cls(tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def take(self, tensor: Tensor) -> Tensor:
        """These elements of a tensor in row-major order."""
        return tensor.contiguous().view(-1).as_strided(self.shape, self.strides, self.start)


@torch.no_grad()
def content_hash(values: Tensor, view: View | None = None, *, exact: bool = False) -> Tensor:
    """[] int64 hash of `values`, which are the elements `view` of a tensor, or all of one.

    Hashes of parts of a tensor that do not overlap add up to the hash of their union, modulo 2^64.

    Args:
        values: in any float type.
        view: where they lie in their tensor.
        exact: tell -0 from 0, and subnormal numbers from both, as a record of the bits has to.
    """
    view = view or View.whole(values.shape)
    assert tuple(values.shape) == view.shape
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    if values.dim() > 1 and values[0].numel() > CHUNK:
        for i, row in enumerate(values):
            start = view.start + i * view.strides[0]
            own = View(start, view.shape[1:], view.strides[1:])
            total += content_hash(row, own, exact=exact)
        return total
    rows = values.reshape(1) if values.dim() == 0 else values
    strides = view.strides or (1,)
    step = max(1, CHUNK // max(rows[0].numel(), 1)) if len(rows) else 1
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        index = torch.full(part.shape, view.start, dtype=torch.int64, device=values.device)
        for dim, (size, stride) in enumerate(zip(part.shape, strides, strict=True)):
            offset = first if dim == 0 else 0
            along = torch.arange(offset, offset + size, device=values.device) * stride
            index += along.view([-1 if d == dim else 1 for d in range(part.dim())])
        number = part.float()
        if not exact:  # as a kernel sees it: no negative zero and nothing subnormal
            number = torch.where(number.abs() < torch.finfo(torch.float32).tiny, 0.0, number)
        bits = number.contiguous().view(torch.int32).long() & 0xFFFFFFFF
        total += _mix((index << 32) | bits).sum()
    return total


def salted(name: str, total: int) -> int:
    """The hash of a tensor made one of its name too, so that those of a layer may be added up.

    It is linear in `total`: hashes of parts still add up, modulo 2^64.
    """
    salt = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") | 1
    return total * salt & MASK


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64, in place. Shifts of int64 copy the sign, so it is masked off."""
    x ^= (x >> 30) & (2**34 - 1)
    x *= _FIRST
    x ^= (x >> 27) & (2**37 - 1)
    x *= _SECOND
    x ^= (x >> 31) & (2**33 - 1)
    return x


class HashedSource:
    """A stream of weights that remembers the hash of each tensor as it passes, while `active`.

    So the hash is of the very tensor that the learner gathered and sent, at no further gather.
    """

    def __init__(self, source: WeightSource) -> None:
        self.source, self.active = source, False
        self._found: dict[str, tuple[Tensor, Tensor]] = {}

    def metadata(self) -> list[ParamMeta]:
        """Those of the source."""
        return self.source.metadata()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        self._found = {}
        for name, tensor in self.source:
            if self.active:
                self._found[name] = content_hash(tensor), torch.isfinite(tensor).all()
            yield name, tensor

    def hashes(self) -> dict[str, int]:
        """Hash of each tensor of the last pass, in [0, 2^64)."""
        return {name: int(found) & MASK for name, (found, _) in self._found.items()}

    def not_finite(self) -> set[str]:
        """Tensors of the last pass with a NaN or an infinity."""
        return {name for name, (_, finite) in self._found.items() if not finite}


def compare(
    version: int,
    metadata: Sequence[ParamMeta],
    hashes: Mapping[str, int],
    engines: Sequence[Sequence[Mapping[str, Any]]],
    tied: Mapping[str, str],
) -> WeightReport:
    """Compare the learner's hashes with what the workers of each engine hold.

    Args:
        version: of the weights, for the messages.
        metadata: of the learner's tensors.
        hashes: of the learner's tensors, by name.
        engines: for each engine the report of each of its workers, as
            `grpo.weights.inspection.WeightInspector.weight_hashes` makes it.
        tied: names that stand for the same parameter as another one. An engine may load the other
            one only.
    """
    differing, unproven = [], []
    for engine, workers in enumerate(engines):
        # What each worker holds of a tensor: {name: {part: [(hash, where)]}}. Replicated parts are
        # there more than once, and every copy must agree.
        held: dict[str, dict[View, list[tuple[int, str]]]] = {}
        for rank, report in enumerate(workers):
            place = f"engine {engine}" + (f" worker {rank}" if len(workers) > 1 else "")
            unproven += [f"{place}: {text}" for text in report["unmapped"]]
            for name, (start, shape, strides), found, where in report["parts"]:
                view = View(start, tuple(shape), tuple(strides))
                copies = held.setdefault(name, {}).setdefault(view, [])
                copies.append((int(found) & MASK, f"{place}, {where}"))
        for meta in metadata:
            parts = held.get(meta.name)
            if parts is None:
                if meta.name not in tied:
                    unproven.append(f"engine {engine}: {meta.name} is nowhere in its model")
                continue
            if sum(view.numel for view in parts) != meta.numel:
                unproven.append(
                    f"engine {engine}: {meta.name} is spread over its layers in a way that does "
                    "not add up to the tensor"
                )
                continue
            wanted, places = hashes[meta.name], [copies for copies in parts.values()]
            if len(parts) == 1:
                wrong = [where for found, where in places[0] if found != wanted]
            else:
                wrong = [
                    f"{copies[0][1]} unlike {where}"
                    for copies in places
                    for found, where in copies
                    if found != copies[0][0]
                ]
                if not wrong and sum(copies[0][0] for copies in places) & MASK != wanted:
                    wrong = sorted({where for copies in places for _, where in copies})
            if wrong:
                differing.append(f"{meta.name} at version {version} in {'; '.join(wrong)}")
    return WeightReport(
        version=version, hashes=dict(hashes), differing=differing, unproven=unproven
    )
