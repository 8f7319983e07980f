"""Log-probs and entropies of tokens without ever holding [tokens, vocabulary].

At 24K tokens and a vocabulary of 152K the logits of one response alone are 14.6 GB in float32. Here
they exist for one tile at a time, some tokens by some words, in the forward pass and again in the
backward pass, which recomputes them. On a CPU a tile stays in the processor's cache, so a softmax
does not read and write memory once for each of its steps.

The softmax over all words is put together from those of the tiles, as in online softmax (Milakov
and Gimelshein, arXiv:1805.02867).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ChunkedLogProb(torch.autograd.Function):
    """(hidden, weight, targets) -> (log-prob of each target, entropy of each distribution), tile
    by tile: C tokens by W words.
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
        tiles = _tiles(weight_VD)
        logp_N = hidden_ND.new_zeros(len(hidden_ND), dtype=torch.float32)
        entropy_N, largest_N, mean_N = (torch.empty_like(logp_N) for _ in range(3))
        # of the K tiles, first their sums of exp(z), then their shares in the whole softmax
        share_KN = logp_N.new_empty((len(tiles), len(logp_N)))
        scratch = _scratch(hidden_ND, tiles[0], chunk)
        for rows in _slices(len(hidden_ND), chunk):
            largest_KC = torch.empty_like(share_KN[:, rows])
            # of z - largest, under the softmax of the tile alone
            mean_KC = torch.empty_like(largest_KC)
            for k, words in enumerate(tiles):
                logits_CW, p_CW = _softmax(
                    hidden_ND[rows], weight_VD[words], temperature, scratch, float32
                )
                index_C1, here_C1 = _within(words, targets_N[rows, None])
                logp_N[rows] += (logits_CW.gather(1, index_C1) * here_C1).squeeze(1)
                torch.amax(logits_CW, dim=1, out=largest_KC[k])
                share_KN[k, rows] = 1 / p_CW.amax(dim=1)  # sum of exp(z - largest)
                mean_KC[k] = logits_CW.sub_(largest_KC[k, :, None]).mul_(p_CW).sum(dim=1)
            largest_N[rows] = largest_C = largest_KC.amax(dim=0)
            largest_KC -= largest_C
            share_KC = share_KN[:, rows].mul_(largest_KC.exp())
            sum_C = share_KC.sum(dim=0)
            share_KC /= sum_C
            mean_N[rows] = mean_C = mean_KC.add_(largest_KC).mul_(share_KC).sum(dim=0)
            logp_N[rows] = logp_N[rows] - largest_C - sum_C.log()
            entropy_N[rows] = sum_C.log() - mean_C
        # The parameter itself is saved, never a view: ZeRO-3 swaps its storage between forward and
        # backward.
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, share_KN, largest_N, mean_N)
        ctx.temperature, ctx.chunk, ctx.float32 = temperature, chunk, float32
        return logp_N, entropy_N

    @staticmethod
    def backward(
        ctx: Any, grad_logp_N: Tensor, grad_entropy_N: Tensor
    ) -> tuple[Tensor | None, ...]:
        """With z the logits over T, and p their softmax: d logp_y / dz = 1[y] - p and dH / dz =
        -p (z - mean), where mean is that of z under p.
        """
        hidden_ND, weight_VD, targets_N, share_KN, largest_N, mean_N = ctx.saved_tensors
        dtype = hidden_ND.dtype
        grad_hidden_ND = torch.empty_like(hidden_ND)
        with_weight = ctx.needs_input_grad[1]  # it is frozen under adapters
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if with_weight else None
        # The loss often has no entropy term: then its gradient is all zeros, and its half of the
        # work is skipped.
        with_entropy = bool(grad_entropy_N.any())
        tiles = _tiles(weight_VD)
        scratch = _scratch(hidden_ND, tiles[0], ctx.chunk)
        for rows in _slices(len(hidden_ND), ctx.chunk):
            hidden_CD, g_C1 = hidden_ND[rows], grad_logp_N[rows, None]
            # What all words of a token have in common is multiplied in at the narrow side, [C, D].
            common_C1 = torch.full_like(g_C1, -1 / ctx.temperature)
            if not with_entropy:
                common_C1 *= g_C1
            scaled_CD = (hidden_CD * common_C1).to(dtype)
            grad_CD = torch.zeros_like(hidden_CD, dtype=torch.float32)
            for k, words in enumerate(tiles):
                logits_CW, p_CW = _softmax(
                    hidden_CD, weight_VD[words], ctx.temperature, scratch, ctx.float32
                )
                index_C1, here_C1 = _within(words, targets_N[rows, None])
                grad_logits_CW = p_CW.mul_(share_KN[k, rows, None])
                if with_entropy:
                    # p (g + h (z - mean)) - 1[y] g, and p - 1[y] without entropy
                    logits_CW.sub_(largest_N[rows, None]).sub_(mean_N[rows, None])
                    logits_CW.mul_(grad_entropy_N[rows, None])
                    grad_logits_CW.mul_(logits_CW.add_(g_C1))
                    here_C1 = here_C1 * g_C1
                grad_logits_CW.scatter_add_(1, index_C1, -here_C1)
                narrow_CW = grad_logits_CW.to(dtype)
                _add_product(grad_CD, narrow_CW, weight_VD[words], ctx.float32)
                if grad_weight_VD is not None:
                    _add_product(grad_weight_VD[words], narrow_CW.T, scaled_CD, ctx.float32)
            grad_hidden_ND[rows] = grad_CD * common_C1
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


def _slices(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _tiles(weight_VD: Tensor) -> list[slice]:
    """The words of each tile, as rows of the output weight.

    1,024 tokens by 1,024 words are 4 MiB, which fit a CPU's cache. A GPU has more of it, and starts
    each of the steps as a kernel, so its tiles are wider.
    """
    return _slices(len(weight_VD), 1024 if weight_VD.device.type == "cpu" else 16_384)


def _within(words: slice, targets_C1: Tensor) -> tuple[Tensor, Tensor]:
    """[C, 1] columns of the targets in a tile, and 1 where a target is one of its words, else 0."""
    index_C1 = targets_C1 - words.start
    nearest_C1 = index_C1.clamp(0, words.stop - words.start - 1)
    return nearest_C1, (index_C1 == nearest_C1).float()


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


def _add_product(sum_: Tensor, left: Tensor, right: Tensor, float32: bool) -> None:
    """Add a matrix product to a sum in float32."""
    if left.dtype is torch.float32:
        sum_.addmm_(left, right)  # without memory for the product
    else:
        sum_ += _product(left, right, float32)


def _scratch(hidden_ND: Tensor, words: slice, chunk: int) -> Tensor:
    """Memory of a pass: two tiles. Tiles that come and go would tear holes into the heap."""
    size = 2 * min(chunk, len(hidden_ND)) * (words.stop - words.start)
    return hidden_ND.new_empty(size, dtype=torch.float32)


def _softmax(
    hidden_CD: Tensor, weight_WD: Tensor, temperature: float, scratch: Tensor, float32: bool
) -> tuple[Tensor, Tensor]:
    """Logits of a tile, divided by the temperature, and their softmax over its words alone."""
    shape = (len(hidden_CD), len(weight_WD))
    logits_CW, p_CW = scratch[: 2 * shape[0] * shape[1]].view(2, *shape)
    if hidden_CD.dtype is torch.float32:
        torch.mm(hidden_CD, weight_WD.T, out=logits_CW)
    else:
        logits_CW.copy_(_product(hidden_CD, weight_WD.T, float32))
    if temperature != 1.0:
        logits_CW.div_(temperature)
    return logits_CW, torch.softmax(logits_CW, dim=1, out=p_CW)
