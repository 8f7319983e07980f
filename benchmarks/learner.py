"""Speed and memory of the learner's computation, side by side with plain PyTorch.

    python -m benchmarks.learner           forward and backward: padded rows against single texts,
                                           and texts of 1K to 24K tokens
    python -m benchmarks.learner --head    the output layer, up to 24,576 tokens x 151,936 words
                                           (needs 5 GiB and some minutes; --small leaves it out)

Every row of a table runs in a process of its own, so that its peak memory is its own. Sides of a
comparison take turns inside one process. Times of the output layer are CPU seconds of one thread,
so other work on the machine disturbs them less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

VOCABULARY, WIDTH, TOKENS = 151_936, 1536, 24_576  # Qwen2.5-1.5B and the last stage of DeepScaleR
CHUNK = 1024
GIB = 2**30


# --- the output layer -----------------------------------------------------------------------------


def plain_head(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies from whole logits; the entropy carries no gradient."""
    logp_NV = torch.log_softmax(hidden_ND @ weight_VD.T, dim=1)
    with torch.no_grad():
        entropy_N = -(logp_NV.exp() * logp_NV).sum(dim=1)
    return logp_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


def chunked_head(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """The learner's."""
    from grpo.learner.head import ChunkedLogProb

    logp_N, entropy_N = ChunkedLogProb.apply(hidden_ND, weight_VD, targets_N, 1.0, CHUNK)
    return logp_N, entropy_N


HEADS = {"plain": plain_head, "chunked": chunked_head}


def head_inputs(tokens: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, output weight, targets, and the gradient of each log-prob."""
    torch.manual_seed(0)
    hidden_ND = torch.randn(tokens, width, requires_grad=True)
    weight_VD = torch.empty(VOCABULARY, width).normal_(std=width**-0.5).requires_grad_()
    return hidden_ND, weight_VD, torch.randint(0, VOCABULARY, (tokens,)), torch.randn(tokens)


def run_head(name: str, inputs: tuple[Tensor, Tensor, Tensor, Tensor]) -> float:
    """CPU seconds of one forward and backward pass over all threads; leaves the gradients."""
    hidden_ND, weight_VD, targets_N, grad_N = inputs
    hidden_ND.grad = weight_VD.grad = None
    start = time.process_time()
    logp_N, _ = HEADS[name](hidden_ND, weight_VD, targets_N)
    logp_N.backward(grad_N)
    return time.process_time() - start


def head_memory(name: str, tokens: int, width: int) -> dict[str, float]:
    """Seconds, and peak memory above inputs, weight and their gradients."""
    inputs = head_inputs(tokens, width)
    before = rss()
    seconds = run_head(name, inputs)
    gradients = sum(x.numel() * x.element_size() for x in inputs[:2])
    return {"seconds": seconds, "extra_gib": (peak_rss() - before - gradients) / GIB}


def head_time(tokens: int, width: int, repeats: int) -> dict[str, float]:
    """CPU seconds of both in one thread, in turn, and the distance of their gradients."""
    torch.set_num_threads(1)  # waiting threads would count as work
    inputs = head_inputs(tokens, width)
    times: dict[str, list[float]] = {name: [] for name in HEADS}
    gradients: dict[str, list[Tensor]] = {}
    for repeat in range(repeats + 1):
        for name in HEADS:
            seconds = run_head(name, inputs)
            if repeat:  # the first is a warm-up
                times[name].append(seconds)
            gradients[name] = [x.grad.clone() for x in inputs[:2] if x.grad is not None]
    pairs = zip(gradients["chunked"], gradients["plain"], strict=True)
    return {
        **{name: median(seconds) for name, seconds in times.items()},
        "ratio": median(c / p for c, p in zip(times["chunked"], times["plain"], strict=True)),
        "distance": max(float((a - b).norm() / b.norm()) for a, b in pairs),
    }


def report_head(small: bool) -> None:
    """Both tables of the output layer."""
    print(f"output layer, float32, V = {VOCABULARY:,}, chunks of {CHUNK:,} tokens\n")
    print("tokens   width   plain s   chunked s   chunked / plain   gradients apart")
    for tokens, width, repeats in ((1024, 64, 5), (1024, 128, 5), (1024, WIDTH, 1)):
        found = alone("head_time", tokens, width, repeats)
        print(
            f"{tokens:6,}  {width:6,}  {found['plain']:8.2f}  {found['chunked']:10.2f}  "
            f"{found['ratio']:16.2f}  {found['distance']:16.1e}"
        )
    print("\npeak memory above inputs, weight and their gradients\n")
    print("tokens   width   plain GiB (formula)   plain GiB   chunked GiB   formula / chunked   s")
    sizes = [(2048, True), (4096, True)] + ([] if small else [(TOKENS, False)])
    for tokens, with_plain in sizes:
        # logits, log-probs, and the gradient of the logits
        formula = 3 * tokens * VOCABULARY * 4 / GIB
        plain = alone("head_memory", "plain", tokens, WIDTH)["extra_gib"] if with_plain else None
        found = alone("head_memory", "chunked", tokens, WIDTH)
        print(
            f"{tokens:6,}  {WIDTH:6,}  {formula:20.2f}  "
            f"{'not run' if plain is None else f'{plain:.2f}':>10}  {found['extra_gib']:12.2f}  "
            f"{formula / found['extra_gib']:18.1f}  {found['seconds']:.0f}"
        )


# --- whole passes ---------------------------------------------------------------------------------


def model_folder(folder: Path, context: int) -> Path:
    """A Qwen2 of 2 layers with random weights, and no tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=320,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def learner(folder: str, tokens_per_microbatch: int) -> Any:
    """A started rank of one."""
    from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
    from grpo.learner.spec import LearnerSpec
    from grpo.learner.worker import LearnerWorker

    threads = torch.get_num_threads()
    spec = LearnerSpec(
        model_folder=folder,
        device="cpu",
        dtype="float32",
        world_size=1,
        pad_token_id=0,
        modules=(),
        objective="grpo",
        algorithm=AlgorithmConfig(),
        optimizer=OptimizerConfig(),
        learner=LearnerConfig(
            num_ranks=1, threads_per_rank=threads, tokens_per_microbatch=tokens_per_microbatch
        ),
        transfer_timeout_seconds=60,
    )
    worker = LearnerWorker(spec, 0)
    worker.start("127.0.0.1", 0)
    return worker


def make_samples(lengths: list[int]) -> list[Any]:
    """Random texts; all but the first 8 tokens are trained."""
    from grpo.types import TrainSample

    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(2, 300, (n,), generator=generator).tolist() for n in lengths]
    return [TrainSample.from_tokens(t[:8], t[8:], [0.0] * (len(t) - 8)) for t in texts]


def throughput(folder: str, repeats: int) -> dict[str, float]:
    """Tokens a second of our update and of bare forward and backward over the same texts.

    Ours: padded rows in micro-batches, chunked output layer, objective, ZeRO-3, AdamW. Bare: one
    text after the other without any padding, whole logits, gradients added up in place.
    """
    from grpo.types import StepSettings

    generator = torch.Generator().manual_seed(1)
    # long-tailed, as responses are: e^N(5, 0.8), between 16 and 2,048 tokens
    draws = torch.randn(256, generator=generator).mul(0.8).add(5.0).exp()
    lengths = draws.clamp(16, 2048).long().tolist()
    samples = make_samples(lengths)
    advantages = [1.0 if i % 2 else -1.0 for i in range(len(samples))]
    worker = learner(folder, 16_384)
    settings = StepSettings(lr=0.0, temperature=1.0)
    bare_step = bare_learning(folder, samples, advantages)

    def our_step() -> None:
        worker.prepare(samples, settings)
        worker.optimise(advantages, settings)

    ours, bare = in_turn(our_step, bare_step, repeats)
    tokens = sum(lengths)
    plan = [ranks[0] for ranks in worker._plan(samples, range(len(samples)))]
    padded = sum(len(rows) * max(lengths[i] for i in rows) for rows in plan)
    return {
        "tokens": tokens,
        "padding": 1 - tokens / padded,
        "ours": tokens / median(ours),
        "bare": tokens / median(bare),
        "ratio": median(b / o for o, b in zip(ours, bare, strict=True)),
    }


def bare_learning(folder: str, samples: list[Any], advantages: list[float]) -> Callable[[], None]:
    """Forward and backward of every text alone, in plain PyTorch."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = [torch.from_numpy(sample.token_ids_T).long() for sample in samples]

    def step() -> None:
        model.zero_grad()
        for ids, sample, advantage in zip(texts, samples, advantages, strict=True):
            first = sample.num_tokens - sample.num_trained
            logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0, first - 1 :]
            logp = -torch.nn.functional.cross_entropy(logits, ids[first:], reduction="none")
            (-advantage * logp.mean() / len(texts)).backward()

    return step


def in_turn(
    first: Callable[[], None], second: Callable[[], None], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, one after the other, after a warm-up of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for work, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            work()
            if repeat:
                seconds.append(time.perf_counter() - start)
    return times


def one_length(folder: str, length: int) -> dict[str, float]:
    """Seconds and memory of an update of one text."""
    from grpo.types import StepSettings

    worker = learner(folder, length)
    settings = StepSettings(lr=0.0, temperature=1.0)
    for sample in make_samples([32]), make_samples([length]):  # the first is a warm-up
        before = rss()
        start = time.perf_counter()
        worker.prepare(sample, settings)
        worker.optimise([1.0], settings)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra_gib": (peak_rss() - before) / GIB}


def report_passes() -> None:
    """Both tables of whole passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(model_folder(Path(folder), 32_768))
        found = alone("throughput", path, 5)
        print(
            f"one update of 256 texts, {found['tokens']:,.0f} tokens; "
            f"{found['padding']:.1%} of the learner's rows are padding\n"
        )
        print("learner tokens/s   bare tokens/s   learner / bare")
        print(f"{found['ours']:16,.0f}  {found['bare']:14,.0f}  {found['ratio']:15.2f}\n")
        print("text, tokens   seconds   us a token   GiB above the start   KiB a token")
        for length in (1024, 2048, 4096, 8192, 16_384, 24_576):
            found = alone("one_length", path, length)
            seconds, extra = found["seconds"], found["extra_gib"]
            print(
                f"{length:12,}  {seconds:8.2f}  {seconds / length * 1e6:11.0f}  {extra:20.2f}  "
                f"{extra * 2**20 / length:12.1f}"
            )


# --- processes ------------------------------------------------------------------------------------


def rss() -> int:
    """Bytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_rss() -> int:
    """Bytes of this process at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


WORK: dict[str, Callable[..., dict[str, float]]] = {
    "head_memory": head_memory,
    "head_time": head_time,
    "throughput": throughput,
    "one_length": one_length,
}


def alone(work: str, *arguments: Any) -> dict[str, float]:
    """What a piece of work found, in a fresh process with the actors' settings of malloc."""
    from grpo.runtime.environment import MALLOC

    command = [sys.executable, "-m", "benchmarks.learner", "--work", work, json.dumps(arguments)]
    environment = {**os.environ, **MALLOC, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{work}{arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--head", action="store_true", help="the output layer")
    parser.add_argument("--small", action="store_true", help="without the largest size")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        name, arguments = args.work
        print(json.dumps(WORK[name](*json.loads(arguments))))
    elif args.head:
        report_head(args.small)
    else:
        report_passes()


if __name__ == "__main__":
    main()
