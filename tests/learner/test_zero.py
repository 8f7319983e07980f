"""What DeepSpeed is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grpo.common.errors import UserError
from grpo.config import LearnerConfig, load_config
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


def test_what_deepspeed_cannot_do_is_refused_with_its_fix():
    def problems(device, dtype, **learner):
        return "\n".join(LearnerConfig(**learner).problems(device, dtype))

    assert "use learner.zero_stage=3" in problems(
        None, "auto", zero_stage=2, offload_parameters=True
    )
    assert "learner.zero_stage=0 has no state" in problems(
        "cuda", "float32", zero_stage=0, offload_optimizer=True
    )
    assert "use learner.zero_stage=1 or model.dtype=float32" in problems(
        "cuda", "bfloat16", zero_stage=0
    )
    assert "learner.offload_optimizer=true: on CPU" in problems(
        "cpu", "float32", offload_optimizer=True
    )
    assert problems("cuda", "bfloat16", offload_optimizer=True, offload_parameters=True) == ""
    assert problems("cpu", "float32", zero_stage=0) == ""


def test_a_recipe_that_offloads_on_cpu_is_refused_while_it_is_read():
    overrides = ["trainer.device=cpu", "learner.offload_optimizer=true"]
    with pytest.raises(UserError, match=r"learner\.offload_optimizer=true: on CPU"):
        load_config("tiny", overrides)
