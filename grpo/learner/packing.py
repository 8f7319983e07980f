"""How the samples of an update are dealt to ranks and micro-batches, and how one of those becomes
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grpo.types import Advantage, TrainSample

# What a micro-batch costs besides its tokens, in tokens of a rank: the gathers of ZeRO-3 and the
# calls of every layer. An estimate for the miniature model on a CPU. A much larger model makes the
# gathers and the tokens dearer alike.
MICROBATCH_COST_TOKENS = 512


def plan_microbatches(
    lengths: Sequence[int], num_ranks: int, tokens_per_microbatch: int
) -> list[list[list[int]]]:
    """Deal samples to ranks so that all ranks have the same number of micro-batches of similar
    size, with the least work.

    Longest first, because sorted rows need the least padding. Ranks hold neighbours of the sorted
    order, so they finish together. A rank may get fewer rows, even none, in the last micro-batch.
    The sorted order is cut where the padded tokens and the fixed costs of all micro-batches
    together are least: a new micro-batch begins where it saves more padding than it costs.

    Args:
        lengths: tokens of each sample, its prompt included.
        num_ranks: R.
        tokens_per_microbatch: bound on rows x longest row of one rank; a single longer row still
            goes alone.

    Returns:
        `plan[micro_batch][rank]`, the indices into `lengths`.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    # The i-th R samples of the order are one row on every rank, as long as the first of them.
    longest = [max(lengths[i], 1) for i in order[::num_ranks]]
    cost = np.zeros(len(longest) + 1)  # of the best plan for all rows from the i-th on, in tokens
    ends = [0] * len(longest)  # of the micro-batch that begins at the i-th row in that plan
    for i in reversed(range(len(longest))):
        most = max(1, tokens_per_microbatch // longest[i])
        rows = np.arange(1, min(most, len(longest) - i) + 1)
        total = MICROBATCH_COST_TOKENS + rows * longest[i] + cost[i + rows]
        best = int(total.argmin())
        cost[i], ends[i] = total[best], i + int(rows[best])
    plan, start = [], 0
    while start < len(longest):
        taken = order[start * num_ranks : ends[start] * num_ranks]
        plan.append([taken[rank::num_ranks] for rank in range(num_ranks)])
        start = ends[start]
    return plan


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Right-padded rows of whole samples. N counts the trained tokens of all rows, in row order.

    With right padding and causal attention no real token ever sees padding, so no attention mask is
    needed.
    """

    rows: list[int]  # indices of the samples in the batch; empty for a dummy row
    input_ids_BT: Tensor
    predicts_BT: Tensor  # bool: positions whose next token is trained; N of them
    targets_N: Tensor  # the trained tokens
    behaviour_logp_N: Tensor  # as the engine reported them
    weight_N: Tensor  # from algorithm.aggregation; 0 for the token of a dummy row
    row_N: Tensor  # the row of each trained token

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return MicroBatch(
            **{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()}
        )


def collate(
    samples: Sequence[TrainSample], rows: Sequence[int], weights: Sequence[float], pad_token_id: int
) -> MicroBatch:
    """Tensors of `samples[i]` for i in `rows`, whose tokens weigh `weights[i]`.

    No rows give one dummy row of weight 0: every rank must run every collective.
    """
    chosen = [samples[i] for i in rows]
    row_weights = [weights[i] for i in rows]
    if not chosen:
        chosen, row_weights = (
            [TrainSample.from_tokens([pad_token_id], [pad_token_id], [0.0])],
            [0.0],
        )
    width = max(sample.num_tokens for sample in chosen) - 1
    # The last token predicts nothing that is trained.
    input_ids_BT = np.full((len(chosen), width), pad_token_id, np.int64)
    predicts_BT = np.zeros((len(chosen), width), np.bool_)
    for b, sample in enumerate(chosen):
        input_ids_BT[b, : sample.num_tokens - 1] = sample.token_ids_T[:-1]
        predicts_BT[b, : sample.num_tokens - 1] = sample.loss_mask_T[1:]
    trained = [sample.loss_mask_T for sample in chosen]
    counts_B = torch.tensor([int(mask.sum()) for mask in trained])
    return MicroBatch(
        rows=list(rows),
        input_ids_BT=torch.from_numpy(input_ids_BT),
        predicts_BT=torch.from_numpy(predicts_BT),
        targets_N=torch.from_numpy(
            np.concatenate([s.token_ids_T[m] for s, m in zip(chosen, trained, strict=True)])
        ).long(),
        behaviour_logp_N=torch.from_numpy(
            np.concatenate([s.behaviour_logp_T[m] for s, m in zip(chosen, trained, strict=True)])
        ).float(),
        weight_N=torch.tensor(row_weights, dtype=torch.float32).repeat_interleave(counts_B),
        row_N=torch.arange(len(chosen)).repeat_interleave(counts_B),
    )


def advantages_of(
    microbatch: MicroBatch, samples: Sequence[TrainSample], advantages: Sequence[Advantage]
) -> Tensor:
    """[N] advantages of the trained tokens of a micro-batch; 0 for the token of a dummy row."""
    if not microbatch.rows:
        return torch.zeros_like(microbatch.weight_N)
    values = [samples[i].advantage_N(advantages[i]) for i in microbatch.rows]
    return torch.from_numpy(np.concatenate(values)).to(microbatch.weight_N.device)


def values_of(
    microbatch: MicroBatch, values: Sequence[NDArray[np.float32]], dummy_N: Tensor
) -> Tensor:
    """[N] numbers of the trained tokens of a micro-batch, from [N] numbers of every sample.

    The token of a dummy row has no number of its own; it gets that of `dummy_N`.
    """
    if not microbatch.rows:
        return dummy_N
    return torch.from_numpy(np.concatenate([values[i] for i in microbatch.rows])).to(dummy_N.device)
