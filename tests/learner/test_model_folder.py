"""Model folders that cannot be trained are refused before anything starts."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from grpo.common.errors import UserError
from grpo.learner.model_folder import (
    MODEL_TYPES,
    check_model,
    check_weights,
    end_token_ids,
    load_tokenizer,
    pad_token_id,
)
from grpo.learner.policy import Policy


@pytest.fixture
def folder(small_model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(small_model, copy)
    return copy


def test_a_pointer_of_git_lfs_is_named(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\nsize 9\n"
    )
    with pytest.raises(UserError, match=r"model\.safetensors: is a pointer of Git LFS"):
        check_weights(folder)


def test_weights_that_are_cut_off_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        check_weights(folder)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_shard_that_the_index_names_and_that_is_not_there_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:3]}, folder / first)
    index = {name: first if name in names[:3] else second for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(UserError, match=rf"{second}: is not there"):
        check_weights(folder)
    save_file({name: weights[name] for name in names[3:]}, folder / second)
    assert set(check_weights(folder)) == set(names)


@pytest.mark.parametrize("content", ["", "version https://git-lfs.github.com/spec/v1\nsize 9\n"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_of_a_model_that_was_not_downloaded_is_named(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=name):
        check_weights(folder)
        load_tokenizer(folder)
        check_model(folder)


def test_a_weight_that_is_missing_is_not_drawn_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"1 of \d+ weights .*model\.layers\.1\.mlp\.up_proj"):
        check_model(folder)


def test_weights_of_another_size_than_the_configuration_says_are_refused(folder):
    edit(folder / "config.json", intermediate_size=96)
    with pytest.raises(UserError, match=r"has the shape \[.*128.*config\.json says \[.*96"):
        check_model(folder)


def test_quantised_weights_are_refused(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UserError, match="its weights are quantised"):
        check_model(folder)


def tiny(kind, **settings):
    """A random model of a type, two layers of width 16."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 32, "head_dim": 8}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes | settings))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            "qwen3_moe",
            {"num_experts": 4, "moe_intermediate_size": 8},
            "model_type=qwen3_moe with num_(local_)?experts=4 is a mixture of experts",
        ),
        (
            "mixtral",
            {"num_local_experts": 4},
            "model_type=mixtral with num_local_experts=4 is a mixture of experts",
        ),
        ("gpt_neox", {}, "model_type=gpt_neox is not supported"),
    ],
)
def test_models_that_nobody_compared_with_their_engine_are_refused(
    tmp_path, kind, settings, message
):
    tiny(kind, **settings).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{message}.*supported are dense.*llama.*qwen3"):
        check_model(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_the_policy_has_the_log_probs_of_each_supported_model(tmp_path, kind, tied):
    model = tiny(kind, tie_word_embeddings=tied).eval()
    model.save_pretrained(tmp_path)
    assert check_model(tmp_path) >= 2048  # all names and shapes are those that were saved
    ids_BT = torch.randint(0, 320, (2, 9))
    targets_N = torch.randint(0, 320, (18,))
    with torch.no_grad():
        logits = model(input_ids=ids_BT).logits.flatten(0, 1)
        wanted_N = logits.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]
        logp_N, _ = Policy(model, 5)(ids_BT, torch.ones(2, 9, dtype=torch.bool), targets_N, 1.0)
    torch.testing.assert_close(logp_N, wanted_N, rtol=1e-4, atol=1e-4)


def test_code_that_comes_with_a_model_is_not_run(folder):
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match="model_type=mine is not supported"):
        check_model(folder)


def test_a_pad_token_without_an_embedding_is_not_used(folder):
    tokenizer = load_tokenizer(folder)
    assert pad_token_id(folder, tokenizer) == tokenizer.pad_token_id
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = tokenizer.pad_token_id
    (folder / "config.json").write_text(json.dumps(config))
    assert pad_token_id(folder, tokenizer) == tokenizer.eos_token_id
    edit(folder / "config.json", vocab_size=tokenizer.eos_token_id)
    assert pad_token_id(folder, tokenizer) == 0


def test_end_tokens_without_an_embedding_end_nothing(folder):
    tokenizer = load_tokenizer(folder)
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", vocab_size=tokenizer.eos_token_id, eos_token_id=[9, 999])
    assert end_token_ids(folder, tokenizer) == (9,)
    edit(folder / "config.json", eos_token_id=None)
    with pytest.raises(UserError, match=r"none of its end tokens .* has an embedding"):
        end_token_ids(folder, tokenizer)


def test_all_end_tokens_of_both_configurations_end_a_response(folder):
    tokenizer = load_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    edit(folder / "config.json", eos_token_id=[8])
    assert end_token_ids(folder, tokenizer) == tuple(sorted({5, 7, 8, tokenizer.eos_token_id}))


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|pad|>"])
def test_a_tokenizer_that_puts_a_token_behind_prompts_is_refused(folder, token):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    end = next(t for t in tokenizer["added_tokens"] if t["content"] == token)
    special = {"SpecialToken": {"id": token, "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [sequence, special],
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            token: {"id": token, "ids": [end["id"]], "tokens": [token]},
        },
    }
    path.write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="ends every prompt with"):
        load_tokenizer(folder)
