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
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def steps(work: dict[str, Any], choice: dict[str, Any]) -> None:
    """Train for ever, each step when it is asked for. Says the seconds and the sampled tokens.

    One update a step, on-policy, so TRL needs no second forward pass for old log-probs. What TRL
    does by default and does not need here is off: gradient checkpointing, logs, checkpoints.
    """
    torch.set_num_threads(choice["threads"])
    rows = choice["rows"]  # of a micro-batch
    accumulation = len(work["prompts"]) * work["num_samples"] // (rows * choice["processes"])
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
            print(json.dumps([time.perf_counter() - self.start, tokens]), flush=True)

    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32),
        reward,
        args=GRPOConfig(
            **_plain(),
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulation,
            num_generations=work["num_samples"],
            max_completion_length=work["max_tokens"],
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


def _plain() -> dict[str, Any]:
    """Settings of both kinds of work."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "shuffle_dataset": False,
        "temperature": 1.0,
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
    steps(json.loads(Path(sys.argv[2]).read_text()), json.loads(sys.argv[3]))
