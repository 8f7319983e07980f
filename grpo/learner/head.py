"""Log-probs and entropies of tokens without ever holding [tokens, vocabulary].

At 24K tokens and a vocabulary of 152K the logits of one response alone are 14.6 GB in float32. Here
they exist for a chunk of tokens at a time, in the forward pass and again in the backward pass,
which recomputes them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ChunkedLogProb(torch.autograd.Function):
    """(hidden, weight, targets) -> (log-prob of each target, entropy of each distribution), chunk
    by chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        temperature: float,
        chunk: int,
        float32: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """N tokens of width D against V rows of the output weight; `chunk` tokens at a time.

        With `float32` the products of low-precision numbers are summed and kept in float32.
        """
        logp_N = hidden_ND.new_empty(hidden_ND.shape[0], dtype=torch.float32)
        entropy_N = torch.empty_like(logp_N)
        scratch_2CV = _scratch(hidden_ND, weight_VD, chunk)
        for rows in _chunks(hidden_ND.shape[0], chunk):
            other_CV, logp_CV = _log_softmax(
                hidden_ND[rows], weight_VD, temperature, scratch_2CV, float32
            )
            logp_N[rows] = logp_CV.gather(1, targets_N[rows, None]).squeeze(1)
            entropy_N[rows] = -torch.exp(logp_CV, out=other_CV).mul_(logp_CV).sum(dim=1)
        # The parameter itself is saved, never a view: ZeRO-3 swaps its storage between forward and
        # backward.
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, entropy_N)
        ctx.temperature, ctx.chunk, ctx.float32 = temperature, chunk, float32
        return logp_N, entropy_N

    @staticmethod
    def backward(
        ctx: Any, grad_logp_N: Tensor, grad_entropy_N: Tensor
    ) -> tuple[Tensor | None, ...]:
        """With p = softmax(z / T): d logp_y / dz = (1[y] - p) / T and dH / dz = -p (log p
        + H) / T.
        """
        hidden_ND, weight_VD, targets_N, entropy_N = ctx.saved_tensors
        grad_hidden_ND = torch.empty_like(hidden_ND)
        with_weight = ctx.needs_input_grad[1]  # it is frozen under adapters
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if with_weight else None
        # The loss often has no entropy term: then its gradient is all zeros, and its half of the
        # work is skipped.
        with_entropy = bool(grad_entropy_N.any())
        scratch_2CV = _scratch(hidden_ND, weight_VD, ctx.chunk)
        for rows in _chunks(hidden_ND.shape[0], ctx.chunk):
            p_CV, logp_CV = _log_softmax(
                hidden_ND[rows], weight_VD, ctx.temperature, scratch_2CV, ctx.float32
            )
            if with_entropy:
                torch.exp(logp_CV, out=p_CV)
                # -p (g + h (log p + H)), in the memory of log p
                logp_CV.add_(entropy_N[rows, None]).mul_(grad_entropy_N[rows, None])
                grad_logits_CV = logp_CV.add_(grad_logp_N[rows, None]).mul_(p_CV).neg_()
            else:
                grad_logits_CV = logp_CV.exp_().mul_(-grad_logp_N[rows, None])
            grad_logits_CV.scatter_add_(1, targets_N[rows, None], grad_logp_N[rows, None])
            if ctx.temperature != 1.0:
                grad_logits_CV.div_(ctx.temperature)
            grad_logits_CV = grad_logits_CV.to(hidden_ND.dtype)
            grad_hidden_ND[rows] = _product(grad_logits_CV, weight_VD, ctx.float32)
            if grad_weight_VD is None:
                continue
            if grad_logits_CV.dtype is torch.float32:
                grad_weight_VD.addmm_(grad_logits_CV.T, hidden_ND[rows])  # without a [V, D] product
            else:
                grad_weight_VD += _product(grad_logits_CV.T, hidden_ND[rows], ctx.float32)
        if grad_weight_VD is not None:
            grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None, None, None


class LogProbHead(nn.Module):
    """The output layer of a language model that answers with log-probs of given tokens instead of
    logits.

    It owns the weight, tied to the embedding or not: under ZeRO-3 a parameter is whole only inside
    the forward and backward of the module that owns it.
    """

    def __init__(self, weight_VD: nn.Parameter, chunk_tokens: int, float32: bool = False) -> None:
        super().__init__()
        self.float32 = float32  # as the engines do it: `EngineSpec.float32_head`
        self.weight = weight_VD
        self.chunk = chunk_tokens  # tokens whose logits exist at one time

    def forward(
        self, hidden_ND: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """[N] log-probs of `targets_N` and [N] entropies, in nats, of softmax(logits /
        temperature).
        """
        logp_N, entropy_N = ChunkedLogProb.apply(
            hidden_ND, self.weight, targets_N, temperature, self.chunk, self.float32
        )
        return logp_N, entropy_N


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _product(left: Tensor, right: Tensor, float32: bool) -> Tensor:
    """A matrix product in the type of its factors, or summed and kept in float32.

    A product of two bfloat16 numbers has no rounding in float32. So the widened factors and the
    GPU's own sum in float32, which needs no wide copy of the weight, differ only in the order of
    the sum. vLLM does the same on either kind of device.
    """
    if not float32 or left.dtype in (torch.float32, torch.float64):
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _scratch(hidden_ND: Tensor, weight_VD: Tensor, chunk: int) -> Tensor:
    """Memory of a pass: two chunks of logits. Chunks that come and go would tear holes into the
    heap, which cost three times as much as the chunks themselves.
    """
    rows = min(chunk, hidden_ND.shape[0])
    return hidden_ND.new_empty((2, rows, weight_VD.shape[0]), dtype=torch.float32)


def _log_softmax(
    hidden_CD: Tensor,
    weight_VD: Tensor,
    temperature: float,
    scratch_2CV: Tensor,
    float32: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probs of all V words, in the second half of the scratch memory; the first half is free
    again.
    """
    logits_CV, logp_CV = scratch_2CV[:, : len(hidden_CD)]
    if hidden_CD.dtype is torch.float32:
        torch.mm(hidden_CD, weight_VD.T, out=logits_CV)
    else:
        logits_CV.copy_(_product(hidden_CD, weight_VD.T, float32))
    if temperature != 1.0:
        logits_CV.div_(temperature)
    return logits_CV, torch.log_softmax(logits_CV, dim=1, out=logp_CV)
