"""A copy of a model whose responses have lengths that do not depend on what it has learned, for
measurements.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def write_model(base: Path, folder: Path, end_probability: float, limit: int) -> None:
    """A copy of the base model that ends a response after any token with this probability."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    model.config.max_position_embeddings = limit + 64
    model.config.use_cache = model.generation_config.use_cache = True  # of TRL's generation
    embedding = model.get_input_embeddings().weight
    words = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    logit_V = torch.full((len(embedding),), -100.0)
    logit_V[words] = 0.0
    if end_probability:
        odds = end_probability / (1 - end_probability)
        logit_V[tokenizer.eos_token_id] = math.log(len(words) * odds)
    with torch.no_grad():
        head = embedding.clone()
        # So much larger than the others that after the last norm it is sqrt(width) and they are 0.
        embedding[:, 0] = 1e6
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0  # nothing is added to it
            layer.mlp.down_proj.weight[0] = 0.0
        model.model.norm.weight[0] = 1.0
        head[:, 0] = logit_V / math.sqrt(head.shape[1])
    model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
