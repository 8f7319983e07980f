"""Runs one learner rank with adapters through the cases of test_learner_lora.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.learner.spec import LearnerSpec
from grpo.learner.worker import LearnerWorker
from grpo.types import StepSettings
from tests.stack.learner_cases import batch

LORA = {"rank": 4, "alpha": 6.0, "target_modules": ("q_proj", "down_proj")}


def main() -> None:
    """ZeRO stages 1 and 3, with a KL term."""
    rank, world_size, port, model, folder = sys.argv[1:]
    samples, advantages = batch()
    for stage in (1, 3):
        spec = LearnerSpec(
            model_folder=model,
            device="cpu",
            dtype="float32",
            world_size=int(world_size),
            pad_token_id=0,
            modules=(),
            objective="grpo",
            algorithm=AlgorithmConfig(kl_coef=0.1),
            optimizer=OptimizerConfig(lr=1e-2),
            learner=LearnerConfig(
                num_ranks=int(world_size),
                tokens_per_microbatch=60,
                zero_stage=stage,
                param_persistence_threshold=0,
                gradient_checkpointing=True,
                lora=LORA,
            ),
            transfer_timeout_seconds=60,
        )
        worker = LearnerWorker(spec, int(rank))
        worker.start("127.0.0.1", int(port))
        found = {"before": worker.logprobs(samples, 0.8)}
        settings = StepSettings(lr=1e-2, temperature=0.8, kl_coef=0.1)
        stats = []
        for _ in range(3):
            worker.prepare(samples, settings)
            stats.append(worker.optimise(advantages, settings))
        found["stats"] = stats
        found["after"] = worker.logprobs(samples, 0.8)
        measured = worker.prepare(samples, settings, measure=True)
        found["kl"] = [m.kl for m in measured or []]
        found["trained"] = sum(p.requires_grad for p in worker.policy.parameters())
        found["report"] = worker.partition_report()
        weights = {name: tensor.detach().clone() for name, tensor in worker.weights}
        worker.save(f"{folder}/{stage}", model)
        if rank == "0":
            Path(f"{folder}/{stage}.json").write_text(json.dumps(found))
            save_file(weights, f"{folder}/{stage}.safetensors")


if __name__ == "__main__":
    main()
