"""Runs every published recipe in miniature and prints what came of each as JSON.

Each run is a fork of this process, which is one of the warm process: the imports are made once.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path

from tests.models import SMALL_MODEL
from tests.stack.warm import MODULES

# What a recipe needs besides `+shrink=tiny`. The small model answers in tags and never in a box.
ANY_ANSWER = ("rewards.components.accuracy.source=any",)
RUNS: dict[str, tuple[str, ...]] = {
    "r1_zero_qwen2.5_7b": (),
    "deepscaler_1.5b_8k": ANY_ANSWER,
    "fastcurl_1.5b_stage5": ANY_ANSWER,
    "dapo_qwen2.5_32b": (
        "batch.prompts_per_draw=32",
        "batch.max_refills=1",
        "rewards.components.soft_overlong.cache_tokens=10",
    ),
    "dr_grpo_qwen2.5_math_1.5b": (),
    "simplerl_zoo_qwen2.5_0.5b": (),
    "orz_qwen2.5_7b_grpo": ANY_ANSWER,
    "tinyzero_countdown_3b": ("problems=countdown", "data.train.num_problems=64"),
    "justrl_1.5b": ANY_ANSWER,
    "scalerl": (*ANY_ANSWER, "model.dtype=bfloat16"),
    "gsm8k_qwen2.5_0.5b": ("batch.prompts_per_draw=32", "batch.max_refills=1"),
}
# A run of a recipe with adapters on some matrices, at a rate that moves them far in one step.
ADAPTED = ("q_proj", "down_proj")
ADAPTERS = "dr_grpo_qwen2.5_math_1.5b with adapters"
RUNS_WITH_ADAPTERS = {
    ADAPTERS: (
        f"learner.lora={{rank: 4, alpha: 8, target_modules: [{', '.join(ADAPTED)}]}}",
        "optimizer={lr: 3.0e-2, schedule: constant}",
    )
}
# The recipe with its own chat template, which `+shrink=tiny` replaces, on a model of Qwen2.5's
# vocabulary: 151,936 rows, of which the last have no token. A random model answers nothing right, so
# what it learns is entropy.
CHAT = "gsm8k_qwen2.5_0.5b with its chat template"
RUNS_WITH_CHAT = {
    CHAT: (
        *("data.template=chat:deepscaler_boxed", "algorithm.entropy_coef=0.01"),
        *(
            "optimizer={lr: 3.0e-2, schedule: constant}",
            "batch.num_prompts=2",
            "batch.zero_variance=keep",
            "batch.prompts_per_draw=null",
        ),
        *(
            "batch.max_refills=10",
            "sampling.max_response_tokens=16",
            "data.held_out.num_problems=2",
        ),
    )
}
# As the tokenizers of Qwen2.5 have it, for messages without tools.
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# These differ from one above in numbers alone, or in stages, which `+shrink=tiny` takes out.
SAME = {
    "deepscaler_1.5b", "deepscaler_1.5b_16k", "deepscaler_1.5b_24k", "fastcurl_1.5b", "dr_grpo_qwen2.5_math_7b",
    "simplerl_zoo_qwen2.5_7b", *(f"fastcurl_1.5b_stage{n}" for n in range(1, 5)),
}  # fmt: skip


def train(name: str, folder: Path) -> list[dict[str, float]]:
    """Two steps; the rows of the record."""
    from grpo.config import load_config
    from grpo.run import run_training

    overrides = [
        *(
            "+shrink=tiny",
            *{**RUNS, **RUNS_WITH_ADAPTERS}.get(name, ()),
            "model.base=null",
            f"model.path={wide_qwen(folder) if name == CHAT else SMALL_MODEL}",
        ),
        *("tracking.wandb.mode=disabled", "tracking.plots=false", "tracking.tensorboard=false"),
        *(f"output_dir={folder}", "rollout.kv_cache_gib=0.25"),
        "data.held_out.num_problems=16",  # evaluating 1024 twice took longer than all the rest
        *RUNS_WITH_CHAT.get(name, ()),
    ]
    recipe = name.split()[0]
    run_training(recipe, load_config(recipe, overrides))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward_std" in row]


def wide_qwen(folder: Path) -> Path:
    """A random Qwen2 of that vocabulary, tied as the 0.5B is, and a tokenizer with the template."""
    from transformers import AutoTokenizer

    from tests.families import tiny_model

    place = folder.with_name("wide_qwen")
    tiny_model(place, "qwen2", tied=True, vocab_size=151_936, max_position_embeddings=1024)
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.chat_template = QWEN_TEMPLATE
    tokenizer.save_pretrained(place)
    return place


def attempt(name: str, folder: Path) -> list[dict[str, float]] | str:
    """The rows of a run, or why there are none."""
    try:
        return train(name, folder / name)
    except Exception as error:  # told by the test that looks at this recipe
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Every recipe, or those that are named; two at a time, as each has one engine and one rank."""
    folder, *names = sys.argv[1:]
    os.environ["DS_ACCELERATOR"] = "cpu"
    for module in MODULES:  # of the warm process already, unless this file is run by hand
        importlib.import_module(module)
    names = names or [*RUNS, *RUNS_WITH_ADAPTERS, *RUNS_WITH_CHAT]
    with get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        found = pool.starmap(attempt, [(name, Path(folder)) for name in names], chunksize=1)
    print(json.dumps(dict(zip(names, found, strict=True))))


if __name__ == "__main__":
    main()
