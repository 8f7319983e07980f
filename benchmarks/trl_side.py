"""TRL's side of benchmarks.vs_trl and benchmarks.numerics. Runs in TRL's environment, without grpo.

python -m benchmarks.trl_side steps WORK CHOICE     a step of training for every line "go"
python -m benchmarks.trl_side losses BATCH OUT      losses and gradients of a given batch
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def steps(work: dict[str, Any], choice: dict[str, Any]) -> None:
    """Train for ever, each step when it is asked for. Says the seconds and the sampled tokens.

    One update a step, on-policy, so TRL needs no second forward pass for old log-probs. What TRL
    does by default and does not need here is off: gradient checkpointing, logs, checkpoints.
    """
    torch.set_num_threads(choice["threads"])
    share = len(work["prompts"]) * work["num_samples"] // choice["processes"]
    rows = min(choice["rows"], share)  # of a micro-batch
    tokens = 0

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        nonlocal tokens
        tokens = sum(map(len, completion_ids))  # up to and including EOS
        return [float(len(text) % 2) for text in completions]

    class OnDemand(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if sys.stdin.readline().strip() != "go":
                os._exit(0)  # in the midst of training, which has nothing to save
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds = time.perf_counter() - self.start
            print(json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)

    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32),
        reward,
        args=GRPOConfig(
            **_settings(work),
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=share // rows,
            loss_type="dr_grpo",
            learning_rate=1e-30,  # the lengths must not change
            max_steps=1_000_000,
            cache_implementation=choice.get("cache"),
            use_transformers_continuous_batching=choice.get("continuous", False),
            **({"ddp_backend": "gloo"} if choice["processes"] > 1 else {}),
            ddp_find_unused_parameters=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": work["prompts"]}),
        processing_class=AutoTokenizer.from_pretrained(work["model"]),
        callbacks=[OnDemand()],
    )
    trainer.train()


def losses(work: dict[str, Any]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Loss and gradients of every case, by TRL's own code from rewards to backward.

    What was generated and the engine's log-probs are given. In cases with `given_old`, so are the
    old and the reference log-probs, as they would be in a later update.

    Returns:
        losses by case, and gradients by "case/parameter".
    """
    responses, count = work["responses"], len(work["responses"])
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    trainer = GRPOTrainer(
        model,
        lambda **_: work["rewards"],
        args=GRPOConfig(
            **_settings(work),
            per_device_train_batch_size=count,
            vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_max=work["correction_high"],
            use_bias_correction_kl=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
        processing_class=AutoTokenizer.from_pretrained(work["model"]),
    )
    sampled = (work["prompts"], responses, None, [""] * count, work["behaviour"], {}, None, None)
    trainer._generate = lambda _: sampled
    trainer.current_gradient_accumulation_steps = 1
    model.train()

    def padded(rows: list[list[float]]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True)

    found, gradients = {}, {}
    for name, case in work["cases"].items():
        trainer.loss_type = case["loss_type"]
        trainer.scale_rewards = case["scale_rewards"]
        trainer.use_vllm = not case["given_old"]
        trainer.beta = 0.0  # the reference log-probs are given, so no reference model is there
        batch = trainer._generate_and_score_completions([{"prompt": "a"} for _ in range(count)])
        if case["given_old"]:
            batch["old_per_token_logps"] = padded(work["old"])
            batch["ref_per_token_logps"] = padded(work["reference"])
        trainer.beta = case["beta"]
        model.zero_grad()
        loss = trainer._compute_loss(model, batch)
        loss.backward()
        found[name] = loss.item()
        for parameter, p in model.named_parameters():
            gradients[f"{name}/{parameter}"] = p.grad.clone()
    return found, gradients


def _settings(work: dict[str, Any]) -> dict[str, Any]:
    """Settings of both kinds of work."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "shuffle_dataset": False,
        "temperature": work["temperature"],
        "num_generations": work["num_samples"],
        "max_completion_length": work["max_tokens"],
        "beta": 0.0,
        "generation_kwargs": {"use_cache": True},
        "lr_scheduler_type": "constant",
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "steps":
        steps(given, json.loads(sys.argv[3]))
    else:
        by_case, by_parameter = losses(given)
        save_file(by_parameter, sys.argv[3])
        print(json.dumps(by_case))
