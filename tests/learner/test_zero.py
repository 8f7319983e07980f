"""What DeepSpeed is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grpo.learner.zero import ZeroSettings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_summed_and_reduced_in_float32_whatever_the_model(dtype):
    settings = ZeroSettings(
        folder=Path("model"),
        dtype=dtype,
        max_grad_norm=1.0,
        param_persistence_threshold=0,
        head_chunk_tokens=8,
        float32_head=True,
        gradient_checkpointing=False,
    )
    config = settings.deepspeed_config()
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert config["communication_data_type"] == "fp32"
    assert config["bf16"]["enabled"] == (dtype is torch.bfloat16)
