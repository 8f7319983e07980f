"""Bare generation for benchmarks.overhead: vLLM alone, without Ray, on one part of the requests."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.overhead import serve


def main() -> None:
    """Load the model once, then generate this part of the requests for every "go"."""
    work = json.loads(Path(sys.argv[1]).read_text())
    choice, part = json.loads(sys.argv[2]), int(sys.argv[3])
    os.environ.update(
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
    )
    from vllm import LLM, SamplingParams

    groups = work["groups"][part :: choice["processes"]]
    llm = LLM(
        model=work["model"],
        dtype="float32",
        max_model_len=work["max_model_len"],
        max_num_seqs=sum(len(group["seeds"]) for group in groups),
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
        kv_cache_memory_bytes=2**30,
    )
    settings = {
        **work["sampling"],
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "logprobs": 0,
    }
    if choice["seeded"]:
        requests = [(g["prompt"], {"seed": seed}) for g in groups for seed in g["seeds"]]
    else:  # one request for all samples of a prompt
        requests = [(group["prompt"], {"n": len(group["seeds"])}) for group in groups]
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in requests]
    params = [SamplingParams(**settings, **own) for _, own in requests]

    def generate() -> int:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        llm.reset_prefix_cache()
        found = [list(completion.token_ids) for output in outputs for completion in output.outputs]
        if choice["seeded"] and choice["threads"] == 1:  # more threads round differently
            assert found == [ids for group in groups for ids in group["responses"]]
        return sum(map(len, found))

    serve(generate)


if __name__ == "__main__":
    main()
