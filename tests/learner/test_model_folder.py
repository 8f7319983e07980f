"""Model folders that cannot be trained are refused before anything starts."""

from __future__ import annotations

import json
import shutil

import pytest

from grpo.common.errors import UserError
from grpo.learner.model_folder import check_weights, end_token_ids, load_tokenizer, pad_token_id


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


def test_a_pad_token_without_an_embedding_is_not_used(folder):
    tokenizer = load_tokenizer(folder)
    assert pad_token_id(folder, tokenizer) == tokenizer.pad_token_id
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = tokenizer.pad_token_id
    (folder / "config.json").write_text(json.dumps(config))
    assert pad_token_id(folder, tokenizer) == tokenizer.eos_token_id


def test_all_end_tokens_of_the_generation_config_end_a_response(folder):
    tokenizer = load_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert end_token_ids(folder, tokenizer) == tuple(sorted({5, 7, tokenizer.eos_token_id}))


def test_a_tokenizer_that_ends_prompts_with_the_end_token_is_refused(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    end = next(t for t in tokenizer["added_tokens"] if t["content"] == "<|endoftext|>")
    special = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [sequence, special],
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            "<|endoftext|>": {
                "id": "<|endoftext|>",
                "ids": [end["id"]],
                "tokens": ["<|endoftext|>"],
            }
        },
    }
    path.write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="ends every prompt with"):
        load_tokenizer(folder)
