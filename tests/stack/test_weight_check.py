"""What an engine computes with is proven to be what the learner holds: one bit is seen and named."""

from __future__ import annotations

import json

import pytest

from benchmarks.logprob_gap import untie
from tests.models import SMALL_MODEL
from tests.stack import warm

pytestmark = pytest.mark.stack


def cases(folder, *overrides):
    done = warm.run("tests.stack.weight_cases", folder, *overrides)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["tied", "untied in bfloat16"])
def found(request, tmp_path_factory):
    if request.param == "tied":
        return cases(SMALL_MODEL)
    return cases(untie(SMALL_MODEL, tmp_path_factory.mktemp("untied")), "model.dtype=bfloat16")


def test_equal_weights_pass_whole_and_without_exception(found):
    assert found["sound"] == [[], []]


@pytest.mark.parametrize(
    ("case", "tensor", "where", "version"),
    [
        ("norm", "model.layers.1.input_layernorm.weight", "model.layers.1.input_layernorm", 2),
        ("bias", "model.layers.0.self_attn.k_proj.bias", "self_attn.qkv_proj.bias", 3),
        ("fused", "model.layers.1.mlp.up_proj.weight", "mlp.gate_up_proj.weight as repacked", 5),
        ("swapped", "model.layers.1.self_attn.o_proj.weight", "o_proj.weight as repacked", 6),
        ("head", "lm_head.weight", "lm_head.weight as repacked", 7),
    ],
)
def test_one_damaged_tensor_of_an_engine_is_named(found, case, tensor, where, version):
    differing, unproven = found[case]
    assert unproven == []
    (text,) = [line for line in differing if line.startswith(tensor)]
    assert len(differing) == 1
    assert f"at version {version} in engine 0" in text
    assert where in text


def test_an_embedding_is_read_where_tokens_are_looked_up(found):
    differing, _ = found["embedding"]
    assert any(text.startswith("model.embed_tokens.weight at version 4") for text in differing)


def test_the_next_hand_over_mends_an_engine_and_is_proven(found):
    assert found["mended"] == [[], []]


def test_without_a_check_nothing_is_reported(found):
    assert found["pushed without"] is True


@pytest.fixture(scope="module")
def parallel():
    environment = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": "grpo_weight_transfer",
        "HF_HUB_OFFLINE": "1",
    }
    done = warm.run("tests.stack.parallel_cases", SMALL_MODEL, **environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[-1])


def test_shards_of_a_tensor_parallel_engine_add_up_to_the_file(parallel):
    assert parallel["sound"] == [[], [], 2]


def test_another_value_in_a_sharded_tensor_is_seen(parallel):
    (text,) = parallel["sharded"]
    assert text.startswith("model.layers.0.self_attn.k_proj.weight at version 2 in engine 0")


def test_a_worker_whose_copy_differs_is_named(parallel):
    assert parallel["replicated"] == [
        "model.norm.weight at version 3 in engine 0 worker 1, model.norm.weight"
    ]
