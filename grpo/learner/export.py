"""The policy as a Hugging Face folder: safetensors, configuration and tokenizer, complete or not
there at all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from grpo.common.faults import fault
from grpo.learner.policy import Policy


def save_pretrained(
    policy: Policy,
    weights: Iterable[tuple[str, Tensor]],
    folder: Path,
    tokenizer_folder: Path,
    rank: int,
) -> str | None:
    """Gather layer by layer and write `folder` on rank 0, under a temporary name until it is
    complete.

    Returns:
        On rank 0 the sha256 over all names, shapes and bytes, in the order of names; None on other
        ranks.

    Raises:
        OSError, SafetensorError: the disk does not take it. Nothing of it stays there.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in weights:
        if rank == 0 and not (policy.tied and name == "lm_head.weight"):
            state[name] = tensor.to("cpu", copy=True)
    if rank != 0:
        return None
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        fault("learner.export")
        _write(policy, state, partial, tokenizer_folder)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk this is room
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return weights_digest(sorted(state.items()))


def weights_digest(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Digest of named tensors: equal exactly when all names, dtypes, shapes and bytes are, and
    their order, which is that of names.
    """
    digest = hashlib.sha256()
    for name, tensor in weights:
        tensor = tensor.contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write(policy: Policy, state: dict[str, Tensor], folder: Path, tokenizer_folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict
    from transformers import AutoTokenizer

    save_torch_state_dict(state, folder, metadata={"format": "pt"})
    policy.model.config.save_pretrained(folder)
    if policy.model.generation_config is not None:
        policy.model.generation_config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
