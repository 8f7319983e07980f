"""Every published recipe runs in miniature on the real stack: its algorithm, batch rules, rewards."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from grpo.config import RECIPES
from tests.models import SMALL_MODEL

pytestmark = [pytest.mark.stack, pytest.mark.slow]

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
# These differ from one above in numbers alone.
SAME = {
    "deepscaler_1.5b_16k", "deepscaler_1.5b_24k", "dr_grpo_qwen2.5_math_7b",
    "simplerl_zoo_qwen2.5_7b", *(f"fastcurl_1.5b_stage{n}" for n in range(1, 5)),
}  # fmt: skip


def train(name: str, folder) -> tuple[subprocess.CompletedProcess[str], list[dict[str, float]]]:
    command = [
        *(sys.executable, "-m", "grpo.train", "--config-name", name, "+shrink=tiny", *RUNS[name]),
        *("model.base=null", f"model.path={SMALL_MODEL}", f"output_dir={folder}"),
        *("tracking.wandb.mode=disabled", "tracking.plots=false", "tracking.tensorboard=false"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    metrics = folder / "metrics.jsonl"
    rows = (
        [json.loads(line) for line in metrics.read_text().splitlines()]
        if not done.returncode
        else []
    )
    return done, [row for row in rows if "reward_std" in row]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All of them, two at a time: each has one engine and one rank of one thread."""
    folder = tmp_path_factory.mktemp("published")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(RUNS, pool.map(lambda name: train(name, folder / name), RUNS), strict=True))


def test_every_recipe_is_run_or_is_like_one_that_is():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*RUNS, *SAME, "tiny"}


@pytest.mark.parametrize("name", RUNS)
def test_a_published_recipe_takes_two_steps(runs, name):
    done, rows = runs[name]
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["logprob_gap_mean"] < 0.05 for row in rows)
    assert all(row["bad_steps"] == 0 for row in rows)


def test_they_differ_in_what_they_are_published_for(runs):
    first = {name: rows[0] for name, (_, rows) in runs.items()}
    assert "kl" in first["deepscaler_1.5b_8k"]
    assert "kl" not in first["dapo_qwen2.5_32b"]
    assert "dual_clip_share" in first["justrl_1.5b"]
    assert first["gsm8k_qwen2.5_0.5b"]["groups_sampled"] >= 32
    assert first["scalerl"]["groups_trained"] < first["scalerl"]["groups_sampled"]
    assert "effective_share" in first["scalerl"]
