"""A tensor-parallel engine of two workers says what it holds; compared with the file, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from grpo.weights.hashes import MASK, compare, content_hash
from grpo.weights.wire import ParamMeta, announcement


def main() -> None:
    """Sound weights, one number changed on the learner's side, and a worker that differs."""
    from vllm import LLM

    folder = sys.argv[1]
    state = load_file(Path(folder) / "model.safetensors")
    metadata = [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in state.items()]
    hashes = {name: int(content_hash(tensor)) & MASK for name, tensor in state.items()}
    engine = LLM(
        folder,
        dtype="float32",
        tensor_parallel_size=2,
        distributed_executor_backend="mp",
        enforce_eager=True,
        max_model_len=64,
        kv_cache_memory_bytes=2**26,
        worker_extension_cls="grpo.weights.inspection.WeightInspector",
    )
    workers = engine.collective_rpc("weight_hashes", args=(announcement(metadata),))
    found = {}
    report = compare(1, metadata, hashes, [workers], {})
    found["sound"] = [report.differing, report.unproven, len(workers)]
    name = "model.layers.0.self_attn.k_proj.weight"
    report = compare(2, metadata, {**hashes, name: hashes[name] + 1}, [workers], {})
    found["sharded"] = report.differing
    for part in workers[1]["parts"]:
        if part[0] == "model.norm.weight":
            part[2] += 1
    report = compare(3, metadata, hashes, [workers], {})
    found["replicated"] = report.differing
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
