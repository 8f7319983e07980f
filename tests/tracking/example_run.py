"""A short run with everything in it: `python -m tests.tracking.example_run DIR ARGUMENT`.

Its config, environment, command line, summary and texts hold made-up secrets, which no file may
show.
"""

import os
import sys
from pathlib import Path
from typing import Any

from grpo.config.schema import TrackingConfig, WandbConfig
from grpo.tracking import open_run

STEPS = 4
GIT_HASH = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"
NASTY = "<think>\x1b]0;pwned\x07[bold red]1\u20282\x85\r\n\x00\ud800</think>\n<answer>7</answer>"

# Not one is real. Each is caught by another rule: name of the key, look of the value, held by the
# process.
CANARIES = {
    "plain_password": "correct-horse-battery-canary",
    "hf_value": "hf_CanaryCanaryCanaryCanaryCanary",
    "wandb_value": "ca7a4c0de" * 4 + "ca7a",
    "environment": "environment-canary-0815-4711",
    "command_line": "canary-on-the-command-line-42",
    "url": "canary-in-address",
}


def evaluation(progress: float) -> dict[str, float]:
    return {
        "accuracy": 0.4 + 0.5 * progress,
        "format": 0.7 + 0.25 * progress,
        "response_length": 22 + 12 * progress,
    }


def training(step: int) -> dict[str, float | int | str | None]:
    """Keys out of order on purpose; the loss of step 2 is NaN."""
    progress = step / STEPS
    return {
        "lr": 1.5e-4,
        "accuracy": 0.4 + 0.5 * progress,
        "reward": 0.5 + 0.5 * progress,
        "step": step,
        "reward/accuracy": 0.4 + 0.5 * progress,
        "format": 0.7 + 0.25 * progress,
        "response_length": 22 + 12 * progress,
        "loss": float("nan") if step == 2 else 0.01 * step,
        "kl": None,
        "stage": "8k",
        "tokens_per_second": 3400.0,
        "weight_version": step - 1,
    }


def config() -> dict[str, Any]:
    return {
        "model": {
            "path": "somewhere",
            "hf_token": CANARIES["plain_password"],
            "revision": GIT_HASH,
        },
        "hub": {"note": f"use {CANARIES['hf_value']} for the hub"},
        "mirror": f"https://user:{CANARIES['url']}@example.org/simple",
        "tracking": {"key_of_wandb": CANARIES["wandb_value"]},
        "anything": ["a", CANARIES["environment"]],
        "overrides": [f"hub.token={CANARIES['command_line']}"],
        "sampling": {"max_tokens": 64, "stop_token": "</answer>"},
        "output": Path("runs"),
    }


def main(output_dir: Path) -> None:
    settings = TrackingConfig(wandb=WandbConfig(mode="offline", group="examples", tags=["test"]))
    rows = [
        {"prompt": "1+2*3=", "response": NASTY, "accuracy": 1.0, "reasons": {"format": "ok"}}
    ] * 3
    with open_run(output_dir, config(), settings, "tiny", STEPS, GIT_HASH) as run:
        for module in ("torch", "wandb", "tensorboard", "matplotlib", "rich"):
            assert module not in sys.modules, f"{module} was loaded before it was needed"
        for percent in range(0, 101, 10):
            run.status(f"evaluating 1024 problems {percent}%")
        run.log_evaluation(0, "sampled", evaluation(0), rows)
        run.log_evaluation(0, "greedy", evaluation(0.1), rows)
        for step in range(1, STEPS + 1):
            run.log_step(training(step))
            run.log_rollouts(step, rows)
        run.log_evaluation(STEPS, "sampled", evaluation(1), rows)
        run.notice(f"text of a model: {NASTY}")
        run.close(
            {
                "base": {
                    "sampled": {**evaluation(0), "worked_share": 0.3},
                    "greedy": evaluation(0.1),
                },
                "final": {
                    "sampled": {**evaluation(1), "worked_share": 0.9},
                    "greedy": evaluation(1),
                },
                "wall_seconds": 301.5,
                "steps": STEPS,
                "generated_tokens": 1_234_567,
                "versions": {"torch": "2.13.0"},
                "weights_sha256": "ab" * 32,
                "verdict": "learned",
                "secret_note": CANARIES["plain_password"],
            }
        )


if __name__ == "__main__":
    assert os.environ["SOME_SERVICE_TOKEN"] == CANARIES["environment"]
    main(Path(sys.argv[1]))
