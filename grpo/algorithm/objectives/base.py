"""The one input of all objectives, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grpo.common.names import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficients:
    """Numbers of an objective, all of which may change with the step."""

    clip_low: float = 0.2  # a ratio below 1 - clip_low is clipped
    clip_high: float = 0.2  # and above 1 + clip_high; larger than clip_low is DAPO's clip-higher
    kl_coef: float = 0.0  # weight of the KL to the reference in the loss
    entropy_coef: float = 0.0  # weight of the entropy bonus


@dataclass(frozen=True, kw_only=True, slots=True)
class LossInputs:
    """N trained tokens of R whole responses on this rank. Responses are never split over
    micro-batches.

    Weights are those of the global batch, so a loss is a plain weighted sum over the tokens here.
    Ratios of whole sequences (GSPO, sequence importance sampling) use `row_N`.
    """

    logp_N: Tensor  # under the policy that is trained; carries the gradient
    old_logp_N: Tensor  # under the policy at the start of the step; no gradient
    behaviour_logp_N: Tensor  # under the engine that sampled; no gradient
    reference_logp_N: Tensor | None  # under the reference policy; None where there is none
    entropy_N: Tensor  # of the policy that is trained, nats; carries the gradient
    advantage_N: Tensor
    weight_N: Tensor  # from `aggregation.token_weights`; 0 for the token of a dummy response
    row_N: Tensor  # long: the response that each token belongs to
    num_rows: int  # R

    @property
    def real_N(self) -> Tensor:
        """Bool: tokens that count. The token of a dummy response, which an idle rank computes, does
        not.
        """
        return self.weight_N > 0


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a micro-batch, and what it says of itself.

    `means` are (sum, count) over tokens or responses, `maxima` are single numbers. They are reduced
    over micro-batches and ranks by name and carry no gradient. Every call must give the same names.
    """

    loss: Tensor  # []
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)


Objective = Callable[[LossInputs, Coefficients], Loss]
OBJECTIVES: Registry[Objective] = Registry("objective")


def masked_mean(values_N: Tensor, mask_N: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, count) of the values where the mask is True. Elsewhere they may hold
    anything, NaN too.
    """
    return torch.where(mask_N, values_N.detach(), 0.0).sum(), mask_N.sum()


def masked_max(values_N: Tensor, mask_N: Tensor) -> Tensor:
    """The largest of the values where the mask is True; 0 where it is nowhere."""
    if not values_N.numel():
        return values_N.new_zeros(())
    return torch.where(mask_N, values_N.detach(), 0.0).max()
