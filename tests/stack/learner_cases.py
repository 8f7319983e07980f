"""Runs one learner rank through the cases of test_learner_step.py and prints what came of them as
JSON.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace

import torch

from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.learner.spec import LearnerSpec
from grpo.learner.worker import LearnerWorker
from grpo.sft import learn_pairs
from grpo.types import StepSettings, TrainSample

SMALL_LR = 2e-5  # a tenth of what most weights of 0.1 need to reach their next bfloat16 number


def batch() -> tuple[list[TrainSample], list[float]]:
    """Eight samples and their advantages, always the same."""
    rng = random.Random(3)
    samples, advantages = [], []
    for n in (3, 17, 5, 30, 8, 2, 21, 11):
        prompt = [rng.randrange(2, 90) for _ in range(rng.randint(2, 9))]
        response = [rng.randrange(2, 90) for _ in range(n)]
        samples.append(TrainSample.from_tokens(prompt, response, [-1.0] * n))
        advantages.append(rng.uniform(-1, 1))
    return samples, advantages


def worker(model: str, kl: float = 0.0, **changes) -> LearnerWorker:
    """A started rank on the small model. AdamW's large eps makes its step proportional to lr and
    gradient.
    """
    learner = {"tokens_per_microbatch": 60, **changes.pop("learner", {})}
    spec = LearnerSpec(
        model_folder=model,
        device="cpu",
        dtype=changes.pop("dtype", "float32"),
        world_size=1,
        pad_token_id=0,
        modules=(),
        objective=changes.pop("objective", "grpo"),
        algorithm=AlgorithmConfig(kl_coef=kl, **changes.pop("algorithm", {})),
        keeps_reference=changes.pop("keeps_reference", False),
        optimizer=OptimizerConfig(
            **{"lr": 1e-3, "max_grad_norm": 1e9, "eps": 1.0, **changes.pop("optimizer", {})}
        ),
        learner=LearnerConfig(num_ranks=1, param_persistence_threshold=0, **learner),
        transfer_timeout_seconds=60,
    )
    rank = LearnerWorker(spec, 0)
    rank.start("127.0.0.1", 0)
    return rank


def weights(rank: LearnerWorker) -> dict[str, torch.Tensor]:
    """The matrices, whole."""
    return {name: w.float().clone() for name, w in rank.weights if w.ndim == 2}


def step(rank: LearnerWorker, case: str = "whole", **settings) -> dict[str, float]:
    """One batch, whole or changed."""
    samples, advantages = batch()
    dropped = {"half dropped": (0, 3, 4, 6), "all dropped": range(8)}.get(case, ())
    samples = [replace(s, counts_only=i in dropped) for i, s in enumerate(samples)]
    if case == "half":
        samples, advantages = samples[:4], advantages[:4]
    elif case == "still":
        advantages[4:] = [0.0] * 4
    elif case in ("empty", "partly"):
        first = 4 if case == "empty" else 5
        samples[first:] = [
            TrainSample.from_tokens(s.token_ids_T[~s.loss_mask_T].tolist(), [], [])
            for s in samples[first:]
        ]
    chosen = StepSettings(**{"lr": 1e-3, "temperature": 0.8, **settings})
    rank.prepare(samples, chosen)
    return rank.optimise(advantages, chosen)


def way(rank: LearnerWorker, **settings) -> tuple[float, float, list[float]]:
    """One batch: the gradient's norm, how far all weights moved together, and the way of some."""
    before = {name: tensor.clone() for name, tensor in rank.weights}
    norm = step(rank, **settings)["grad_norm"]
    moved = {name: tensor.double() - before[name] for name, tensor in rank.weights}
    moved.pop("lm_head.weight", None)  # tied: the embedding, listed a second time
    far = sum(float(delta.square().sum()) for delta in moved.values()) ** 0.5
    return norm, far, moved["model.norm.weight"].tolist()


def main() -> None:
    """All cases, one after the other in one process."""
    model, rounded = sys.argv[1:]
    samples, _ = batch()
    found: dict[str, object] = {}

    rank = worker(model, kl=0.3)
    found["before"] = rank.logprobs(samples, 0.8)
    full = {"kl_coef": 0.3, "entropy_coef": 0.05, "clip_low": 0.02, "clip_high": 0.05}
    found["full_stats"] = [step(rank, num_updates=2, lr=3e-3, **full) for _ in range(2)]
    found["full"] = rank.logprobs(samples, 0.8)
    measured = rank.prepare(samples, StepSettings(lr=0.0, temperature=0.8), measure=True)
    found["measured"] = [(m.kl, m.entropy, m.mismatch) for m in measured or []]

    for lr in (0.0, 1e-3, 2e-3):
        rank = worker(model)
        step(rank, lr=lr)
        found[f"lr {lr}"] = rank.logprobs(samples, 0.8)

    for case in ("half dropped", "all dropped"):
        rank = worker(model, kl=0.3)
        stats = [step(rank, case, num_updates=2, kl_coef=0.3, lr=3e-3) for _ in range(2)]
        found[case] = (stats, rank.logprobs(samples, 0.8))

    for case, updates in (("half", 1), ("still", 2), ("empty", 2), ("partly", 1)):
        rank = worker(model, learner={"tokens_per_microbatch": 40})
        stats = [step(rank, case, num_updates=updates) for _ in range(2)]
        found[case] = {"stats": stats, "logprobs": rank.logprobs(samples, 0.8)}

    # Pairs of neighbours. With the small budget most of them are in two micro-batches.
    summed = {"objective": "reinforce", "algorithm": {"aggregation": "seq-sum-constant"}}
    for tokens in (10_000, 40):
        limit = {"tokens_per_microbatch": tokens}
        rank = worker(model, learner=limit, keeps_reference=True, **summed)
        settings = StepSettings(lr=3e-4, temperature=0.8)
        stats = [learn_pairs(rank, samples, settings, beta=0.5) for _ in range(3)]
        found[f"dpo {tokens}"] = (stats, rank.logprobs(samples, 0.8))

    for checkpointing in (False, True):
        rank = worker(model, learner={"gradient_checkpointing": checkpointing})
        calls = []
        layer = rank.policy.model.model.layers[0].mlp
        # Before and not after: the second forward pass ends as soon as it has what backward needs.
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        stats = step(rank)
        passes = len(calls) / len(rank._plan(samples, range(len(samples))))
        found[f"checkpointing {checkpointing}"] = (passes, stats["grad_norm"])

    for tokens in (10_000, 40):
        rank = worker(model, dtype="bfloat16", learner={"tokens_per_microbatch": tokens})
        found[f"bf16 {tokens}"] = step(rank)["grad_norm"]

    # One direction for many steps: AdamW moves each weight by about lr a step.
    for name, dtype, stage in [("float32", "float32", 3)] + [
        (f"bfloat16 {stage}", "bfloat16", stage) for stage in (1, 2, 3)
    ]:
        changes = {"learner": {"tokens_per_microbatch": 10_000, "zero_stage": stage}}
        rank = worker(rounded, dtype=dtype, optimizer={"eps": 1e-8}, **changes)
        start = weights(rank)
        step(rank, lr=SMALL_LR)
        first = weights(rank)
        for _ in range(99):
            step(rank, lr=SMALL_LR)
        last = weights(rank)
        found[f"drift {name}"] = {
            "stayed": {k: float((first[k] == start[k]).double().mean()) for k in start},
            "moved": {k: float((last[k] - start[k]).abs().mean()) for k in start},
        }

    # With an eps far above all gradients AdamW's first step is lr / eps times the clipped gradient.
    plain = {"eps": 1e4, "weight_decay": 0.0}
    found["unclipped"] = unclipped = way(worker(model, optimizer=plain), lr=1e3)
    for share in (0.25, 2.0):
        clip = plain | {"max_grad_norm": share * unclipped[0]}
        found[f"clipped {share}"] = way(worker(model, optimizer=clip), lr=1e3)

    rank = worker(model)
    before = step(rank, lr=0.0)["weight_max"]
    rank.policy.model.model.layers[1].mlp.up_proj.weight.ds_tensor.data[5] = float("nan")
    settings = StepSettings(lr=0.0, temperature=0.8)
    rank.prepare(samples, settings)
    # Without an advantage there is no optimizer step, which would bring the old weight back.
    found["weight_max"] = [before, rank.optimise([0.0] * len(samples), settings)["weight_max"]]
    found["largest"] = max(float(tensor.abs().max()) for _, tensor in worker(model).weights)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
