"""Bare generation for benchmarks.overhead: vLLM in one process, no Ray, nothing between it and the
requests.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.overhead import serve


def main() -> None:
    """Load the model once, then generate all requests for every "go"."""
    work, choice = json.loads(Path(sys.argv[1]).read_text()), json.loads(sys.argv[2])
    os.environ.update(
        OMP_NUM_THREADS=str(choice["threads"]),
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
    )
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=work["model"],
        dtype="float32",
        max_model_len=work["max_model_len"],
        max_num_seqs=work["max_num_seqs"],
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
        kv_cache_memory_bytes=2**30,
    )
    prompts = [{"prompt_token_ids": ids} for ids in work["prompts"]]
    params = [
        SamplingParams(
            temperature=1.0,
            max_tokens=work["max_tokens"],
            stop=work["stop"],
            include_stop_str_in_output=True,
            ignore_eos=work["ignore_eos"],
            logprobs=0,
            seed=seed,
            skip_special_tokens=False,
        )
        for seed in work["seeds"]
    ]

    def generate() -> None:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        assert [list(o.outputs[0].token_ids) for o in outputs] == [
            sample[1] for sample in work["samples"]
        ]
        llm.reset_prefix_cache()

    serve(generate)


if __name__ == "__main__":
    main()
