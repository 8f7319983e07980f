"""Registers our weight-transfer engines with vLLM, in every process of an engine (entry point
vllm.general_plugins).
"""

from __future__ import annotations

from grpo.weights import gloo, wire


def register() -> None:
    """Called by vLLM when it loads its plugins; more than once is fine."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    ours = {
        gloo.BACKEND: ("grpo.weights.receiver", "GlooWeightTransferEngine"),
        wire.IPC_BACKEND: ("grpo.weights.ipc", "IpcReceiver"),
    }
    for backend, (module, name) in ours.items():
        if backend not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(backend, module, name)
