"""The shape of a base model from its options, without building it. It stands apart from the
builder, because every change there makes another model of another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grpo.common.recipes import check
from grpo.learner.model_folder import SHAPES
from grpo.miniature.base_model import BaseModelSpec


@SHAPES.register("miniature")
def shape(options: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json of the built folder says of its shape.

    Raises:
        ValueError: options that the spec does not have, or that cannot be.
    """
    spec, problems = check(BaseModelSpec, options)
    if spec is None or problems:
        raise ValueError("; ".join(problems))
    return {
        "model_type": "qwen2",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_heads,
        "tie_word_embeddings": spec.tied_embeddings,
    }
