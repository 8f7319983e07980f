"""What `grpo plan` predicts beside what a run needs: memory of every process and seconds of a step.

    python -m benchmarks.plan [--case tiny shrink wide]

Memory is the highest resident set that the kernel has seen of a process (VmHWM). Of several engines
or ranks the largest counts. The plan is told how long prompts and responses of the run were.
Seconds are medians over the steps after the first.

`wide` is the tiny recipe with a random model of 38 million parameters and a reference policy: there
the model is what needs memory, and not the libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from grpo.commands.plan import lengths_of, read
from grpo.planning.hardware import device
from grpo.planning.plan import make_plan
from grpo.planning.shapes import model_shape

MIB = 2**20
QUIET = ["tracking.wandb.mode=disabled", "tracking.plots=false", "trainer.max_steps=3"]
WIDE = [
    "model.base=null",
    "model.path={wide}",
    "batch.num_prompts=16",
    "algorithm.kl_coef=0.001",
    "optimizer.lr=1e-6",
    "evaluation.num_samples=1",
]
CASES: dict[str, tuple[str, list[str]]] = {
    "tiny": ("tiny", []),
    "shrink": ("r1_zero_qwen2.5_7b", ["+shrink=tiny"]),
    "wide": ("tiny", WIDE),
}
# How Ray calls the processes, and how the plan does.
TITLES = {"ray::RolloutWorker": "engine", "ray::LearnerWorker": "learner rank"}


def random_model(folder: Path) -> None:
    """A random Qwen2 of 38 million parameters with the tokenizer of the tiny recipe."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    import grpo.miniature  # noqa: F401  (registers the builder)
    from grpo.learner.model_folder import BUILDERS, cache_dir

    tokenizer = AutoTokenizer.from_pretrained(BUILDERS["miniature"]({}, cache_dir()))
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=320,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def peaks(command: list[str], log: Path) -> dict[str, int]:
    """Run a command; the highest resident set of its processes by their role, in bytes."""
    mark = f"GRPO_BENCHMARK={os.getpid()}.{time.time_ns()}"
    name, _, value = mark.partition("=")
    found: dict[str, int] = {}
    with log.open("w") as output:
        run = subprocess.Popen(
            command, env={**os.environ, name: value}, stdout=output, stderr=subprocess.STDOUT
        )
        while run.poll() is None:
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if mark.encode() not in (process / "environ").read_bytes():
                        continue
                    title = (process / "cmdline").read_text().split("\0")[0].split(".")[0]
                    status = (process / "status").read_text()
                except OSError:  # it has ended
                    continue
                role = "driver" if int(process.name) == run.pid else TITLES.get(title)
                high = re.search(r"VmHWM:\s+(\d+) kB", status)
                if role is not None and high:
                    found[role] = max(found.get(role, 0), int(high[1]) * 1024)
            time.sleep(0.2)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return found


def measure(case: str, folder: Path) -> None:
    """One case: a run, and its plan with the lengths of that run."""
    recipe, changes = CASES[case]
    overrides = [*changes, *QUIET, f"output_dir={folder / case}"]
    overrides = [text.format(wide=folder / "model") for text in overrides]
    if case == "wide":
        random_model(folder / "model")
    command = [sys.executable, "-m", "grpo.train", "--config-name", recipe, *overrides]
    measured = peaks(command, folder / f"{case}.log")
    rows = [json.loads(line) for line in (folder / case / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "seconds/learn" in row]
    rollouts = sorted((folder / case / "rollouts").glob("*.jsonl"))
    response = round(sum(row["response_length"] for row in steps) / len(steps))
    config = read(recipe, overrides, None)
    plan = make_plan(
        config,
        model_shape(config.model),
        device("cpu"),
        lengths_of(config, prompt_tokens(rollouts), response),
    )[0]
    print(f"{case}: {len(steps)} steps, responses of {response} tokens")
    for actor in plan.actors:
        role = actor.role if actor.role in ("engine", "learner rank") else "driver"
        error = actor.expected / measured[role] - 1
        print(
            f"  {actor.role}: predicted {actor.expected / MIB:,.0f} MiB, at the limit "
            f"{actor.total / MIB:,.0f}; measured {measured[role] / MIB:,.0f}; {error:+.0%}"
        )
    for phase, predicted in plan.seconds.items():
        found = median(row[f"seconds/{phase}"] for row in steps[1:])
        print(f"  {phase}: predicted {predicted:.3f} s; measured {found:.3f}")


def prompt_tokens(rollouts: list[Path]) -> int:
    """Mean tokens of a prompt in the recorded samples; 14 where none records its tokens."""
    counts: list[int] = []
    for file in rollouts:
        for line in file.read_text().splitlines():
            row: dict[str, Any] = json.loads(line)
            if "prompt_token_ids" in row:
                counts.append(len(row["prompt_token_ids"]))
    return round(sum(counts) / len(counts)) if counts else 14


def main() -> None:
    """Measure the cases and print a block for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in args.case:
            measure(case, Path(folder))


if __name__ == "__main__":
    main()
