"""A Hugging Face causal language model that answers with log-probs of given tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from grpo.learner.head import LogProbHead


class Policy(nn.Module):
    """Backbone and chunked output layer of a causal language model.

    The Hugging Face model stays whole inside (`self.model`), so its parameter names are the names
    of a checkpoint.
    """

    def __init__(
        self, model: PreTrainedModel, head_chunk_tokens: int, float32_head: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        model.set_output_embeddings(
            LogProbHead(model.get_output_embeddings().weight, head_chunk_tokens, float32_head)
        )

    @property
    def tied_names(self) -> dict[str, str]:
        """Weights of a checkpoint that are the same parameter as another one."""
        if not self.tied:
            return {}
        embedding = self.model.get_input_embeddings().weight
        names = [name for name, p in self.model.named_parameters() if p is embedding]
        return {"lm_head.weight": names[0]}

    def forward(
        self, input_ids_BT: Tensor, predicts_BT: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies, [N] each, of the tokens that follow the positions marked in
        `predicts_BT`.
        """
        hidden_BTD = self.model.get_decoder()(
            input_ids=input_ids_BT, use_cache=False
        ).last_hidden_state
        head = self.model.get_output_embeddings()
        logp_N, entropy_N = head(hidden_BTD[predicts_BT], targets_N, temperature)
        return logp_N, entropy_N


def load_model(folder: Path, dtype: torch.dtype, gradient_checkpointing: bool) -> PreTrainedModel:
    """The model of a Hugging Face folder, for training; under an `HfDeepSpeedConfig` it is born
    partitioned.

    It is in training mode, without which Hugging Face models do not checkpoint, and all its dropout
        is 0: the
    log-probs of the learner must be those of the engine.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif getattr(module, "attention_dropout", 0.0):
            module.attention_dropout = 0.0
    return model
