"""Low-rank adapters through peft: W + (alpha / rank) B A, of which only A and B are trained.

LoRA (Hu et al., arXiv:2106.09685). The weights below stay as they were loaded, so the policy
without its adapters is the reference, and no second model is kept for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grpo.common.errors import UserError
from grpo.config.schema import LoraSettings
from grpo.learner.policy import Policy

ADAPTER = "default"  # peft's name for the only one


def add(policy: Policy, settings: LoraSettings) -> None:
    """Freeze the policy and put adapters beside its matrices. B starts as 0, so nothing changes.

    Raises:
        UserError: peft is not installed, or the model has no such module.
    """
    try:
        from peft import inject_adapter_in_model
    except ModuleNotFoundError:
        raise UserError("learner.lora needs peft; run `make venv`, or pip install peft") from None
    try:
        inject_adapter_in_model(_config(settings), policy.model, adapter_name=ADAPTER)
    except ValueError as error:
        raise UserError(f"learner.lora.target_modules: {error}") from None


def _config(settings: LoraSettings) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.target_modules),
        lora_dropout=0.0,  # the learner's log-probs must be the engine's
    )


def layers(model: nn.Module) -> dict[str, Any]:
    """peft's layers by the name that their matrix has in a checkpoint, without `.weight`."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def checkpoint_name(name: str) -> str | None:
    """The name of a parameter in a checkpoint without adapters; None for those of adapters.

    >>> checkpoint_name("model.layers.0.mlp.up_proj.base_layer.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> checkpoint_name("model.layers.0.mlp.up_proj.lora_A.default.weight") is None
    True
    """
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


@torch.no_grad()
def merged(layer: Any) -> Tensor:
    """W + (alpha / rank) B A in the type of W. All three must be whole."""
    weight = layer.base_layer.weight
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return torch.add(weight.float(), b.float() @ a.float(), alpha=layer.scaling[ADAPTER]).to(
        weight.dtype
    )


@contextmanager
def switched_off(policy: Policy) -> Iterator[None]:
    """Inside the block the policy is the model that it started from."""
    # peft's own switch also freezes the adapters, which ZeRO-3 must not see changing.
    found = layers(policy.model).values()
    for layer in found:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in found:
            layer._disable_adapters = False


def save(policy: Policy, settings: LoraSettings, base: str, folder: Path, rank: int) -> None:
    """The adapters alone, as peft loads them: `adapter_model.safetensors` and its configuration.

    Gathers layer by layer, so every rank must call it; rank 0 writes.
    """
    from deepspeed.runtime.zero import GatheredParameters
    from safetensors.torch import save_file

    state = {}
    for name, layer in layers(policy.model).items():
        for part in ("lora_A", "lora_B"):
            weight = getattr(layer, part)[ADAPTER].weight
            with GatheredParameters([weight]):
                if rank == 0:
                    key = f"base_model.model.{name}.{part}.weight"
                    state[key] = weight.detach().to("cpu", copy=True)
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = _config(settings)
        config.base_model_name_or_path = base
        config.inference_mode = True
        config.save_pretrained(folder)
