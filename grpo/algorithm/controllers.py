"""Coefficients that follow a target from step to step. Pure functions of what was measured."""

from __future__ import annotations


def adapted_kl_coef(coef: float, kl: float, *, target: float, horizon: int, samples: int) -> float:
    """The KL coefficient after a step: up where the measured KL is above the target, else down.

    coef (1 + clip(kl / target - 1, -0.2, 0.2) samples / horizon)

    Args:
        coef: of the step.
        kl: measured in it, nats per token.
        target: nats per token.
        horizon: responses over which the coefficient can change by a fifth.
        samples: responses of the step.

    Source: Ziegler et al. (arXiv:1909.08593), section 2.2.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coef * (1.0 + error * samples / horizon)


def adapted_entropy_coef(
    coef: float, entropy: float, *, target: float, step: float, highest: float
) -> float:
    """The entropy coefficient after a step: one step up below the target, one step down above it.

    It stays in [0, highest]. Source: Skywork-OR1 (arXiv:2505.22312).
    """
    moved = coef + step if entropy < target else coef - step
    return min(max(moved, 0.0), highest)
