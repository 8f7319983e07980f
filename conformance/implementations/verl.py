"""verl's core algorithms, in an environment of its own (docs/conformance.md).

The registered functions of `verl.trainer.ppo.core_algos` run on the numbers of a case, put together
as verl's `ppo_loss` does: sizes of the global batch in `config.global_batch_info`, the KL term
aggregated like the policy's. verl works in float32.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import torch
import verl.trainer.ppo.core_algos as core
from torch import Tensor
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights
from verl.workers.config import ActorConfig

from conformance.vectors import Case, NotOfferedError, filled

NAME = f"verl {importlib.metadata.version('verl')}, torch {torch.__version__}"
AGGREGATIONS = {
    "seq-mean-token-mean": "seq-mean-token-mean",
    "token-mean": "token-mean",
    "seq-sum-constant": "seq-mean-token-sum-norm",
}
LOSSES = {"grpo": "vanilla", "gspo": "gspo", "cispo": "cispo"}
ESTIMATORS = {
    "grpo": "grpo",
    "rloo": "rloo",
    "reinforce_pp": "reinforce_plus_plus",
    "reinforce_pp_baseline": "reinforce_plus_plus_baseline",
    "gdpo": "gdpo",
}
NO_DUAL_CLIP = 1e9  # verl always has one, 3 unless it is told otherwise


def compute(case: Case) -> dict[str, Any]:
    """What `expected` of the case holds, by verl's code.

    Raises:
        NotOfferedError: a setting that these functions of verl do not have.
    """
    if case["kind"] not in _BY_KIND:
        raise NotOfferedError(case["kind"])
    return _BY_KIND[case["kind"]](case["input"], case["settings"])


def _advantage(input: Case, settings: Case) -> dict[str, Any]:
    estimator = settings["estimator"]
    if estimator not in ESTIMATORS:
        raise NotOfferedError(f"estimator={estimator}")
    if settings.get("eps_place", "outside") != "outside":
        raise NotOfferedError("eps inside the root")
    if "graded" in input:
        raise NotOfferedError("responses without a reward")
    size = len(input["rewards"][0])
    index = np.repeat(np.arange(len(input["rewards"])), size)
    lengths = [n for row in input.get("lengths", []) for n in row] or [1] * len(index)
    longest = max(lengths)
    mask_BT = torch.tensor([[1.0] * n + [0.0] * (longest - n) for n in lengths])

    def at_the_end(rows: list[list[float]]) -> Tensor:
        rewards_BT = torch.zeros_like(mask_BT)
        flat = torch.tensor(rows).flatten()
        rewards_BT[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = flat
        return rewards_BT

    more: dict[str, Any] = {}
    if estimator in ("grpo", "gdpo"):
        more = {
            "epsilon": settings.get("eps", 1e-6),
            "norm_adv_by_std_in_grpo": settings.get("std") != "none",
        }
    if estimator == "gdpo":
        names = list(input["components"])
        more["config"] = AlgoConfig(
            gdpo_reward_keys=names, gdpo_reward_weights=[input["weights"][name] for name in names]
        )
        more["non_tensor_batch"] = {
            name: np.array(input["components"][name]).flatten() for name in names
        }
        prompts = torch.ones(len(index), 1, dtype=torch.long)
        attention = torch.cat([prompts, mask_BT.long()], 1)
        more["batch"] = {"prompts": prompts, "attention_mask": attention}
    if estimator == "reinforce_pp":
        more["config"] = AlgoConfig(gamma=1.0)
    else:
        more["index"] = index
    function = core.get_adv_estimator_fn(ESTIMATORS[estimator])
    advantages_BT, _ = function(
        token_level_rewards=at_the_end(input["rewards"]), response_mask=mask_BT, **more
    )
    return {"advantages": advantages_BT[:, 0].view(-1, size).tolist()}


def _correction(input: Case, settings: Case) -> Tensor:
    """[B, T] weights: one threshold truncates, two mask."""
    if settings["level"] == "geometric":
        raise NotOfferedError("level=geometric")
    bounds = f"{settings['low']}_{settings['high']}"
    weights_BT, _ = compute_rollout_correction_weights(
        _tensor(input["old_logp"]) - _tensor(input["behaviour_logp"]),
        torch.tensor(input["mask"]).float(),
        rollout_is=settings["level"],
        rollout_is_threshold=settings["high"] if settings["kind"] == "truncate" else bounds,
    )
    return weights_BT


def _mismatch(input: Case, settings: Case) -> dict[str, Any]:
    rows = zip(_correction(input, settings).tolist(), input["mask"], strict=True)
    return {
        "weights": [
            [value if there else None for value, there in zip(row, flags, strict=True)]
            for row, flags in rows
        ]
    }


def _loss(input: Case, settings: Case) -> dict[str, Any]:
    kl, correction = settings.get("kl"), settings.get("correction")
    if settings["objective"] not in LOSSES:
        raise NotOfferedError(f"objective={settings['objective']}")
    if settings["aggregation"] not in AGGREGATIONS:
        raise NotOfferedError(f"aggregation={settings['aggregation']}")
    if settings.get("dual_clip") is not None and settings["objective"] != "grpo":
        raise NotOfferedError("dual_clip")
    if kl and (kl["place"] != "loss" or kl.get("times_ratio")):
        raise NotOfferedError("kl.place=reward here, or kl.times_ratio=true")
    mask_BT = torch.tensor(input["mask"])
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=settings.get("group_size", 1),
        use_dynamic_bsz=True,
        clip_ratio_low=1.0 if settings["clip_low"] is None else settings["clip_low"],
        clip_ratio_high=settings["clip_high"],
        clip_ratio_c=settings.get("dual_clip") or NO_DUAL_CLIP,
        global_batch_info={
            "dp_size": 1,
            "batch_num_tokens": mask_BT.sum(),
            "global_batch_size": len(mask_BT),
            "loss_scale_factor": settings["constant"],
        },
    )
    padding = float("nan") if settings.get("padding") == "nan" else -7.0
    logp_BT = _tensor(input["logp"], padding).requires_grad_()
    advantages_BT = _tensor(input["advantages"], padding)
    if advantages_BT.dim() == 1:
        advantages_BT = advantages_BT[:, None].expand_as(logp_BT)
    old_BT = _tensor(input["old_logp"], padding)
    weights_BT = _correction(input, correction) if correction else None
    aggregation = AGGREGATIONS[settings["aggregation"]]
    loss = torch.zeros(())
    for rows in input.get("micro_batches") or [list(range(len(mask_BT)))]:
        term, _ = core.get_policy_loss_fn(LOSSES[settings["objective"]])(
            old_log_prob=old_BT[rows],
            log_prob=logp_BT[rows],
            advantages=advantages_BT[rows],
            response_mask=mask_BT[rows],
            loss_agg_mode=aggregation,
            config=config,
            rollout_is_weights=None if weights_BT is None else weights_BT[rows],
        )
        loss = loss + term
        if kl:
            reference_BT = _tensor(input["reference_logp"], padding)
            kl_BT = core.kl_penalty(logp_BT[rows], reference_BT[rows], kl["estimator"])
            loss = loss + kl["coef"] * core.agg_loss(
                kl_BT, mask_BT[rows], aggregation, **config.global_batch_info
            )
    (gradient_BT,) = torch.autograd.grad(loss, logp_BT)
    return {"loss": loss.item(), "gradient": gradient_BT.tolist()}


PLAIN = {
    "objective": "grpo",
    "clip_low": 1.0,
    "clip_high": 1e9,
    "aggregation": "seq-mean-token-mean",
    "constant": 1,
}


def _ratio(input: Case, settings: Case) -> dict[str, Any]:
    """The loss of advantage -1 without a clip is the ratio."""

    def one(logp: list[Any], old: list[Any], mask: list[bool]) -> float:
        row = {"logp": [logp], "old_logp": [old], "mask": [mask], "advantages": [-1.0]}
        objective = "grpo" if settings["level"] == "token" else "gspo"
        return float(_loss(row, {**PLAIN, "objective": objective})["loss"])

    rows = list(zip(input["logp"], input["old_logp"], input["mask"], strict=True))
    if settings["level"] == "sequence":
        return {"ratios": [one(*row) if any(row[2]) else None for row in rows]}
    return {
        "ratios": [
            [one([a], [b], [True]) if there else None for a, b, there in zip(*row, strict=True)]
            for row in rows
        ]
    }


def _kl(input: Case, settings: Case) -> dict[str, Any]:
    logp_N = _tensor(input["logp"]).requires_grad_()
    kl_N = core.kl_penalty(logp_N, _tensor(input["reference_logp"]), settings["estimator"])
    (gradient_N,) = torch.autograd.grad(kl_N.sum(), logp_N)
    return {"kl": kl_N.tolist(), "gradient": gradient_N.tolist()}


def _aggregation(input: Case, settings: Case) -> dict[str, Any]:
    """`agg_loss` itself; its gradient by the values are the weights."""
    if settings["aggregation"] not in AGGREGATIONS:
        raise NotOfferedError(f"aggregation={settings['aggregation']}")
    mask_BT = torch.tensor(input["mask"])
    values_BT = _tensor(input["values"]).requires_grad_()
    total = torch.zeros(())
    for rows in input.get("micro_batches") or [list(range(len(mask_BT)))]:
        total = total + core.agg_loss(
            values_BT[rows],
            mask_BT[rows],
            AGGREGATIONS[settings["aggregation"]],
            batch_num_tokens=mask_BT.sum(),
            global_batch_size=len(mask_BT),
            loss_scale_factor=settings["constant"],
        )
    (weights_BT,) = torch.autograd.grad(total, values_BT)
    return {"weights": weights_BT.tolist(), "aggregate": total.item()}


def _controller(input: Case, settings: Case) -> dict[str, Any]:
    if settings["controller"] != "kl":
        raise NotOfferedError(f"controller={settings['controller']}")
    controller = core.AdaptiveKLController(input["coef"], input["target"], input["horizon"])
    controller.update(input["kl"], input["samples"])
    return {"coef": float(controller.value)}


def _tensor(values: Any, nothing: float = -7.0) -> Tensor:
    return torch.tensor(filled(values, nothing))


_BY_KIND = {
    "advantage": _advantage,
    "ratio": _ratio,
    "mismatch": _mismatch,
    "kl": _kl,
    "aggregation": _aggregation,
    "loss": _loss,
    "controller": _controller,
}
