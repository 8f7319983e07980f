"""How much each token counts in the loss of a batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["seq-mean-token-mean", "token-mean", "seq-sum-constant", "prompt-mean"]


def token_weights(
    lengths_B: Tensor, aggregation: Aggregation, constant: int, group_size: int = 1
) -> Tensor:
    """[B] weight of every token of a response, such that all weights together make the batch mean.

    Args:
        lengths_B: [B] trained tokens of each response of the *global* batch of one update, not of a
            micro-batch. So neither micro-batches nor the number of ranks can change the gradient.
        aggregation: `seq-mean-token-mean`: mean over tokens, then over responses (GRPO);
            `token-mean`: mean over all tokens (DAPO, arXiv:2503.14476);
            `seq-sum-constant`: sum over tokens by a constant, mean over responses (Dr. GRPO,
            arXiv:2503.20783);
            `prompt-mean`: mean over the tokens of a prompt's responses, then over prompts (ScaleRL,
            arXiv:2510.13786).
        constant: the divisor of `seq-sum-constant`, in tokens; the longest response that could be
            sampled.
        group_size: G, for `prompt-mean`; responses of a prompt are neighbours.
    """
    num_responses = lengths_B.numel()
    if aggregation == "prompt-mean":
        tokens_P = lengths_B.view(-1, group_size).sum(dim=1).clamp(min=1).to(torch.float32)
        return (1.0 / (tokens_P * len(tokens_P))).repeat_interleave(group_size)
    # An empty response has no token that could use its weight, and counts as no token.
    tokens, lengths_B = lengths_B.sum().clamp(min=1), lengths_B.clamp(min=1).to(torch.float32)
    if aggregation == "seq-mean-token-mean":
        return 1.0 / (lengths_B * num_responses)
    if aggregation == "token-mean":
        return torch.full_like(lengths_B, 1.0) / tokens
    return torch.full_like(lengths_B, 1.0 / (constant * num_responses))
