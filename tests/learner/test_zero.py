"""What DeepSpeed is told."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from grpo.common.errors import UserError
from grpo.config import LearnerConfig, load_config
from grpo.learner.zero import ZeroSettings, largest_weight, limit_collectives


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


def test_a_limit_of_collectives_holds_in_groups_that_deepspeed_has_made_too():
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(hours=9))
    try:
        groups = [dist.group.WORLD, dist.new_group([0])]
        limit_collectives(7)
        limits = [group._get_backend(torch.device("cpu")).options._timeout for group in groups]
    finally:
        dist.destroy_process_group()
    assert limits == [timedelta(seconds=7)] * 2
