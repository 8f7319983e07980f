"""Loss and gradient of this framework beside those of TRL's GRPOTrainer, on the same batch.

    make trl-venv      TRL, in an environment of its own
    python -m benchmarks.numerics

The tiny recipe's base samples 32 responses. Both sides get its weights, the tokens, random rewards
and the engine's log-probs. Ours runs through a learner rank (ZeRO-3, micro-batches, chunked output
layer), and its gradient is what the optimizer would take. TRL's goes from its rewards to its
`_compute_loss`. Everything is float32, at temperature 0.8.

`on-policy` has old log-probs of its own, and an engine that disagrees by 0.3 in each log-prob,
which truncated importance sampling corrects. `clipped` has old log-probs that are off by 0.3, as in
a later update. `clipped + KL` has a reference that is off by 0.3 too, and a KL coefficient of 0.05.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.trl_process import PYTHON, ROOT, checked
from grpo.algorithm.advantages import ADVANTAGES, AdvantageInputs
from grpo.common.command_line import run
from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig, load_config
from grpo.learner import zero
from grpo.learner.spec import LearnerSpec
from grpo.learner.worker import LearnerWorker
from grpo.types import StepSettings, TrainSample

NUM_PROMPTS, NUM_SAMPLES, MAX_TOKENS, TEMPERATURE, NOISE = 8, 4, 40, 0.8, 0.3
CORRECTION_HIGH = 1.5
AGGREGATIONS = {"grpo": "seq-mean-token-mean", "dapo": "token-mean", "dr_grpo": "seq-sum-constant"}
KINDS = {"on-policy": (False, 0.0), "clipped": (True, 0.0), "clipped + KL": (True, 0.05)}
CASES = {
    f"{loss_type}, {kind}": {
        "loss_type": loss_type,
        "scale_rewards": "none" if loss_type == "dr_grpo" else "group",
        "given_old": given_old,
        "beta": beta,
    }
    for loss_type in AGGREGATIONS
    for kind, (given_old, beta) in KINDS.items()
}


def main(arguments: list[str]) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trl-python", type=Path, default=PYTHON)
    python = checked(parser.parse_args(arguments).trl_python)
    with tempfile.TemporaryDirectory() as folder:
        work = make_work()
        their_loss, theirs = trl_side(python, work, Path(folder))
    print(f"{'':24}{'loss':>14}{'apart':>10}{'gradient apart':>16}  worst parameter, norm")
    for name, case in CASES.items():
        loss, gradients = ours(work, case)
        wanted = {
            key.removeprefix(f"{name}/"): g
            for key, g in theirs.items()
            if key.startswith(name + "/")
        }
        assert gradients.keys() == wanted.keys(), "both sides have the same parameters"
        away = {key: float((gradients[key] - g).norm()) for key, g in wanted.items()}
        norms = {key: float(g.norm()) for key, g in wanted.items()}
        worst = max(away, key=lambda key: away[key] / norms[key])
        loss_apart = abs(loss - their_loss[name]) / abs(their_loss[name])
        print(
            f"{name:24}{loss:14.8f}{loss_apart:10.1e}"
            f"{math.hypot(*away.values()) / math.hypot(*norms.values()):16.1e}"
            f"{away[worst] / norms[worst]:10.1e}  {worst}, "
            f"{norms[worst] / math.hypot(*norms.values()):.1e} of the whole"
        )
    return 0


def make_work() -> dict[str, Any]:
    """The batch, with everything that both sides are given; as JSON."""
    from transformers import AutoModelForCausalLM

    from grpo.inputs import load_inputs

    inputs = load_inputs(load_config("tiny", []), print)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(inputs.model_folder, dtype=torch.float32)
    prompts, responses = [], []
    for prompt in inputs.prompts[:NUM_PROMPTS]:
        ids_GT = model.generate(
            torch.tensor([prompt.token_ids]),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            num_return_sequences=NUM_SAMPLES,
            max_new_tokens=MAX_TOKENS,
        )
        for row in ids_GT[:, len(prompt.token_ids) :].tolist():
            end = row.index(inputs.end_token_ids[0]) + 1 if inputs.end_token_ids[0] in row else None
            prompts.append(prompt.token_ids)
            responses.append(row[:end])
    work: dict[str, Any] = {
        "model": inputs.model_folder,
        "pad_token_id": inputs.pad_token_id,
        "prompts": prompts,
        "responses": responses,
        "num_samples": NUM_SAMPLES,
        "max_tokens": MAX_TOKENS,
        "temperature": TEMPERATURE,
        "correction_high": CORRECTION_HIGH,
        "rewards": torch.rand(len(prompts)).tolist(),
        "behaviour": [[0.0] * len(row) for row in responses],
        "cases": CASES,
    }
    logps = worker(work, AlgorithmConfig()).logprobs(samples_of(work), TEMPERATURE)
    for name in ("behaviour", "old", "reference"):
        work[name] = [(torch.tensor(row) + NOISE * torch.randn(len(row))).tolist() for row in logps]
    return work


def trl_side(
    python: Path, work: dict[str, Any], folder: Path
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """TRL's losses by case, and gradients by "case/parameter"."""
    from safetensors.torch import load_file

    batch, out = folder / "batch.json", folder / "gradients.safetensors"
    batch.write_text(json.dumps(work))
    # Without our rank's variables, which TRL would take for a group to join.
    group = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in group}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), "-m", "benchmarks.trl_side", "losses", str(batch), str(out)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"TRL ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1]), load_file(out)


def ours(work: dict[str, Any], case: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """Our loss and gradients by parameter."""
    algorithm = AlgorithmConfig(
        advantage_std="none" if case["scale_rewards"] == "none" else "sample",
        advantage_eps=1e-4,
        aggregation=AGGREGATIONS[case["loss_type"]],
        kl_coef=case["beta"],
        mismatch={
            "correction": "none" if case["given_old"] else "truncate",
            "high": CORRECTION_HIGH,
        },
    )
    rewards_PG = torch.tensor(work["rewards"], dtype=torch.float64).view(-1, NUM_SAMPLES)
    advantages_PG = ADVANTAGES["grpo"](
        AdvantageInputs(
            rewards_PG=rewards_PG,
            graded_PG=torch.ones_like(rewards_PG, dtype=torch.bool),
            std=algorithm.advantage_std,
            eps=algorithm.advantage_eps,
        )
    )
    rank = worker(work, algorithm)
    settings = StepSettings(
        lr=0.0, temperature=TEMPERATURE, kl_coef=case["beta"], aggregation_constant=MAX_TOKENS
    )
    rank.prepare(samples_of(work), settings)
    if case["given_old"]:
        given = {
            f"{name}_logp": [np.array(row, np.float32) for row in work[name]]
            for name in ("old", "reference")
        }
        rank._prepared = [replace(rank._prepared[0], **given)]
    gradients: dict[str, Tensor] = {}
    take_step = zero.step

    def step_and_look(engine: Any) -> float:
        from deepspeed.utils import safe_get_full_grad

        for name, p in rank.policy.model.named_parameters():
            gradients[name] = safe_get_full_grad(p).clone()
        return take_step(engine)

    zero.step = step_and_look
    loss = rank.optimise(advantages_PG.flatten().tolist(), settings)["loss"]
    zero.step = take_step
    return loss, gradients


def samples_of(work: dict[str, Any]) -> list[TrainSample]:
    """The batch as the learner takes it."""
    rows = zip(work["prompts"], work["responses"], work["behaviour"], strict=True)
    return [TrainSample.from_tokens(*row) for row in rows]


def worker(work: dict[str, Any], algorithm: AlgorithmConfig) -> LearnerWorker:
    """A started rank, whose batch takes several micro-batches."""
    spec = LearnerSpec(
        model_folder=work["model"],
        device="cpu",
        dtype="float32",
        world_size=1,
        pad_token_id=work["pad_token_id"],
        modules=(),
        objective="grpo",
        algorithm=algorithm,
        optimizer=OptimizerConfig(max_grad_norm=1e9),
        learner=LearnerConfig(
            num_ranks=1, tokens_per_microbatch=512, param_persistence_threshold=0
        ),
        transfer_timeout_seconds=60,
    )
    rank = LearnerWorker(spec, 0)
    rank.start("127.0.0.1", 0)
    return rank


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
