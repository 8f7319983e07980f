"""Every published recipe in miniature on the real stack: its algorithm, batch rules and rewards."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grpo.config import RECIPES
from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.published_cases import ADAPTED, ADAPTERS, CHAT, RUNS, SAME

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def runs(folder):
    done = warm.run("tests.stack.published_cases", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_recipe_is_run_or_is_like_one_that_is():
    names = {
        path.stem
        for path in RECIPES.glob("*.yaml")
        if not path.stem.startswith(("sft_", "bilingual_sft_", "r1_pipeline_"))
    }
    assert names == {*RUNS, *SAME, "tiny", "tiny_staged", "bilingual_tiny"}


@pytest.mark.parametrize("name", RUNS)
def test_a_published_recipe_takes_two_steps(runs, name):
    rows = runs[name]
    assert not isinstance(rows, str), rows
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["logprob_gap_mean"] < 0.05 for row in rows)
    assert all(row["bad_steps"] == 0 for row in rows)


def test_they_differ_in_what_they_are_published_for(runs):
    first = {name: rows[0] for name, rows in runs.items()}
    assert "kl" in first["deepscaler_1.5b_8k"]
    assert "kl" not in first["dapo_qwen2.5_32b"]
    assert "dual_clip_share" in first["justrl_1.5b"]
    assert first["gsm8k_qwen2.5_0.5b"]["groups_sampled"] >= 32
    assert first["scalerl"]["groups_trained"] < first["scalerl"]["groups_sampled"]
    assert "effective_share" in first["scalerl"]


def test_a_qwen_of_full_vocabulary_learns_behind_its_own_chat_template(runs, folder):
    rows = runs[CHAT]
    assert not isinstance(rows, str), rows
    assert all(row["grad_norm"] > 0 for row in rows)
    # The second step is sampled from the first update.
    assert [row["weight_version"] for row in rows] == [0, 1]
    assert all(row["logprob_gap_mean"] < 1e-4 for row in rows)
    for line in (folder / CHAT / "rollouts/step_000002.jsonl").read_text().splitlines():
        prompt = json.loads(line)["prompt"]
        assert prompt.startswith("<|im_start|>user\n")
        assert prompt.endswith("\\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
    tokens = np.load(folder / CHAT / "rollouts/step_000002.npz")["token_ids"]
    assert tokens.max() > 100_000  # words of the whole vocabulary were drawn


def test_engines_sample_from_the_merged_adapters_of_the_learner(runs, folder):
    rows = runs[ADAPTERS]
    assert not isinstance(rows, str), rows
    assert all(row["grad_norm"] > 0 for row in rows)
    # The second step is sampled from the first update. Engines without it are 0.15 away, engines
    # with nine tenths of it 0.012.
    assert all(row["logprob_gap_mean"] < 1e-5 for row in rows)
    before = load_file(SMALL_MODEL / "model.safetensors")
    after = load_file(folder / ADAPTERS / "policy/model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        adapted = any(f".{module}.weight" in name for module in ADAPTED)
        assert torch.equal(after[name], weight) == (not adapted), name
    assert (folder / ADAPTERS / "policy/adapter/adapter_model.safetensors").exists()
