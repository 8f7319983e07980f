"""The engine's side of the weight check: an extension of vLLM's worker (`worker_extension_cls`).

An engine holds the tensors of a checkpoint fused, padded, split over workers and repacked. Which
element of a checkpoint lies where is asked of the model's own loader: it loads once more, on
tensors without memory, while its copies are written down and not made. So the mapping is that of
the loader, for any model, and nothing of it is repeated here.

What is hashed is what the kernels read. That is the parameter itself where it has kept its form. A
linear layer that vLLM's CPU backend has repacked is multiplied with the identity, in the very call
that a forward pass makes, which returns its weight without rounding: every sum has one term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from grpo.weights.hashes import View, content_hash

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
EYE_ROWS = 512  # rows of the identity that are multiplied at one time


@dataclass
class Held:
    """One parameter of the engine's model and what the loader puts where in it."""

    where: str  # its name in the engine, such as model.layers.0.self_attn.qkv_proj.weight
    module: nn.Module
    name: str  # in the module
    shape: tuple[int, ...]  # in which it is loaded
    first: int  # where it begins in its memory
    parts: list[tuple[str, View, View]] = field(default_factory=list)  # name, from where, to where
    covered: int = 0  # elements that the loader writes

    def readings(self) -> Iterator[tuple[str, Tensor]]:
        """All forms in which kernels read it, each in the shape in which it is loaded."""
        parameter = self.module._parameters[self.name]
        assert parameter is not None
        if tuple(parameter.shape) == self.shape and parameter.dtype in FLOATS:
            yield self.where, parameter.detach()
        linear = getattr(self.module, "cpu_linear", None)
        if self.name == "weight" and linear not in (None, torch.nn.functional.linear):
            yield f"{self.where} as repacked", self._multiplied(parameter.dtype)

    def _multiplied(self, dtype: torch.dtype) -> Tensor:
        """[out, in] weight of a linear layer, by way of its product with the identity."""
        width = self.shape[1]
        weight = torch.empty(self.shape, dtype=dtype)
        for first in range(0, width, EYE_ROWS):
            rows = min(EYE_ROWS, width - first)
            eye = torch.zeros(rows, width, dtype=dtype)
            eye[:, first : first + rows].fill_diagonal_(1.0)
            product: Any = self.module.quant_method.apply(self.module, eye)  # type: ignore[operator]
            weight[:, first : first + rows] = product[:, : self.shape[0]].T
        return weight


class _Copies(TorchDispatchMode):
    """Writes down which memory would be copied where, or filled, and lets nothing happen."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Tensor, Tensor | None]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.copy_.default:
            self.made.append((args[0], args[1]))
            return args[0]
        if func in (torch.ops.aten.fill_.Scalar, torch.ops.aten.zero_.default):
            self.made.append((args[0], None))
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _without_memory(model: nn.Module) -> Iterator[None]:
    """The model as its loader wants it, with parameters that have a shape and no memory."""
    # Here and not above: an engine that is never checked needs none of this.
    from vllm.model_executor.model_loader.reload.layerwise import (
        _get_original_loader,
        get_layerwise_info,
    )
    from vllm.model_executor.model_loader.reload.meta import restore_layer_on_meta

    kept = [
        (layer, dict(layer._parameters), dict(layer._buffers), {*layer._non_persistent_buffers_set})
        for layer in model.modules()
    ]
    loaders = []
    try:
        for layer, *_ in kept:
            restore_layer_on_meta(layer, get_layerwise_info(layer))
        for parameter in model.parameters():
            # A reload leaves loaders behind that keep what they are given for later.
            if hasattr(parameter, "weight_loader"):
                loaders.append((parameter, parameter.weight_loader))
                parameter.weight_loader = _get_original_loader(parameter)
        yield
    finally:
        for parameter, loader in loaders:
            parameter.weight_loader = loader
        for layer, parameters, buffers, temporary in kept:
            layer._parameters.clear()
            layer._parameters.update(parameters)
            layer._buffers.clear()
            layer._buffers.update(buffers)
            layer._non_persistent_buffers_set = temporary


def layout(model: nn.Module, announced: dict[str, Any]) -> tuple[list[Held], list[str]]:
    """Where the model's loader puts each tensor of a checkpoint.

    Args:
        model: of the engine, loaded.
        announced: `names`, `dtype_names` and `shapes` of the checkpoint's tensors.

    Returns:
        The parameters of the engine, and what could not be followed, in words.
    """
    unmapped = []
    held: list[Held] = []
    with _without_memory(model):
        by_memory: dict[int, Held] = {}
        for prefix, module in model.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is None:
                    continue
                where = f"{prefix}.{name}" if prefix else name
                found = Held(
                    where, module, name, tuple(parameter.shape), parameter.storage_offset()
                )
                held.append(found)
                by_memory[parameter.untyped_storage()._cdata] = found
        for name, dtype, shape in zip(
            announced["names"], announced["dtype_names"], announced["shapes"], strict=True
        ):
            source = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
            memory = source.untyped_storage()._cdata
            copies = _Copies()
            try:
                with copies:
                    model.load_weights([(name, source)])  # type: ignore[operator]
            except Exception as error:  # whatever a loader makes of tensors without memory
                told = f"{type(error).__name__}: {str(error)[:160]}"
                unmapped.append(f"{name} cannot be followed: {told}")
                continue
            for target, origin in copies.made:
                owner = by_memory.get(target.untyped_storage()._cdata)
                if owner is None:
                    continue
                owner.covered += target.numel()
                if origin is None:
                    continue
                if origin.untyped_storage()._cdata != memory or origin.shape != target.shape:
                    unmapped.append(f"{name} is changed on its way into {owner.where}")
                    continue
                start = target.storage_offset() - owner.first
                place = View(start, tuple(target.shape), tuple(target.stride()))
                owner.parts.append((name, View.of(origin), place))
    # Tied parameters: a loader may write one of them only, and each may have a repacked copy.
    by_identity: dict[int, list[Held]] = {}
    for one in held:
        by_identity.setdefault(id(one.module._parameters[one.name]), []).append(one)
    for same in by_identity.values():
        written = next((one for one in same if one.parts), None)
        for one in same:
            if written is not None and not one.parts:
                one.parts, one.covered = written.parts, written.covered
    unmapped += [
        f"{one.where} holds {math.prod(one.shape)} numbers, of which the learner sends "
        f"{one.covered}"
        for one in held
        if one.covered < math.prod(one.shape)
    ]
    return held, unmapped


class WeightInspector:
    """Methods that every vLLM worker of ours has. `self` is the worker."""

    def weight_hashes(self, announced: dict[str, Any]) -> dict[str, Any]:
        """Hashes of all weights that this worker computes with, by their names in a checkpoint.

        Args:
            announced: `names`, `dtype_names` and `shapes` of the learner's tensors, in full.

        Returns:
            `parts`, each [name, [start, shape, strides] in the whole tensor, hash, where]. A part
            comes once for every form in which kernels read it. `unmapped` has a text for all that
            could not be hashed.
        """
        model = self.model_runner.get_model()  # type: ignore[attr-defined]
        with torch.inference_mode():
            return weight_hashes(model, announced)


def weight_hashes(model: nn.Module, announced: dict[str, Any]) -> dict[str, Any]:
    """As `WeightInspector.weight_hashes`, of a model."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    held, unmapped = layout(model, announced)
    parts: list[Any] = []
    for one in held:
        method = getattr(one.module, "quant_method", None)
        if not (
            method is None or type(method) in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
        ):
            # It may scale, pad or permute numbers in place, and equal shapes would hide that.
            unmapped.append(f"{one.where} was changed by {type(method).__name__} after loading")
            continue
        readings = 0
        for where, tensor in one.readings():
            readings += 1
            for name, origin, target in one.parts:
                found = content_hash(target.take(tensor), origin)
                place = [origin.start, list(origin.shape), list(origin.strides)]
                parts.append([name, place, found, where])
        if not readings:
            parameter = one.module._parameters[one.name]
            unmapped.append(
                f"{one.where} is kept as {tuple(parameter.shape)} of {parameter.dtype}, "  # type: ignore[union-attr]
                f"and was loaded as {one.shape}"
            )
    # One wait for the device in place of one a tensor.
    for part in parts:
        part[2] = int(part[2])
    return {"parts": parts, "unmapped": unmapped}
