"""The shape of a model: what decides its memory and time. Nothing of its weights is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.common.names import hint
from grpo.config.schema import LoraSettings, ModelConfig
from grpo.learner.model_folder import SHAPES


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A dense decoder with grouped-query attention and a gated MLP, as Qwen2 and Llama are."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool  # are embedding and output layer one matrix?
    attention_bias: bool = True  # of q, k and v, as Qwen2 has it

    @property
    def query_width(self) -> int:
        """Elements of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of all keys of a token, and of all values."""
        return self.kv_heads * self.head_dim

    @property
    def matrices(self) -> int:
        """Elements of the matrices of one layer: q, o, k, v, gate, up and down."""
        attention = 2 * self.hidden * self.query_width + 2 * self.hidden * self.kv_width
        return attention + 3 * self.hidden * self.intermediate

    @property
    def layer(self) -> int:
        """Parameters of one layer: its matrices, biases and two norms."""
        bias = self.query_width + 2 * self.kv_width if self.attention_bias else 0
        return self.matrices + bias + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Elements of the embedding, and of the output layer."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a tied matrix counts once."""
        outside = self.embedding * (1 if self.tied else 2) + self.hidden
        return self.layers * self.layer + outside

    def adapters(self, lora: LoraSettings) -> int:
        """Parameters of low-rank adapters: rank x (inputs + outputs) of each matrix."""
        wide = {
            "q_proj": self.hidden + self.query_width,
            "k_proj": self.hidden + self.kv_width,
            "v_proj": self.hidden + self.kv_width,
            "o_proj": self.hidden + self.query_width,
            "gate_proj": self.hidden + self.intermediate,
            "up_proj": self.hidden + self.intermediate,
            "down_proj": self.hidden + self.intermediate,
        }
        return self.layers * lora.rank * sum(wide.get(name, 0) for name in lora.target_modules)


def _qwen(
    layers: int, hidden: int, inter: int, heads: int, kv: int, rows: int, tied: bool
) -> Shape:
    return Shape(
        layers=layers,
        hidden=hidden,
        intermediate=inter,
        heads=heads,
        kv_heads=kv,
        head_dim=hidden // heads,
        vocabulary=rows,
        tied=tied,
    )


# config.json of the models at huggingface.co, for those who plan before they download. The Qwen2.5
# report (arXiv:2412.15115, table 1) has layers and heads, and the model cards the parameters.
PUBLISHED = {
    "Qwen2.5-0.5B": _qwen(24, 896, 4864, 14, 2, 151_936, True),
    "Qwen2.5-1.5B": _qwen(28, 1536, 8960, 12, 2, 151_936, True),
    "Qwen2.5-3B": _qwen(36, 2048, 11_008, 16, 2, 151_936, True),
    "Qwen2.5-7B": _qwen(28, 3584, 18_944, 28, 4, 152_064, False),
    "Qwen2.5-14B": _qwen(48, 5120, 13_824, 40, 8, 152_064, False),
    "Qwen2.5-32B": _qwen(64, 5120, 27_648, 40, 8, 152_064, False),
    "Qwen2.5-Math-1.5B": _qwen(28, 1536, 8960, 12, 2, 151_936, True),
    "Qwen2.5-Math-7B": _qwen(28, 3584, 18_944, 28, 4, 152_064, False),
    "DeepSeek-R1-Distill-Qwen-1.5B": _qwen(28, 1536, 8960, 12, 2, 151_936, False),
    "DeepSeek-R1-Distill-Qwen-7B": _qwen(28, 3584, 18_944, 28, 4, 152_064, False),
}


def model_shape(model: ModelConfig) -> Shape:
    """The shape of a recipe's model: from config.json where its folder is there, otherwise from
    `PUBLISHED` by the end of `model.path`; of a base model from its options.

    Raises:
        UserError: neither a folder nor a known name, or options that cannot be.
    """
    if model.base is not None:
        try:
            return from_config(SHAPES[model.base](model.base_options), f"model.base={model.base}")
        except ValueError as error:
            raise UserError(f"model.base={model.base}: {error}") from None
    assert model.path is not None
    file = Path(model.path).expanduser() / "config.json"
    if file.is_file():
        try:
            return from_config(json.loads(file.read_text(encoding="utf-8")), str(file))
        except ValueError as error:
            raise UserError(f"{file}: is no JSON ({error}); download it again") from None
    name = Path(model.path).name.lower().removesuffix("-instruct")
    known = {published.lower(): shape for published, shape in PUBLISHED.items()}
    if name not in known:
        raise UserError(
            f"model.path={model.path}: no such folder, and no shape is known by this name; "
            f"{hint(Path(model.path).name, PUBLISHED)} A folder with a config.json will do as well"
        )
    return known[name]


def from_config(config: Mapping[str, Any], where: str) -> Shape:
    """The shape that a config.json describes.

    Raises:
        UserError: a key is missing.
    """
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
            attention_bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
        )
    except KeyError as error:
        raise UserError(f"{where}: has no {error.args[0]}; it is no dense decoder") from None
