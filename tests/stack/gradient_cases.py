"""Runs one learner rank through the cases of test_learner_invariance.py; rank 0 writes what came of
each into a folder.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from dataclasses import replace
from pathlib import Path

import torch
from deepspeed.utils import safe_get_full_grad
from safetensors.torch import save_file

from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.learner import zero
from grpo.learner.spec import LearnerSpec
from grpo.learner.worker import LearnerWorker
from grpo.types import StepSettings, TrainSample

SETTINGS = StepSettings(lr=1e-2, temperature=0.8)
OPTIMIZER = OptimizerConfig(lr=1e-2, max_grad_norm=0.1, eps=1.0, weight_decay=0.5)
NO_LIMIT = 1_000_000  # tokens of a micro-batch


def batch() -> tuple[list[TrainSample], list[float]]:
    """48 samples of 2 to 600 tokens, more than 10,000 together. One in three has an advantage."""
    rng = random.Random(11)
    samples, advantages = [], []
    for i in range(48):
        prompt = [rng.randrange(2, 90) for _ in range(rng.randint(1, 60))]
        response = [rng.randrange(2, 90) for _ in range(rng.choice((1, 7, 90, 250, 400, 540)))]
        samples.append(TrainSample.from_tokens(prompt, response, [-1.0] * len(response)))
        advantages.append(rng.uniform(-1, 1) if i % 3 == 0 else 0.0)
    return samples, advantages


class Rank:
    """A started rank that remembers gradients and counts the tokens it worked on."""

    def __init__(self, model, rank, world_size, port, tokens, **learner):
        spec = LearnerSpec(
            model_folder=model,
            device="cpu",
            dtype="float32",
            world_size=world_size,
            pad_token_id=0,
            modules=(),
            objective="grpo",
            algorithm=AlgorithmConfig(),
            optimizer=OPTIMIZER,
            learner=LearnerConfig(
                num_ranks=world_size,
                tokens_per_microbatch=tokens,
                param_persistence_threshold=0,
                **learner,
            ),
            transfer_timeout_seconds=60,
        )
        self.worker = LearnerWorker(spec, rank)
        self.worker.start("127.0.0.1", port)
        self.tokens = {True: 0, False: 0}  # with and without a backward pass, padding included
        self.calls = {True: 0, False: 0}
        self.worker.policy.register_forward_pre_hook(self._count)

    def _count(self, _module: object, args: tuple) -> None:
        self.tokens[torch.is_grad_enabled()] += args[0].numel()
        self.calls[torch.is_grad_enabled()] += 1

    def weights(self) -> dict[str, torch.Tensor]:
        """All of them, whole."""
        return {name: tensor.detach().clone() for name, tensor in self.worker.weights}

    def step(self, samples, advantages, settings=SETTINGS) -> tuple[dict, dict]:
        """Metrics and gradients of one update."""
        gradients: dict[str, torch.Tensor] = {}
        plain = zero.step

        def spy(engine):
            for name, p in self.worker.policy.model.named_parameters():
                gradients[name] = safe_get_full_grad(p).clone()
            return plain(engine)

        zero.step = spy
        try:
            self.worker.prepare(samples, settings)
            return self.worker.optimise(advantages, settings), gradients
        finally:
            zero.step = plain


def main() -> None:
    """All cases of one world size, one after the other in one process."""
    rank, world_size, port, model, folder = sys.argv[1:]
    samples, advantages = batch()
    without_responses = [
        TrainSample.from_tokens(s.token_ids_T.tolist(), [], []) for s in samples[:8]
    ]

    def started(tokens, **learner):
        return Rank(model, int(rank), int(world_size), int(port), tokens, **learner)

    def write(case, stats, gradients, weights, **more):
        if rank == "0":
            target = Path(folder) / f"{world_size} {case}"
            tensors = {f"grad {k}": v.contiguous() for k, v in gradients.items()}
            tensors |= {f"weight {k}": v.contiguous() for k, v in weights.items()}
            save_file(tensors, f"{target}.safetensors")
            Path(f"{target}.json").write_text(json.dumps({"stats": stats, **more}))

    def run(case, living, samples=samples, advantages=advantages, settings=SETTINGS):
        living.tokens, living.calls = {True: 0, False: 0}, {True: 0, False: 0}
        stats, gradients = living.step(samples, advantages, settings)
        counted = {"backward": living.tokens[True], "forward": living.tokens[False]}
        calls = [living.calls[False], living.calls[True]]
        everyone = [None] * int(world_size)
        torch.distributed.all_gather_object(everyone, calls)
        updates = living.worker.num_updates
        weights = living.weights()
        write(case, stats, gradients, weights, updates=updates, calls=everyone, **counted)

    everything = replace(SETTINGS, entropy_coef=1e-30)  # a gradient term for all, of no size
    few = [a if i == 0 else 0.0 for i, a in enumerate(advantages)]
    alone = Path(folder) / "state of one rank"
    if world_size == "1":
        living = started(NO_LIMIT)
        run("whole", living)
        alone.mkdir()
        living.worker.save_state(str(alone))
        run("second", living)
        run("micro-batches", started(1500))
        run("everything", started(1500), settings=everything)
        order = random.Random(5).sample(range(len(samples)), len(samples))
        run("shuffled", started(1500), [samples[i] for i in order], [advantages[i] for i in order])
        run("few", started(NO_LIMIT), advantages=few)
        return
    for stage in range(4):
        living = started(1500, zero_stage=stage)
        run(f"stage {stage}", living)
        state = Path(folder) / f"state {stage}"
        state.mkdir(exist_ok=True)
        living.worker.save_state(str(state))
        run(f"second {stage}", living)
        living.worker.load_state(str(state))
        run(f"again {stage}", living)
        living.worker.load_state(str(alone))
        run(f"from one rank {stage}", living)
        living.worker.load_state(str(alone), with_moments=False)
        write(f"weights of one rank {stage}", {}, {}, living.weights())
        living = started(1500, zero_stage=stage)
        write(f"before {stage}", {}, {}, living.weights())
        run(f"nan {stage}", living, advantages=[*advantages[:-1], float("nan")])
        run(f"after nan {stage}", living)
    # Rank 1 finds the disk full, and both hear of it.
    full = Path(folder) / "full"
    full.mkdir(exist_ok=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == "1":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        living.worker.save_state(str(full))
        told = "nothing"
    except OSError as error:
        told = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    everyone: list[str | None] = [None, None]
    torch.distributed.all_gather_object(everyone, told)
    living.worker.save_state(str(full))
    write("full disk", {}, {}, living.weights(), told=everyone)
    living.worker.load_state(str(full))
    write("full disk again", {}, {}, living.weights())
    # Without a GPU nobody needs this, and it is refused. DeepSpeed does it there all the same.
    LearnerConfig.problems = lambda *_: []
    run("offload 1", started(1500, zero_stage=1, offload_optimizer=True))
    run("offload 2", started(1500, zero_stage=2, offload_optimizer=True))
    run("offload 3", started(1500, offload_optimizer=True, offload_parameters=True))
    living = started(NO_LIMIT)
    run("masked", living, without_responses, [1.0] * len(without_responses))
    run("few", living, advantages=few)


if __name__ == "__main__":
    main()
