"""The vLLM engine: one asynchronous engine, set up for training.

On GPU this is vLLM's `AsyncLLM` as it comes. On CPU the same `AsyncLLM` runs its engine core inside
the actor's own process. By default vLLM spreads a CPU engine over three processes that pass every
token between them, which on a small machine costs more than the model (see docs/benchmarks.md).
With one process there is also nothing that can die and leave the actor waiting: the engine lives
exactly as long as its actor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """Everything that an engine must know."""

    model_folder: str
    device: str  # "cpu" or "cuda"
    dtype: str
    max_model_len: int  # tokens: longest prompt + longest response
    max_num_seqs: int
    threads: int  # OpenMP threads, CPU only
    kv_cache_gib: float  # CPU only
    gpu_memory_share: float
    tensor_parallel: int
    enforce_eager: bool
    float32_head: bool = False  # logits in float32 although the weights are not
    colocated: bool = False  # learner ranks are on the same GPUs
    max_batched_tokens: int = 16_384  # of prompts and responses in one step; GPU only
    end_token_ids: tuple[
        int, ...
    ] = ()  # all tokens that end a response, of tokenizer and generation_config

    @property
    def num_workers(self) -> int:
        """Processes that hold weights, and so members of the weight-transfer group."""
        return self.tensor_parallel

    def environment(self) -> dict[str, str]:
        """Variables that must be set before the actor's process starts."""
        return self.environment_of(self.device, self.threads, eager=self.enforce_eager)

    @staticmethod
    def environment_of(device: str, threads: int, *, eager: bool) -> dict[str, str]:
        """The same, of what decides it."""
        common = {
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_PLUGINS": "grpo_weight_transfer",
            "TOKENIZERS_PARALLELISM": "false",
            # the folder is local; nothing may be fetched while a run holds its machines
            "HF_HUB_OFFLINE": "1",
        }
        if device != "cpu":
            return common
        return {
            **common,
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            # The sampler compiles two of its small functions even in eager mode. That takes two
            # seconds of a core at the first sample of every engine and gives the same numbers.
            "TORCH_COMPILE_DISABLE": "1" if eager else "0",
        }


def build_engine(spec: EngineSpec) -> AsyncLLM:
    """Load the model and start serving. Needs the spec's environment, and a running event loop."""
    from vllm import AsyncEngineArgs
    from vllm.config import WeightTransferConfig
    from vllm.v1.engine.async_llm import AsyncLLM

    from grpo.weights.gloo import BACKEND
    from grpo.weights.wire import IPC_BACKEND

    on_cpu = spec.device == "cpu"
    if os.environ.get("VLLM_ALLOW_INSECURE_SERIALIZATION", "0") != "0":
        raise RuntimeError(
            "VLLM_ALLOW_INSECURE_SERIALIZATION is set: it lets messages run code; unset it"
        )
    if on_cpu:
        from grpo.rollout.vllm.core import use_inprocess_core

        _skip_text_of_logprobs()
        use_inprocess_core()

    class Engine(AsyncLLM):
        """vLLM's, which something outside of Python's sight holds until the interpreter ends."""

        def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
            # Parts of vLLM's module are gone by then, so that its own finaliser ends in a
            # traceback. A default argument is still there.
            if not ending():
                self.shutdown()

    args: dict[str, Any] = {
        "model": spec.model_folder,
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_num_seqs,
        "enforce_eager": spec.enforce_eager,
        "tensor_parallel_size": spec.tensor_parallel,
        # After temperature, as the policy that is trained has it; the default is before.
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # Inside a placement group vLLM would pick Ray and look for bundles of its own.
        "distributed_executor_backend": "mp" if spec.tensor_parallel > 1 else None,
        "weight_transfer_config": WeightTransferConfig(
            backend=BACKEND if on_cpu else IPC_BACKEND if spec.colocated else "nccl"
        ),
        "worker_extension_cls": "grpo.weights.inspection.WeightInspector",
        # sampling defaults hidden in a checkpoint must not touch training
        "generation_config": "vllm",
        "seed": 0,
    }
    if spec.float32_head:
        args["hf_overrides"] = {"head_dtype": "float32"}
    if on_cpu:
        args["kv_cache_memory_bytes"] = int(spec.kv_cache_gib * 2**30)
        # Seeded requests and chunked prefill do not go together on CPU (vLLM 0.32).
        args["enable_chunked_prefill"] = False
        args["max_num_batched_tokens"] = max(spec.max_model_len, 8192)
    else:
        args["gpu_memory_utilization"] = spec.gpu_memory_share
        # For an engine that is not its own `LLM` or server, vLLM's default is 2,048. That is too
        # few for hundreds of prompts that come at once.
        args["max_num_batched_tokens"] = spec.max_batched_tokens
        args["enable_sleep_mode"] = spec.colocated
    engine = Engine.from_engine_args(AsyncEngineArgs(**args))
    head = str(engine.vllm_config.model_config.head_dtype).removeprefix("torch.")
    if spec.float32_head and head != "float32":  # vLLM falls back with no more than a warning
        raise RuntimeError(
            f"model.float32_head: vLLM computes the output layer of this model in {head} here, and "
            "the learner must not differ from it; set model.float32_head=false"
        )
    return engine


def _skip_text_of_logprobs() -> None:
    """Keep log-probs as numbers only: turning every sampled token into text again costs a third of
    a CPU step.
    """
    from vllm.v1.engine import output_processor

    class NumericLogprobs(output_processor.LogprobsProcessor):
        @classmethod
        def from_new_request(cls, tokenizer: Any, request: Any) -> Any:
            return super().from_new_request(None, request)

    output_processor.LogprobsProcessor = NumericLogprobs
