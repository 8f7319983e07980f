"""Damages an engine of the in-process runtime and prints what the weight check says, as JSON."""

from __future__ import annotations

import json
import sys

import torch
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

from tests.stack.conftest import running


def model_of(stack):
    """vLLM's model inside the engine."""
    core = stack.rollouts.worker.engine.engine_core.engine_core
    return core.model_executor.driver_worker.worker.model_runner.get_model()


def flip(tensor: torch.Tensor, index: int) -> None:
    """Flip the lowest bit of one number: 1 part in 10 million of a float32."""
    kind = torch.int32 if tensor.dtype is torch.float32 else torch.int16
    tensor.detach().view(-1).view(kind)[index] ^= 1


def repack(stack, name: str, damage) -> None:
    """Give a linear layer a repacked weight that was damaged first."""
    layer = model_of(stack).get_submodule(name)
    width = layer.input_size_per_partition
    dtype = layer.weight.dtype
    weight = layer.quant_method.apply(layer, torch.eye(width, dtype=dtype)).T.contiguous()
    kept = layer.weight
    damage(weight)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    layer.weight = kept


def swap_rows(weight: torch.Tensor) -> None:
    """The same numbers in another order."""
    weight[[3, 4]] = weight[[4, 3]]


def main() -> None:
    """All cases, one after the other on one engine; each hand-over mends the one before."""
    found: dict[str, object] = {}
    overrides = ["runtime=in_process", "learner.num_ranks=1", *sys.argv[2:]]
    with running(sys.argv[1], *overrides) as stack, torch.inference_mode():
        rollouts, learner = stack.rollouts, stack.learner
        client = learner.rank.client
        untouched = client.weight_hashes

        def case(name: str, version: int, damage) -> None:
            """The damage comes after the weights have arrived and before they are compared."""

            def damaged(announced):
                damage()
                return untouched(announced)

            client.weight_hashes = damaged
            report = learner.push_weights(version, check=True)
            found[name] = [report.differing, report.unproven]

        def parameter(name):
            return dict(model_of(stack).named_parameters())[name]

        case("sound", 1, lambda: None)
        case("norm", 2, lambda: flip(parameter("model.layers.1.input_layernorm.weight"), 7))
        case("bias", 3, lambda: flip(parameter("model.layers.0.self_attn.qkv_proj.bias"), 70))
        case("embedding", 4, lambda: flip(parameter("model.embed_tokens.weight"), 100))
        layer = "model.layers.1."
        case(
            "fused",
            5,
            lambda: repack(stack, layer + "mlp.gate_up_proj", lambda w: flip(w, w.numel() - 1)),
        )
        case("swapped", 6, lambda: repack(stack, layer + "self_attn.o_proj", swap_rows))
        case("head", 7, lambda: repack(stack, "lm_head", lambda w: flip(w, 0)))
        case("mended", 8, lambda: None)
        found["pushed without"] = learner.push_weights(9) is None
        text = [5, 6, 7, 8, 9]
        found["engine"] = rollouts.prompt_logprobs(text)[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
