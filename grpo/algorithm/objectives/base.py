"""The one input of all objectives, what they return, and what is added to each of them.

An objective says what a token costs. Weights of tokens, the correction of the engine's
probabilities, KL and entropy are the same for all, and `policy_term` adds them in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grpo.algorithm.importance import Correction, correction_weights
from grpo.algorithm.kl import ESTIMATORS
from grpo.common.names import Registry

MAX_LOG_RATIO = 20.0  # exp(20) is 5e8: a ratio that far off teaches nothing, and stays finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficients:
    """Numbers of an objective, all of which may change with the step."""

    clip_low: float = 0.2  # a ratio below 1 - clip_low is clipped
    clip_high: float = 0.2  # and above 1 + clip_high; larger than clip_low is DAPO's clip-higher
    dual_clip: float | None = None  # the loss of a bad token is at most this times its advantage
    mirror_tau: float = 0.1  # strength of the pull to the policy of the step's start (Kimi k1.5)
    kl_coef: float = 0.0  # weight of the KL to the reference in the loss
    kl_estimator: str = "k3"  # of grpo.algorithm.kl
    entropy_coef: float = 0.0  # weight of the entropy bonus
    correction: Correction | None = None  # of the engine's probabilities


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

    @property
    def log_ratio_N(self) -> Tensor:
        """log(policy / policy at the start of the step), the *staleness* of each token."""
        return (self.logp_N - self.old_logp_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)

    def row_sums_N(self, values_N: Tensor) -> Tensor:
        """[N] sum over the response that each token belongs to."""
        sums_R = values_N.new_zeros(self.num_rows).index_add(0, self.row_N, values_N)
        return sums_R[self.row_N]

    def row_lengths_N(self) -> Tensor:
        """[N] trained tokens of the response that each token belongs to."""
        return self.row_sums_N(torch.ones_like(self.weight_N))


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a micro-batch, and what it says of itself.

    `means` are (sum, count) over tokens or responses, `maxima` are single numbers. They are reduced
    over micro-batches and ranks by name and carry no gradient. Every call must give the same names.
    """

    loss: Tensor  # []
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """What an objective makes of each token, before weights, and what it says of itself."""

    loss_N: Tensor
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


Objective = Callable[[LossInputs, Coefficients], Loss]
OBJECTIVES: Registry[Objective] = Registry("objective")


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTerm:
    """An objective: its term per token, weighted, with correction, KL and entropy.

    loss = sum_t weight_t correction_t term_t + kl_coef KL - entropy_coef H
    """

    term: Callable[[LossInputs, Coefficients], TokenLoss]
    uses: frozenset[str]  # settings of `algorithm` that this objective looks at
    on_policy: bool  # without a ratio: one update for a batch
    aggregations: frozenset[str] | None  # None: any
    always: bool = False  # tokens have a gradient without an advantage too

    def __call__(self, inputs: LossInputs, coefficients: Coefficients) -> Loss:
        """The loss of a micro-batch."""
        found = self.term(inputs, coefficients)
        loss_N, means = found.loss_N, dict(found.means)
        if coefficients.correction is not None:
            weight_N = correction_weights(
                inputs.old_logp_N,
                inputs.behaviour_logp_N,
                inputs.row_N,
                inputs.num_rows,
                coefficients.correction,
            )
            loss_N = loss_N * weight_N
            means["importance"] = masked_mean(weight_N, inputs.real_N)
            means["importance_square"] = masked_mean(weight_N.square(), inputs.real_N)
        loss = (loss_N * inputs.weight_N).sum()
        if inputs.reference_logp_N is not None:
            estimate = ESTIMATORS[coefficients.kl_estimator]
            kl_N = estimate(inputs.logp_N, inputs.reference_logp_N)
            if coefficients.kl_coef:
                loss = loss + coefficients.kl_coef * (kl_N * inputs.weight_N).sum()
            means["kl"] = masked_mean(kl_N, inputs.real_N)
        if coefficients.entropy_coef:
            bonus = (inputs.entropy_N * inputs.weight_N).sum()
            loss = loss - coefficients.entropy_coef * bonus
        ratio_N = inputs.log_ratio_N.exp()
        return Loss(loss, means, {"ratio_max": masked_max(ratio_N, inputs.real_N)})


def policy_term(
    name: str,
    *,
    uses: Sequence[str] = (),
    on_policy: bool = False,
    aggregations: Sequence[str] | None = None,
    always: bool = False,
) -> Callable[[Callable[[LossInputs, Coefficients], TokenLoss]], PolicyTerm]:
    """Decorator that registers a term per token as a whole objective.

    Args:
        name: in recipes.
        uses: settings of `algorithm` that it looks at. A recipe that changes another objective's
            setting is refused.
        on_policy: it has no ratio, so a batch must be one update.
        aggregations: those with which it is what its paper says. None: any.
        always: a token without an advantage has a gradient too, so nothing may be skipped.
    """

    def register(term: Callable[[LossInputs, Coefficients], TokenLoss]) -> PolicyTerm:
        whole = PolicyTerm(
            term=term,
            uses=frozenset(uses),
            on_policy=on_policy,
            aggregations=None if aggregations is None else frozenset(aggregations),
            always=always,
        )
        OBJECTIVES.register(name)(whole)
        return whole

    return register


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
