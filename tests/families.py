"""Tiny models with random weights, one of each architecture that the learner is tested with."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.models import SMALL_MODEL

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # not hidden_size / heads, so that a wrong guess of it fails
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 267,
    "pad_token_id": 268,
    "initializer_range": 0.2,  # far from uniform distributions, where all faults look small
}
# What is special about each. Windows are shorter than the texts of the tests.
FAMILIES = {
    "qwen2": {"num_attention_heads": 2, "num_key_value_heads": 1},  # its heads share the width
    "qwen3": {},
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    "gemma3_text": {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 32,
    },
    "mistral": {"sliding_window": 16},
}


def tiny_model(
    folder: Path, family: str, *, tied: bool, dtype: torch.dtype = torch.float32, **changes
) -> PreTrainedModel:
    """A random model in `folder`, with the tokenizer of `small_model`."""
    settings = {**SHAPE, **FAMILIES.get(family, {}), "tie_word_embeddings": tied, **changes}
    config = AutoConfig.for_model(family, **settings)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():  # norms and biases start as ones and zeros, which hide their omission
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.2)
    model.save_pretrained(folder)
    for file in SMALL_MODEL.glob("tokenizer*"):
        shutil.copy(file, folder)
    return model.eval()
