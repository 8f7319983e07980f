"""Muon (Jordan et al. 2024): momentum whose update is made orthogonal, for the matrices inside a
network.

On the embedded base model it learns several times faster than AdamW. PyTorch's own Muon works in
bfloat16, which is slow on most CPUs; this one keeps the type of its parameters and takes equal
shapes together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_QUINTIC = (
    3.4445,
    -4.7750,
    2.0315,
)  # brings singular values near 1 in few steps, never exactly to it


class Muon(torch.optim.Optimizer):
    """Takes matrices only; embeddings, heads, norms and biases belong to AdamW."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all matrices; each must have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                by_shape[matrix.shape].append(matrix)
            for (rows, columns), matrices in by_shape.items():
                momenta = [self._nesterov(matrix, group["momentum"]) for matrix in matrices]
                directions = orthogonalize(torch.stack(momenta))
                scale = max(1.0, rows / columns) ** 0.5
                for matrix, direction in zip(matrices, directions, strict=True):
                    matrix.add_(direction, alpha=-group["lr"] * scale)

    def _nesterov(self, matrix: Tensor, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["average"] = torch.zeros_like(matrix)
        state["average"].lerp_(matrix.grad, 1 - momentum)
        return torch.lerp(matrix.grad, state["average"], momentum)


def orthogonalize(batch_NRC: Tensor, num_steps: int = 5) -> Tensor:
    """[N, R, C] matrices with the same singular vectors and all singular values near 1
    (Newton-Schulz).
    """
    if batch_NRC.shape[1] > batch_NRC.shape[2]:
        return orthogonalize(batch_NRC.mT, num_steps).mT
    a, b, c = _QUINTIC
    x = batch_NRC / (batch_NRC.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
