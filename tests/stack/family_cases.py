"""Takes one model of tests/families.py after the other through update, hand-over to vLLM and export,
in one process; prints what came of them as JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.in_process import LocalLearner, LocalRollouts
from grpo.types import StepSettings, TrainSample
from tests.families import FAMILIES, tiny_model

# They stay open: the end of one would take down the process group that the next learner needs.
ENGINES: list[LocalRollouts] = []
# The output layer of the Qwen2.5 recipes: tied at 0.5B, untied at 7B. 151,936 rows, of which the
# last have no token.
WIDE = {"vocab_size": 151_936}
WIDE_QWEN = "qwen2 151,936"


def samples(seed: int, vocab_size: int = 260) -> list[TrainSample]:
    """Four texts, longer than the windows."""
    rng = random.Random(seed)
    rows = [[rng.randrange(2, vocab_size) for _ in range(n)] for n in (70, 33, 50, 12)]
    return [TrainSample.from_tokens(row[:1], row[1:], [-5.0] * (len(row) - 1)) for row in rows]


def gap(rollouts: LocalRollouts, learner: LocalLearner, vocab_size: int) -> float:
    """Largest distance between the log-probs of engine and learner."""
    texts = samples(2, vocab_size)
    ours = learner.logprobs(texts, 1.0)
    theirs = [rollouts.prompt_logprobs(text.token_ids_T.tolist())[0] for text in texts]
    return max(
        abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )


def run(folder: Path, family: str, tied: bool) -> dict[str, object]:
    """One model."""
    family, _, wide = family.partition(" ")
    changes = WIDE if wide else {}
    vocab_size = changes.get("vocab_size", 260)
    tiny_model(folder / "start", family, tied=tied, **changes)
    learner = LocalLearner(
        LearnerSpec(
            model_folder=str(folder / "start"),
            device="cpu",
            dtype="float32",
            world_size=1,
            pad_token_id=268,
            modules=(),
            objective="grpo",
            algorithm=AlgorithmConfig(),
            optimizer=OptimizerConfig(lr=1e-2),
            learner=LearnerConfig(num_ranks=1, head_chunk_tokens=16, param_persistence_threshold=0),
            transfer_timeout_seconds=60,
        )
    )
    rollouts = LocalRollouts(
        EngineSpec(
            model_folder=str(folder / "start"),
            device="cpu",
            dtype="float32",
            max_model_len=128,
            max_num_seqs=8,
            threads=1,
            kv_cache_gib=0.1,
            gpu_memory_share=0.9,
            tensor_parallel=1,
            enforce_eager=True,
            end_token_ids=(267,),
        ),
        stall_seconds=100,
    )
    rollouts.wait_until_ready(300)
    learner.connect(rollouts)
    settings = StepSettings(lr=1e-2, temperature=1.0)
    found: dict[str, object] = {"start": gap(rollouts, learner, vocab_size)}
    learner.prepare(samples(1, vocab_size), settings)
    found["grad_norm"] = learner.optimise([1.0, -1.0, 0.5, -0.5], settings)["grad_norm"]
    found["apart"] = gap(rollouts, learner, vocab_size)
    learner.push_weights(1)
    found["together"] = gap(rollouts, learner, vocab_size)
    learner.save(str(folder / "end"), str(folder / "start"))
    reloaded = AutoModelForCausalLM.from_pretrained(folder / "end")
    weights = {name: tensor.clone() for name, tensor in learner.rank.weights}
    state = reloaded.state_dict()
    found["names"] = sorted(state) == sorted(weights)
    found["equal"] = all(torch.equal(state[name], weights[name]) for name in state)
    found["tied"] = reloaded.lm_head.weight is reloaded.get_input_embeddings().weight
    learner.close()
    ENGINES.append(rollouts)
    return found


def main() -> None:
    """All families named on the command line."""
    found = {}
    for family in sys.argv[1:] or [*FAMILIES, WIDE_QWEN]:
        for tied in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                name = f"{family} {'tied' if tied else 'untied'}"
                found[name] = run(Path(folder), family, tied)
                print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found), flush=True)
    os._exit(0)  # engines that were never closed would keep the process


if __name__ == "__main__":
    main()
