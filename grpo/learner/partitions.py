"""What one rank holds of the trained parameters and of AdamW's moments, as files without pickle.

A rank's file has, for each parameter that it holds a piece of, the piece in float32 and its two
moments, under `NAME weight`, `NAME exp_avg` and `NAME exp_avg_sq`. The header says where the piece
begins in the flat parameter. So any number of ranks can read what any other number wrote, in every
ZeRO stage: the files together hold every element once.

DeepSpeed's own checkpoints are pickles, and are bound to the number of ranks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from grpo.weights.hashes import MASK, View, content_hash, salted
from grpo.weights.wire import layer_of

MOMENTS = ("exp_avg", "exp_avg_sq")
STATES = ("weight", *MOMENTS)


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements [start, start + size) of a trained parameter, which this rank holds.

    They are elements [offset, offset + size) of `flat`, the float32 tensor that AdamW works on.
    """

    name: str
    param: nn.Parameter
    start: int
    size: int  # 0 where this rank holds nothing of it
    whole: int  # elements of the parameter
    flat: Tensor
    offset: int

    def held(self, adamw: Any, state: str) -> Tensor | None:
        """[size] a view of the weight or a moment; None where AdamW has no moments yet.

        Args:
            adamw: the state of the optimizer, by flat tensor.
        """
        tensor = self.flat if state == "weight" else adamw.get(self.flat, {}).get(state)
        if tensor is None:
            return None
        return tensor.detach().view(-1).narrow(0, self.offset, self.size)


@contextmanager
def disk_errors() -> Iterator[None]:
    """A block that writes with safetensors or tokenizers. Their errors for a full disk are no
    `OSError`, and are made one here.

    Raises:
        OSError: the disk does not take a file.
    """
    try:
        yield
    except Exception as error:
        # As Rust tells an error of the system: "No space left on device (os error 28)".
        found = re.search(r"([^:]+) \(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or found is None:
            raise
        raise OSError(int(found[2]), found[1].strip()) from error


def save(
    pieces: Sequence[Piece], optimizer: torch.optim.Optimizer | None, file: Path, rank: int
) -> None:
    """Write what this rank holds. Not atomic: the caller names the folder when all is written.

    Args:
        pieces: of `trained` or `frozen`.
        optimizer: the AdamW that trains them; None for frozen ones.
        file: of this rank.
        rank: of this process. Without ZeRO all ranks hold everything, and the first one writes it.

    Raises:
        OSError: the disk does not take it.
    """
    adamw = {} if optimizer is None else optimizer.state
    tensors: dict[str, Tensor] = {}
    places: dict[str, list[int]] = {}
    for piece in pieces:
        if not piece.size or (rank and piece.flat is piece.param):
            continue
        places[piece.name] = [piece.start, piece.whole]
        for state in STATES:
            if (held := piece.held(adamw, state)) is not None:
                tensors[f"{piece.name} {state}"] = held.cpu().clone()
    steps = {float(state["step"]) for state in adamw.values()}
    assert len(steps) < 2, f"AdamW counted its steps apart: {steps}"
    header = {"places": json.dumps(places), "steps": str(max(steps, default=0.0))}
    with disk_errors():
        save_file(tensors, file, metadata=header)
    # The machine of this rank may be another than that which names the checkpoint. Some file
    # systems tell only here that the disk is full.
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(
    pieces: Sequence[Piece],
    optimizer: torch.optim.Optimizer | None,
    files: Sequence[Path],
    *,
    with_moments: bool = True,
) -> int:
    """Make weights and moments what they were when `files` were written.

    Args:
        pieces: of `trained` or `frozen`.
        optimizer: the AdamW that trains them; None for frozen ones.
        files: of all ranks that wrote, in any order. Their number need not be today's.
        with_moments: False leaves AdamW as new, with moments of 0.

    Returns:
        The steps that AdamW has done.

    Raises:
        ValueError: the files are of another model.
    """
    with ExitStack() as stack, torch.no_grad():
        archive = _Archive([stack.enter_context(safe_open(f, framework="pt")) for f in files])
        archive.check(pieces)
        adamw = {} if optimizer is None else optimizer.state
        adamw.clear()
        if optimizer is not None and with_moments and archive.steps:
            for flat in {id(piece.flat): piece.flat for piece in pieces if piece.size}.values():
                # as AdamW itself makes them in its first step
                steps = torch.tensor(archive.steps, dtype=torch.float32)
                moments = {name: torch.zeros_like(flat) for name in MOMENTS}
                adamw[flat] = {"step": steps, **moments}
        for piece in pieces:
            for state in STATES:
                if piece.size and (held := piece.held(adamw, state)) is not None:
                    held.copy_(archive.read(piece.name, state, piece.start, piece.size))
            # The model's own copy: this rank's partition in stage 3, and whole parameters in the
            # others, and of the small ones that stage 3 keeps whole.
            partition = getattr(piece.param, "ds_tensor", None)
            if partition is not None and piece.size:
                weight = archive.read(piece.name, "weight", piece.start, piece.size)
                partition.view(-1)[: piece.size].copy_(weight)
            if piece.param.numel() == piece.whole:
                weight = archive.read(piece.name, "weight", 0, piece.whole)
                piece.param.data.view(-1).copy_(weight)
        return int(archive.steps) if with_moments else 0


def layer_hashes(pieces: Sequence[Piece], rank: int) -> dict[str, int]:
    """Content hash of the weights that this rank holds, by layer, in [0, 2^64).

    Those of all ranks add up to the hash of the whole layer, modulo 2^64, in whatever way the
    weights are shared.

    Args:
        pieces: of `trained`.
        rank: of this process. Without ZeRO all ranks hold everything, and the first one counts.
    """
    found: dict[str, int] = {}
    for piece in pieces:
        layer, total = layer_of(piece.name), 0
        if piece.size and not (rank and piece.flat is piece.param):
            held = piece.held({}, "weight")
            assert held is not None
            total = int(content_hash(held, View(piece.start, (piece.size,), (1,)), exact=True))
        found[layer] = (found.get(layer, 0) + salted(piece.name, total)) & MASK
    return found


def saved_layer_hashes(files: Sequence[Path]) -> dict[str, int]:
    """`layer_hashes` of all ranks together, of the weights that `save` wrote.

    Args:
        files: of all ranks.
    """
    found: dict[str, int] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name, (start, _) in json.loads(file.metadata()["places"]).items():
                weight = file.get_tensor(f"{name} weight")
                view = View(start, (weight.numel(),), (1,))
                total = salted(name, int(content_hash(weight, view, exact=True)))
                found[layer_of(name)] = (found.get(layer_of(name), 0) + total) & MASK
    return found


def layer_squares(pieces: Sequence[Piece], rank: int) -> dict[str, float]:
    """Sum of squares of the gradient that this rank holds, by layer, in float64.

    Only between the last backward and the optimizer's step. Those of all ranks add up to the
    square of the layer's norm.

    Args:
        pieces: of `trained`.
        rank: of this process. Without ZeRO all ranks hold everything, and the first one counts.
    """
    found: dict[str, Tensor] = {}
    for piece in pieces:
        layer = layer_of(piece.name)
        total = found.setdefault(layer, torch.zeros((), dtype=torch.float64))
        if not piece.size or (rank and piece.flat is piece.param):
            continue
        p = piece.param
        if hasattr(p, "ds_tensor"):
            from deepspeed.utils import safe_get_local_grad

            grad = safe_get_local_grad(p).view(-1)[: piece.size]
        elif (mapping := getattr(p, "_hp_mapping", None)) is not None:
            grad = mapping.get_lp_grad_fragment(p._index_in_param_group).view(-1)
            if grad.numel() == p.numel():  # kept whole, and only this rank's window counts
                grad = grad.narrow(0, piece.start, piece.size)
        elif p.grad is not None:
            grad = p.grad
        else:
            continue  # nothing has reached it
        found[layer] = total + grad.detach().double().square().sum().cpu()
    return {layer: float(total) for layer, total in found.items()}


class _Archive:
    """The files of all ranks as one: any elements of any parameter."""

    def __init__(self, files: Sequence[Any]) -> None:
        self.pieces: dict[str, list[tuple[int, int, Any]]] = {}  # name -> start, whole, file
        self.steps = 0.0
        for file in files:
            header = file.metadata()
            self.steps = max(self.steps, float(header["steps"]))
            for name, (start, whole) in json.loads(header["places"]).items():
                self.pieces.setdefault(name, []).append((start, whole, file))

    def check(self, pieces: Sequence[Piece]) -> None:
        """Are these the parameters of the model, in their sizes?

        Raises:
            ValueError: they are not.
        """
        for piece in pieces:
            found = self.pieces.get(piece.name)
            if found is None or found[0][1] != piece.whole:
                what = "is not in it" if found is None else f"has {found[0][1]} elements in it"
                raise ValueError(
                    f"the checkpoint is of another model: {piece.name} {what}, and the model has "
                    f"{piece.whole}"
                )
        if strange := sorted(set(self.pieces) - {piece.name for piece in pieces}):
            raise ValueError(
                f"the checkpoint is of another model: it has {strange[0]}, which is not trained "
                "here"
            )

    def read(self, name: str, state: str, first: int, size: int) -> Tensor:
        """[size] float32, elements of a parameter from `first` on.

        Raises:
            ValueError: no file has some of them.
        """
        wanted = torch.empty(size)
        read = 0
        for start, _, file in self.pieces[name]:
            held = file.get_slice(f"{name} {state}")
            begin = max(start, first)
            end = min(start + held.get_shape()[0], first + size)
            if begin < end:
                wanted[begin - first : end - first] = held[begin - start : end - start]
                read += end - begin
        if read != size:
            raise ValueError(
                f"the checkpoint has {read} of {size} elements of {name}: the file of a rank is "
                "missing"
            )
        return wanted


def frozen(module: nn.Module, rank: int) -> list[Piece]:
    """What this rank holds of each parameter of a model that has no optimizer."""
    pieces = []
    for name, p in module.named_parameters():
        if hasattr(p, "ds_tensor"):
            share = p.ds_tensor.numel()
            start = min(rank * share, p.ds_numel)
            size = min(share, p.ds_numel - start)
            pieces.append(Piece(name, p, start, size, p.ds_numel, p.ds_tensor, 0))
        else:
            pieces.append(Piece(name, p, 0, p.numel(), p.numel(), p, 0))
    return pieces


def trained(engine: Any, optimizer: torch.optim.Optimizer, rank: int) -> list[Piece]:
    """What this rank holds of each trained parameter, by ZeRO stage.

    Args:
        engine: DeepSpeed's, around a policy.
        optimizer: the AdamW that it was made with.
        rank: of this process.
    """
    pieces = []
    for name, p in engine.module.named_parameters():
        if not p.requires_grad:
            continue
        if hasattr(p, "ds_tensor"):  # stage 3: equal parts, the last ones padded
            share, zero = p.ds_tensor.numel(), engine.optimizer
            start = min(rank * share, p.ds_numel)
            group, offset, _ = zero.grad_position[zero.get_param_id(p)]
            flat = zero.fp32_partitioned_groups_flat[group]
            size = min(share, p.ds_numel - start)
            pieces.append(Piece(name, p, start, size, p.ds_numel, flat, offset))
        elif hasattr(p, "_hp_mapping"):  # stages 1 and 2: a window over all parameters in a row
            if (mapping := p._hp_mapping) is None:  # outside the window
                pieces.append(Piece(name, p, 0, 0, p.numel(), p, 0))
                continue
            place, held = mapping.lp_fragment_address, mapping.hp_fragment_address
            (flat,) = optimizer.param_groups[mapping.param_group_index]["params"]
            pieces.append(Piece(name, p, place.start, place.numel, p.numel(), flat, held.start))
        else:
            pieces.append(Piece(name, p, 0, p.numel(), p.numel(), p, 0))
    return pieces
