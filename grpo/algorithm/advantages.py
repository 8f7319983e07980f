"""How much better a response is than what could be expected for its prompt.

`group_advantages` is GRPO's. The registered ones take the whole batch of a step, because some of
them normalise over it. A response that could not be graded, through no fault of its own, is in no
mean and no deviation, and gets 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from grpo.common.names import Registry

Std = Literal["population", "sample", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdvantageInputs:
    """A batch of P prompts with G responses each. float64."""

    rewards_PG: Tensor  # weighted sums of all components
    graded_PG: Tensor  # bool
    components: Mapping[str, tuple[float, Tensor]] = field(
        default_factory=dict
    )  # weight and [P, G] scores of each component by name
    reference_P: Tensor | None = None  # mean reward of a reference policy on each prompt
    std: Std = "population"
    eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class Advantage:
    """A way to compute them, and the settings of `algorithm` that it looks at."""

    compute: Callable[[AdvantageInputs], Tensor]  # -> [P, G]
    uses: frozenset[str]
    needs_reference: bool = False

    def __call__(self, inputs: AdvantageInputs) -> Tensor:
        """[P, G] advantages, 0 for what could not be graded."""
        return torch.where(inputs.graded_PG, self.compute(inputs), 0.0)


ADVANTAGES: Registry[Advantage] = Registry("advantage")


def advantage(
    name: str, *, uses: Sequence[str] = (), needs_reference: bool = False
) -> Callable[[Callable[[AdvantageInputs], Tensor]], Callable[[AdvantageInputs], Tensor]]:
    """Decorator that registers a function `AdvantageInputs -> [P, G]`."""

    def register(
        compute: Callable[[AdvantageInputs], Tensor],
    ) -> Callable[[AdvantageInputs], Tensor]:
        ADVANTAGES.register(name)(Advantage(compute, frozenset(uses), needs_reference))
        return compute

    return register


@advantage("grpo", uses=("advantage_std", "advantage_eps"))
def grpo(inputs: AdvantageInputs) -> Tensor:
    """(r - mean of the group) / (std of the group + eps). `advantage_std: none` is Dr. GRPO."""
    return group_advantages(
        inputs.rewards_PG, graded_PG=inputs.graded_PG, std=inputs.std, eps=inputs.eps
    )


@advantage("rloo")
def rloo(inputs: AdvantageInputs) -> Tensor:
    """r_i - mean of the *other* rewards of the group, which is G / (G - 1) (r_i - mean).

    The baseline does not depend on the response, so the gradient is unbiased.
    Source: Ahmadian et al. (arXiv:2402.14740); Kool et al. (2019).
    """
    graded_P1 = inputs.graded_PG.sum(dim=1, keepdim=True)
    return _centred(inputs) * graded_P1 / (graded_P1 - 1).clamp(min=1)


@advantage("reinforce_pp", uses=("advantage_eps",))
def reinforce_pp(inputs: AdvantageInputs) -> Tensor:
    """(r - mean of the batch) / (std of the batch + eps): no group is looked at.

    Mean and deviation are over responses. OpenRLHF takes them over tokens, so that long responses
    weigh more.
    Source: REINFORCE++ (arXiv:2501.03262).
    """
    centred_PG = inputs.rewards_PG - inputs.rewards_PG[inputs.graded_PG].mean()
    return _over_batch_std(centred_PG, inputs)


@advantage("reinforce_pp_baseline", uses=("advantage_eps",))
@advantage("batch_std", uses=("advantage_eps",))
def batch_std(inputs: AdvantageInputs) -> Tensor:
    """(r - mean of the group) / (std of these over the batch + eps).

    A group with little spread is not blown up to the size of the others. The mean of these over the
    batch is 0, so ScaleRL's form and REINFORCE++'s, which takes it off once more, are the same.
    Source: ScaleRL (arXiv:2510.13786); REINFORCE++ (arXiv:2501.03262), which ProRL v2 trains with.
    """
    return _over_batch_std(_centred(inputs), inputs)


@advantage("gdpo", uses=("advantage_std", "advantage_eps"))
def gdpo(inputs: AdvantageInputs) -> Tensor:
    """GRPO's advantage of every component apart, their weighted sum, then its deviation over
    the batch.

    Normalising the sum once lets the component with the largest spread decide, and responses of
    equal sums look alike whatever they are made of.
    Source: GDPO (arXiv:2601.05242).
    """
    total_PG = torch.zeros_like(inputs.rewards_PG)
    for weight, scores_PG in inputs.components.values():
        total_PG = total_PG + weight * group_advantages(
            scores_PG, graded_PG=inputs.graded_PG, std=inputs.std, eps=inputs.eps
        )
    return _over_batch_std(total_PG, inputs)


@advantage("reference_accuracy", needs_reference=True)
def reference_accuracy(inputs: AdvantageInputs) -> Tensor:
    """r - the mean reward of a reference policy on the same prompt, measured before training.

    No group mean and no deviation: a response is good where it beats the reference.
    Source: AdaptThink (arXiv:2505.13417).
    """
    assert inputs.reference_P is not None
    return inputs.rewards_PG - inputs.reference_P[:, None]


def group_advantages(
    rewards_PG: Tensor,
    *,
    graded_PG: Tensor | None = None,
    std: Std = "population",
    eps: float = 1e-6,
) -> Tensor:
    """Rewards minus their group's mean, over their group's standard deviation.

    Args:
        rewards_PG: [P, G] one reward per response, a row per prompt.
        graded_PG: [P, G] bool; a response that could not be graded, through no fault of its own,
            neither counts in its group's mean and deviation nor gets an advantage. None: all are
            graded.
        std: `population` (ddof 0), `sample` (ddof 1, what `torch.std` returns), or `none` (Dr.
            GRPO, arXiv:2503.20783, which removes the division).
        eps: added to the standard deviation.

    Returns:
        [P, G] advantages; exactly 0 for a group whose rewards are all equal.

    Source: DeepSeekMath (arXiv:2402.03300), section 4.1.2; DeepSeek-R1 (arXiv:2501.12948), equation
        3.
    """
    if graded_PG is not None and not graded_PG.all():
        advantages_PG = torch.zeros_like(rewards_PG)
        for reward_G, graded_G, advantage_G in zip(
            rewards_PG, graded_PG, advantages_PG, strict=True
        ):
            if graded_G.sum() > 1:  # one response alone has no baseline
                graded = reward_G[graded_G][None]
                advantage_G[graded_G] = group_advantages(graded, std=std, eps=eps)[0]
        return advantages_PG
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    # The mean of equal numbers is rounded: without this an all-equal group gets noise instead of
    # zeros.
    centred_PG = torch.where(zero_variance(rewards_PG)[:, None], 0.0, centred_PG)
    if std == "none":
        return centred_PG
    spread_P1 = rewards_PG.std(dim=1, keepdim=True, correction=0 if std == "population" else 1)
    # Without eps, or with one response and ddof 1, an equal group would be 0 / 0.
    return torch.where(centred_PG == 0, 0.0, centred_PG / (spread_P1 + eps))


def zero_variance(rewards_PG: Tensor) -> Tensor:
    """[P] bool: groups whose rewards are all equal, which carry no policy gradient."""
    return (rewards_PG == rewards_PG[:, :1]).all(dim=1)


def discounted_token_scores(scores_T: Sequence[float], discount: float) -> list[float]:
    """[T] return of each token: its own score and those of later tokens, discounted.

    The channel of rewards per token has a discount of its own, and is summed with what the whole
    response earned afterwards.
    Source: "Demystifying long chain-of-thought" (arXiv:2502.03373).
    """
    returns: list[float] = []
    later = 0.0
    for score in reversed(scores_T):
        later = score + discount * later
        returns.append(later)
    return returns[::-1]


def _centred(inputs: AdvantageInputs) -> Tensor:
    return group_advantages(inputs.rewards_PG, graded_PG=inputs.graded_PG, std="none")


def _over_batch_std(values_PG: Tensor, inputs: AdvantageInputs) -> Tensor:
    """Divide by the population deviation over all graded responses. Exactly 0 where all are equal,
    since centred values that are all equal are all 0.
    """
    graded = values_PG[inputs.graded_PG]
    if not graded.numel() or bool((graded == graded[0]).all()):
        return torch.zeros_like(values_PG)
    return values_PG / (graded.std(correction=0) + inputs.eps)
