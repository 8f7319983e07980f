"""This project: grpo/algorithm and rewards/shaping.

The learner trains a flat list of tokens without padding, so masked places are left out here as they
are there. Weights of tokens come from the whole batch, and micro-batches are summed. As in
training, advantages are computed in float64 and the rest in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from conformance.vectors import Case, NotOfferedError, filled
from grpo.algorithm.advantages import ADVANTAGES, AdvantageInputs, discounted_token_scores
from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.controllers import adapted_entropy_coef, adapted_kl_coef
from grpo.algorithm.importance import Correction, correction_weights
from grpo.algorithm.kl import ESTIMATORS
from grpo.algorithm.learning_rate import learning_rate
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, LossInputs
from rewards.shaping.length import length_cosine, length_kimi, soft_overlong
from rewards.types import Reward, Sample

NAME = "ours: grpo/algorithm and rewards/shaping"
LOG_RATIO_BOUND = 20.0


def compute(case: Case) -> dict[str, Any]:
    """What `expected` of the case holds, by this project's functions.

    Raises:
        NotOfferedError: a setting that this project does not have.
    """
    return _BY_KIND[case["kind"]](case["input"], case["settings"])


def _advantage(input: Case, settings: Case) -> dict[str, Any]:
    if settings.get("eps_place", "outside") != "outside":
        raise NotOfferedError("eps inside the root")
    if settings["estimator"] not in ADVANTAGES:
        raise NotOfferedError(f"estimator={settings['estimator']}")
    rewards_PG = _tensor(input["rewards"], torch.float64)
    weights = input.get("weights", {})
    inputs = AdvantageInputs(
        rewards_PG=rewards_PG,
        graded_PG=torch.tensor(input.get("graded") or rewards_PG.isfinite().tolist()),
        components={
            name: (weights[name], _tensor(rows, torch.float64))
            for name, rows in input.get("components", {}).items()
        },
        reference_P=_tensor(input["reference"], torch.float64) if "reference" in input else None,
        std=settings.get("std", "population"),
        eps=settings.get("eps", 0.0),
    )
    return {"advantages": ADVANTAGES[settings["estimator"]](inputs).tolist()}


def _ratio(input: Case, settings: Case) -> dict[str, Any]:
    _check_bound(settings)
    if settings["level"] == "token":
        batch = _Batch(input)
        return {"ratios": batch.at_places(batch.inputs().log_ratio_N.exp(), None)}
    ratios: list[float | None] = []
    for b, flags in enumerate(input["mask"]):
        if not any(flags):
            ratios.append(None)
            continue
        # GSPO's loss of a response with advantage -1, without a clip, is its ratio.
        row = {name: [input[name][b]] for name in ("logp", "old_logp", "mask")}
        batch = _Batch({**row, "advantages": [-1.0]})
        loss = OBJECTIVES["gspo"](batch.inputs(), Coefficients(clip_low=1.0, clip_high=1e9)).loss
        ratios.append(loss.item())
    return {"ratios": ratios}


def _mismatch(input: Case, settings: Case) -> dict[str, Any]:
    batch = _Batch({**input, "logp": input["old_logp"]})
    weights_N = correction_weights(
        batch.flat("old_logp"),
        batch.flat("behaviour_logp"),
        batch.row_N,
        batch.num_rows,
        Correction(**settings),
    )
    return {"weights": batch.at_places(weights_N, None)}


def _kl(input: Case, settings: Case) -> dict[str, Any]:
    logp_N = _tensor(input["logp"]).requires_grad_()
    kl_N = ESTIMATORS[settings["estimator"]](logp_N, _tensor(input["reference_logp"]))
    (gradient_N,) = torch.autograd.grad(kl_N.sum(), logp_N)
    return {"kl": kl_N.tolist(), "gradient": gradient_N.tolist()}


def _kl_expectation(input: Case, settings: Case) -> dict[str, Any]:
    """Every symbol is a response of one token, weighted by its probability."""
    logits_V = _tensor(input["logits"]).requires_grad_()
    logp_V = logits_V.log_softmax(-1)
    reference_V = _tensor(input["reference_logits"]).log_softmax(-1)
    kl_V = ESTIMATORS[settings["estimator"]](logp_V, reference_V)
    if settings["place"] == "loss":
        loss = (logp_V.detach().exp() * kl_V).sum()
    else:
        inputs = LossInputs(
            logp_N=logp_V,
            old_logp_N=logp_V.detach(),
            behaviour_logp_N=logp_V.detach(),
            reference_logp_N=None,
            entropy_N=torch.zeros_like(reference_V),
            advantage_N=-kl_V.detach(),
            weight_N=logp_V.detach().exp(),
            row_N=torch.arange(len(reference_V)),
            num_rows=len(reference_V),
        )
        loss = OBJECTIVES["reinforce"](inputs, Coefficients()).loss
    (gradient_V,) = torch.autograd.grad(loss, logits_V)
    return {"gradient": gradient_V.tolist()}


def _aggregation(input: Case, settings: Case) -> dict[str, Any]:
    batch = _Batch({**input, "logp": input["values"]}, settings)
    weighted_N = batch.weight_N * batch.flat("values")
    parts = [weighted_N[batch.of(rows)].sum() for rows in batch.micro_batches]
    return {
        "weights": batch.at_places(batch.weight_N, 0.0),
        "aggregate": torch.stack(parts).sum().item(),
    }


def _loss(input: Case, settings: Case) -> dict[str, Any]:
    _check_bound(settings)
    kl, correction = settings.get("kl"), settings.get("correction")
    if kl and kl["place"] == "reward":
        raise NotOfferedError("kl.place=reward per token: here it is taken off the whole response")
    if kl and kl.get("times_ratio"):
        raise NotOfferedError("kl.times_ratio=true")
    coefficients = Coefficients(
        clip_low=settings.get("clip_low") or 0.0,
        clip_high=settings.get("clip_high") or 0.0,
        dual_clip=settings.get("dual_clip"),
        mirror_tau=settings.get("tau", 0.1),
        kl_coef=kl["coef"] if kl else 0.0,
        kl_estimator=kl["estimator"] if kl else "k3",
        correction=Correction(**correction) if correction else None,
    )
    batch = _Batch(input, settings)
    objective = OBJECTIVES[settings["objective"]]
    losses = [
        objective(batch.inputs(rows, kl is not None), coefficients).loss
        for rows in batch.micro_batches
    ]
    loss = torch.stack(losses).sum()
    (gradient_N,) = torch.autograd.grad(loss, batch.logp_N)
    return {"loss": loss.item(), "gradient": batch.at_places(gradient_N, 0.0)}


def _reward(input: Case, settings: Case) -> dict[str, Any]:
    options = {name: value for name, value in settings.items() if name != "reward"}
    samples = [Sample(response="", gold="", num_tokens=length) for length in input["lengths"]]
    earlier = [
        {"accuracy": Reward(float(right), "")}
        for right in input.get("correct", [False] * len(samples))
    ]
    if settings["reward"] == "length_kimi":
        rewards = length_kimi(samples, earlier)
    elif settings["reward"] == "length_cosine":
        pairs = zip(samples, earlier, strict=True)
        rewards = [length_cosine(sample, others, **options) for sample, others in pairs]
    else:
        rewards = [soft_overlong(sample, **options) for sample in samples]
    return {"rewards": [reward.score for reward in rewards]}


def _return(input: Case, settings: Case) -> dict[str, Any]:
    return {"returns": discounted_token_scores(input["scores"], settings["discount"])}


def _learning_rate(input: Case, settings: Case) -> dict[str, Any]:
    return {"learning_rates": [learning_rate(step, **settings) for step in input["steps"]]}


def _controller(input: Case, settings: Case) -> dict[str, Any]:
    if settings["controller"] == "kl":
        return {"coef": adapted_kl_coef(**input)}
    return {"coef": adapted_entropy_coef(**input)}


class _Batch:
    """The trained tokens of a case as one flat list."""

    def __init__(self, input: Case, settings: Case | None = None) -> None:
        self.input = input
        mask = input["mask"]
        self.places = [(b, t) for b, row in enumerate(mask) for t, there in enumerate(row) if there]
        self.num_rows = len(mask)
        self.row_N = torch.tensor([b for b, _ in self.places], dtype=torch.long)
        self.logp_N = self.flat("logp").requires_grad_()
        lengths_B = torch.tensor([sum(row) for row in mask])
        shape = settings or {"aggregation": "seq-mean-token-mean", "constant": 1, "group_size": 1}
        weights_B = token_weights(
            lengths_B, shape["aggregation"], shape["constant"], shape["group_size"]
        )
        self.weight_N = weights_B[self.row_N]
        self.micro_batches = input.get("micro_batches") or [list(range(self.num_rows))]

    def flat(self, name: str) -> Tensor:
        """[N] values of the trained tokens; zeros where the case has none."""
        rows = self.input.get(name)
        return _tensor([rows[b][t] if rows else 0.0 for b, t in self.places])

    def of(self, rows: list[int]) -> Tensor:
        """[N] bool: the tokens of these responses."""
        return torch.isin(self.row_N, torch.tensor(rows))

    def inputs(self, rows: list[int] | None = None, with_reference: bool = False) -> LossInputs:
        """Of a micro-batch; of the whole batch without `rows`."""
        rows = list(range(self.num_rows)) if rows is None else rows
        there_N = self.of(rows)
        given = self.input.get("advantages") or [0.0] * self.num_rows
        advantages = [
            given[b][t] if isinstance(given[b], list) else given[b] for b, t in self.places
        ]
        old_N = self.flat("old_logp")
        behaviour_N = self.flat("behaviour_logp") if "behaviour_logp" in self.input else old_N
        return LossInputs(
            logp_N=self.logp_N[there_N],
            old_logp_N=old_N[there_N],
            behaviour_logp_N=behaviour_N[there_N],
            reference_logp_N=self.flat("reference_logp")[there_N] if with_reference else None,
            entropy_N=torch.zeros_like(old_N[there_N]),
            advantage_N=_tensor(advantages)[there_N],
            weight_N=self.weight_N[there_N],
            row_N=torch.tensor(
                [rows.index(b) for b in self.row_N[there_N].tolist()], dtype=torch.long
            ),
            num_rows=len(rows),
        )

    def at_places(self, values_N: Tensor, nothing: float | None) -> list[list[float | None]]:
        """[B][T] with `nothing` where the mask is False."""
        out = [[nothing] * len(row) for row in self.input["mask"]]
        for (b, t), value in zip(self.places, values_N.tolist(), strict=True):
            out[b][t] = value
        return out


def _tensor(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(filled(values, math.nan), dtype=dtype)


def _check_bound(settings: Case) -> None:
    if settings.get("log_ratio_bound", LOG_RATIO_BOUND) != LOG_RATIO_BOUND:
        raise NotOfferedError(f"log_ratio_bound={settings['log_ratio_bound']}")


_BY_KIND = {
    "advantage": _advantage,
    "ratio": _ratio,
    "mismatch": _mismatch,
    "kl": _kl,
    "kl_expectation": _kl_expectation,
    "aggregation": _aggregation,
    "loss": _loss,
    "reward": _reward,
    "return": _return,
    "learning_rate": _learning_rate,
    "controller": _controller,
}
