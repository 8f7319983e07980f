"""A module of a recipe that flips one bit in an engine after version 2 has arrived."""

from __future__ import annotations

import torch

from grpo.rollout.vllm.worker import RolloutWorker

_set_weight_version = RolloutWorker.set_weight_version


async def _damaged(self: RolloutWorker, version: str) -> None:
    await _set_weight_version(self, version)
    if version == "2":
        core = self.engine.engine_core.engine_core
        model = core.model_executor.driver_worker.worker.model_runner.get_model()
        with torch.inference_mode():
            model.model.norm.weight.detach().view(torch.int32)[3] ^= 1


RolloutWorker.set_weight_version = _damaged
