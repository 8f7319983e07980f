"""How the responses of an update are dealt to ranks and micro-batches, and how one of those becomes
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from grpo.types import TrainSample


def plan_microbatches(
    lengths: Sequence[int], num_ranks: int, tokens_per_microbatch: int
) -> list[list[list[int]]]:
    """Deal responses to ranks so that all ranks have the same number of micro-batches of similar
    size.

    Longest first, because sorted rows need the least padding. Ranks hold neighbours of the sorted
    order, so they finish together. A rank may get fewer rows, even none, in the last micro-batch.

    Args:
        lengths: tokens of each response with its prompt.
        num_ranks: R.
        tokens_per_microbatch: bound on rows x longest row of one rank; a single longer row still
            goes alone.

    Returns:
        `plan[micro_batch][rank]`, the indices into `lengths`.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    plan = []
    while order:
        rows_per_rank = max(1, tokens_per_microbatch // max(lengths[order[0]], 1))
        taken, order = order[: rows_per_rank * num_ranks], order[rows_per_rank * num_ranks :]
        plan.append([taken[rank::num_ranks] for rank in range(num_ranks)])
    return plan


class MicroBatch(NamedTuple):
    """Right-padded rows of prompt + response. N counts the response tokens of all rows, in row
    order.

    With right padding and causal attention no real token ever sees padding, so no attention mask is
    needed.
    """

    input_ids_BT: Tensor
    predicts_BT: Tensor  # bool: positions whose next token is a response token; N of them
    targets_N: Tensor  # the response tokens
    engine_logp_N: Tensor  # as the engine reported them
    advantage_N: Tensor
    weight_N: Tensor  # from losses.token_weights; 0 for the token of a dummy row


def collate(
    samples: Sequence[TrainSample], weights: Sequence[float], pad_token_id: int
) -> MicroBatch:
    """Tensors of some responses. No samples give one dummy row of weight 0: every rank must run
    every collective.
    """
    if not samples:
        samples, weights = [TrainSample([pad_token_id], [pad_token_id], [0.0], 0.0)], [0.0]
    # The last token predicts nothing that is trained.
    rows = [(s.prompt_token_ids + s.response_token_ids)[:-1] for s in samples]
    width = max(len(row) for row in rows)
    input_ids_BT = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows])
    first_B = torch.tensor([len(s.prompt_token_ids) - 1 for s in samples])
    length_B = torch.tensor([len(s.response_token_ids) for s in samples])
    position_T = torch.arange(width)
    predicts_BT = (position_T >= first_B[:, None]) & (position_T < (first_B + length_B)[:, None])
    return MicroBatch(
        input_ids_BT,
        predicts_BT,
        torch.tensor([token for s in samples for token in s.response_token_ids], dtype=torch.long),
        torch.tensor([logp for s in samples for logp in s.engine_logprobs], dtype=torch.float32),
        torch.tensor([s.advantage for s in samples], dtype=torch.float32).repeat_interleave(
            length_B
        ),
        torch.tensor(list(weights), dtype=torch.float32).repeat_interleave(length_B),
    )
