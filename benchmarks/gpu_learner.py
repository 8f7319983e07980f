"""Tokens a second, model FLOPs utilisation and peak memory of the learner's pass over a long text.

    python -m benchmarks.gpu_learner                             one GPU, 1.5B, 8K to 24K tokens
    python -m benchmarks.gpu_learner --device cpu --shape tiny   the same code without a GPU
    python -m benchmarks.gpu_learner --save FOLDER --shape 0.5b  only write the random model

The policy is ours (`grpo/learner/policy.py`): backbone with gradient checkpointing, and the output
layer in tiles. ZeRO, optimizer and engines are left out, so PyTorch and transformers are enough.
Weights are random, since speed does not depend on them.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from grpo.common.command_line import run
from grpo.common.errors import UserError

GIB = 2**30
# Sizes of Qwen2.5-1.5B and Qwen2.5-0.5B, and one for a dry run.
SHAPES: dict[str, dict[str, Any]] = {
    "1.5b": dict(
        vocab_size=151_936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
        num_attention_heads=12, num_key_value_heads=2,
    ),
    "0.5b": dict(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2,
    ),
    "tiny": dict(
        vocab_size=2048, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    ),
}  # fmt: skip
# Dense bfloat16 products, 1e12 a second, from the data sheets.
PEAK_TFLOPS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "A10G": 70}


def random_model(shape: str, device: str, attention: str, context: int) -> Any:
    """A Qwen2 with random weights, in bfloat16, or in float32 for a CPU."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen2", **SHAPES[shape], max_position_embeddings=context, tie_word_embeddings=True
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            config,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            attn_implementation=attention,
        )


def pass_flops(shape: str, tokens: int) -> float:
    """Of forward and backward over one text, without what checkpointing computes again.

    2 for each weight and token, causal attention over half the pairs, and twice as much backward
    (PaLM, arXiv:2204.02311, appendix B). The output layer counts, the look-up of embeddings not.
    """
    s = SHAPES[shape]
    width, heads = s["hidden_size"], s["num_attention_heads"]
    narrow = width // heads * s["num_key_value_heads"]
    matrices = 2 * width * width + 2 * width * narrow + 3 * width * s["intermediate_size"]
    weights = s["num_hidden_layers"] * matrices + s["vocab_size"] * width
    pairs = s["num_hidden_layers"] * 2 * tokens * width
    return 3.0 * tokens * (2 * weights + pairs)


def attentions(device: str) -> list[str]:
    """What can run here."""
    if device == "cpu":
        return ["sdpa"]
    flash = ["flash_attention_2"] if importlib.util.find_spec("flash_attn") else []
    return [*flash, "sdpa", "flex_attention"]


def measure(policy: Any, device: str, length: int, repeats: int) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and its peak in GiB with weights and gradients."""
    ids_BT = torch.randint(0, policy.model.config.vocab_size, (1, length + 1), device=device)
    predicts_BT = torch.ones((1, length), dtype=torch.bool, device=device)
    seconds = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for repeat in range(repeats + 1):
        policy.zero_grad()
        start = time.perf_counter()
        logp_N, _ = policy(ids_BT[:, :-1], predicts_BT, ids_BT[0, 1:], 1.0)
        logp_N.mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat:  # the first is a warm-up
            seconds.append(time.perf_counter() - start)
    if device == "cuda":
        return median(seconds), torch.cuda.max_memory_allocated() / GIB
    return median(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def report(device: str, shape: str, lengths: list[int], repeats: int) -> None:
    """One row for each kind of attention and length; one that fails says why."""
    from grpo.learner.policy import Policy

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    peak = next((tflops for part, tflops in PEAK_TFLOPS.items() if part in name), None)
    print(f"{name}, Qwen2 {shape}, gradient checkpointing, one text at a time")
    print("attention            tokens   tokens/s     MFU   peak GiB")
    for attention in attentions(device):
        try:
            model = random_model(shape, device, attention, max(lengths) + 1)
            model.gradient_checkpointing_enable({"use_reentrant": False})
            policy = Policy(model.train(), head_chunk_tokens=1024, float32_head=True)
            for length in lengths:
                seconds, gib = measure(policy, device, length, repeats)
                mfu = (
                    ""
                    if peak is None
                    else f"{pass_flops(shape, length) / seconds / peak / 1e12:.1%}"
                )
                print(
                    f"{attention:19}  {length:7,}  {length / seconds:9,.0f}  {mfu:>6}  {gib:9.2f}",
                    flush=True,
                )
        except (
            Exception
        ) as error:  # a kernel that is missing, or too little memory: the next may run
            print(f"{attention:19}  {type(error).__name__}: {str(error).splitlines()[0][:90]}")
        model = policy = None
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def main(argv: list[str]) -> int:
    """Print the table.

    Raises:
        UserError: there is no GPU.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="1.5b")
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16_384, 24_576])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--save", type=Path, help="write the random model here, and measure nothing"
    )
    args = parser.parse_args(argv)
    if args.save is not None:
        random_model(args.shape, "cpu", "sdpa", 32_768).save_pretrained(args.save)
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: PyTorch sees no GPU here; use `--device cpu --shape tiny` for a dry run"
        )
    report(args.device, args.shape, args.lengths, args.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
