"""Registers our weight-transfer engine with vLLM, in every process of an engine (entry point
vllm.general_plugins).
"""

from __future__ import annotations

from grpo.weights.gloo import BACKEND


def register() -> None:
    """Called by vLLM when it loads its plugins; more than once is fine."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            BACKEND, "grpo.weights.receiver", "GlooWeightTransferEngine"
        )
