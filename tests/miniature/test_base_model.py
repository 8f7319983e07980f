"""The base model's folder: what it holds, that it is cached, and that it depends on its
spec alone.
"""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from grpo.miniature import base_model
from grpo.miniature.arithmetic import (
    TEMPLATE,
    Expression,
    bare_response,
    untagged_response,
    worked_response,
)
from grpo.miniature.base_model import EOS, TAGS, BaseModelSpec, build_base_model, cache_key
from grpo.miniature.muon import Muon, orthogonalize

TINY = BaseModelSpec(
    num_layers=1,
    hidden_size=32,
    num_heads=1,
    intermediate_size=32,
    num_steps=3,
    documents_per_step=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_base_model(TINY, tmp_path_factory.mktemp("cache"))


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_folder_loads_as_qwen2_with_its_tokenizer(folder):
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert isinstance(model, Qwen2ForCausalLM)
    assert model.dtype == torch.float32
    assert model.config.tie_word_embeddings is TINY.tied_embeddings
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens([tokenizer.eos_token_id]) == [EOS]
    assert len(tokenizer) <= model.config.vocab_size == TINY.vocab_size


def test_tags_and_digits_are_ordinary_tokens_of_their_own(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    response = worked_response(Expression((7, 3, 4), ("+", "*")))
    ids = tokenizer(response)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[:6] == ["<think>", "Ċ", "3", "*", "4", "="]
    assert len(ids) == len(TAGS) + len("\n3*4=12\n7+12=19\n19")
    assert tokenizer.decode(ids, skip_special_tokens=True) == response


@pytest.mark.parametrize("respond", [worked_response, bare_response, untagged_response])
def test_prompt_and_response_are_cut_alike_together_and_apart(folder, respond):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expression = Expression((7, 3, 4), ("+", "*"))
    prompt, response = TEMPLATE.render(expression.text), respond(expression)
    together = tokenizer(prompt + response)["input_ids"]
    assert together == tokenizer(prompt)["input_ids"] + tokenizer(response)["input_ids"]


def test_a_built_model_is_reused(folder, monkeypatch):
    monkeypatch.setattr(base_model, "pretrain", lambda *_: pytest.fail("trained again"))
    assert build_base_model(TINY, folder.parent) == folder


def test_equal_specs_give_equal_weights(folder, tmp_path):
    again = weights(build_base_model(TINY, tmp_path))
    assert all(torch.equal(value, again[name]) for name, value in weights(folder).items())


def test_another_seed_is_another_model(folder):
    assert cache_key(TINY) == folder.name.removeprefix("base-")
    assert cache_key(TINY.model_copy(update={"seed": 1})) != cache_key(TINY)


def test_a_failed_training_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "pretrain", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_base_model(TINY, tmp_path)
    assert not list(tmp_path.iterdir())


def test_slices_do_not_change_the_gradient(folder):
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    documents = next(base_model._batches(TINY, tokenizer))
    gradients = []
    for num_slices in (1, 3):
        base_model._set_gradients(model, documents, num_slices)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_heads_that_vllm_cannot_serve_are_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        BaseModelSpec(hidden_size=128, num_heads=8)


def test_orthogonalize_brings_singular_values_near_one():
    matrices = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_muon_moves_every_direction_of_a_matrix_equally():
    matrix = torch.nn.Parameter(torch.zeros(2, 2))
    matrix.grad = torch.diag(torch.tensor([1.0, 100.0]))
    Muon([matrix], lr=0.1).step()
    # both steps are lr times a factor near 1, although one gradient is 100 times the other
    assert -0.13 < matrix[0, 0].item() < 0
    assert -0.13 < matrix[1, 1].item() < -0.06
