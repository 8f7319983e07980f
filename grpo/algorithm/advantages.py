"""Group-relative advantages: how much better a response is than its siblings for the same
prompt.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def group_advantages(
    rewards_PG: Tensor,
    *,
    graded_PG: Tensor | None = None,
    std: Literal["population", "sample", "none"] = "population",
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
    return centred_PG / (spread_P1 + eps)


def zero_variance(rewards_PG: Tensor) -> Tensor:
    """[P] bool: groups whose rewards are all equal, which carry no policy gradient."""
    return (rewards_PG == rewards_PG[:, :1]).all(dim=1)
