"""What DeepSpeed is told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from grpo.learner.zero import ZeroSettings, largest_weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_summed_and_reduced_in_float32_whatever_the_model(dtype):
    settings = ZeroSettings(
        folder=Path("model"),
        dtype=dtype,
        max_grad_norm=1.0,
        param_persistence_threshold=0,
        head_chunk_tokens=8,
        gradient_checkpointing=False,
    )
    config = settings.deepspeed_config()
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert config["communication_data_type"] == "fp32"
    assert config["bf16"]["enabled"] == (dtype is torch.bfloat16)


def partitioned(parts: list[list[float]], size: int) -> list[torch.nn.Module]:
    """One module for each rank, with one parameter of `size` elements as ZeRO-3 leaves it."""
    modules = []
    for part in parts:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.empty(0))
        module.weight.ds_tensor, module.weight.ds_numel = torch.tensor(part), size
        modules.append(module)
    return modules


def test_the_largest_weight_is_that_of_a_ranks_own_part_without_its_padding():
    # Five elements on three ranks: two each, and the last one is padded with what lay there.
    first, second, third = partitioned([[1.0, -4.0], [2.0, 0.5], [3.0, math.nan]], size=5)
    assert [largest_weight(m, rank).item() for rank, m in enumerate((first, second, third))] == [
        4.0,
        2.0,
        3.0,
    ]
    # One element on two ranks: the second has none.
    assert largest_weight(partitioned([[7.0], [math.inf]], size=1)[1], 1).item() == 0.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_not_finite_shows_in_the_largest(broken: float):
    (module,) = partitioned([[1.0, broken, 2.0]], size=3)
    assert not largest_weight(module, 0).isfinite()
