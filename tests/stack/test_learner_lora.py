"""Adapters: what is trained, what engines and exports get, and what the reference is."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.models import SMALL_MODEL
from tests.stack.learner_cases import batch
from tests.stack.lora_cases import LORA
from tests.stack.test_learner_invariance import run_ranks
from tests.stack.test_learner_step import token_logp

pytest.importorskip("peft")
pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    run_ranks(2, folder, module="tests.stack.lora_cases")
    return folder


@pytest.fixture(params=[1, 3])
def stage(request):
    return request.param


@pytest.fixture
def found(folder, stage):
    return json.loads((folder / f"{stage}.json").read_text())


def logprobs(model):
    with torch.no_grad():
        return [token_logp(model, sample).tolist() for sample in batch()[0]]


def distance(first, second):
    return max(
        abs(a - b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_new_adapters_change_nothing_and_trained_ones_do(found):
    base = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    assert distance(found["before"], logprobs(base)) < 1e-4
    assert distance(found["after"], found["before"]) > 0.1


def test_the_reference_is_the_policy_without_adapters(found):
    """KL is 0 at the first step, and then the way from the base, summed over tokens."""
    first, *_, last = found["stats"]
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert last["kl"] > 1e-4
    for kl, after, before in zip(found["kl"], found["after"], found["before"], strict=True):
        assert kl == pytest.approx(sum(after) - sum(before), rel=1e-3, abs=1e-3)


def test_engines_get_the_merged_matrices_and_the_others_as_they_were(found, folder, stage):
    weights = load_file(folder / f"{stage}.safetensors")
    base = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32).state_dict()
    assert weights.keys() == base.keys()
    for name, weight in base.items():
        adapted = any(f".{module}.weight" in name for module in LORA["target_modules"])
        assert torch.equal(weights[name], weight) == (not adapted), name
        if adapted:
            assert torch.linalg.matrix_rank(weights[name] - weight, rtol=1e-3) == LORA["rank"]


def test_only_adapters_are_trained_and_they_are_partitioned(found, stage):
    layers = 2
    assert found["trained"] == layers * len(LORA["target_modules"]) * 2  # A and B
    if stage == 3:
        assert found["report"]["whole"] == 0


def test_the_export_and_the_adapter_folder_are_the_policy(found, folder, stage):
    from peft import PeftModel

    merged = AutoModelForCausalLM.from_pretrained(folder / str(stage), dtype=torch.float32)
    assert distance(logprobs(merged), found["after"]) < 1e-4
    base = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, folder / str(stage) / "adapter")
    assert distance(logprobs(adapted), found["after"]) < 1e-4
