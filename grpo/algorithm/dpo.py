"""DPO: what a pair of responses teaches, and how that becomes a weight of each response."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, slots=True)
class PairLoss:
    """The loss of P pairs, its derivatives, and what it says of itself."""

    loss: Tensor  # [], the mean over pairs
    chosen_gradient_P: Tensor  # d loss / d log pi(chosen)
    rejected_gradient_P: Tensor  # d loss / d log pi(rejected)
    margin_P: Tensor  # implicit reward of the chosen response minus that of the rejected one


def dpo(chosen_P: Tensor, rejected_P: Tensor, beta: float) -> PairLoss:
    """-log sigmoid(beta (chosen - rejected)), the mean over pairs.

    A pair couples two responses, and a micro-batch may hold one of them. But the loss reaches the
    weights through two numbers of a pair only, log pi(chosen) and log pi(rejected):

        d loss / d theta = sum over responses of (d loss / d log pi(y)) d log pi(y) / d theta

    So the derivatives here, measured with the weights of the step's start, are constants, and
    sum_y (d loss / d log pi(y)) log pi(y) has exactly the gradient of DPO. That is a sum over
    tokens. It may be dealt to micro-batches and ranks as any other, in one update for a batch.

    Args:
        chosen_P: [P] log pi(y) - log pi_ref(y) of the chosen responses, sums over their tokens.
        rejected_P: [P] the same of the rejected ones.
        beta: how strongly the reference holds the policy.

    Source: Rafailov et al., "Direct Preference Optimization" (arXiv:2305.18290), equation 7.
    """
    margin_P = beta * (chosen_P - rejected_P)
    pull_P = beta * torch.sigmoid(-margin_P) / margin_P.numel()
    return PairLoss(-logsigmoid(margin_P).mean(), -pull_P, pull_P, margin_P)
