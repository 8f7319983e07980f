"""Bytes of every part of an actor, as pure functions.

Sources: ZeRO (Rajbhandari et al., arXiv:1910.02054, section 3) for what a trained parameter costs,
Korthikanti et al. (arXiv:2205.05198, section 4) for the way to count activations. The counts are
those of our own learner: `grpo/learner/zero.py` sets the types and buckets of DeepSpeed 0.19,
`head.py` keeps no logits, and transformers' Qwen2 decides which tensors wait for the backward pass.
"""

from __future__ import annotations

import math

from grpo.planning.shapes import Shape

MIB, GIB = 2**20, 2**30

# DeepSpeed's defaults, in elements: so much of the model may stay gathered (stage3_max_live_
# parameters), and so many elements does the optimizer step treat at once (sub_group_size).
LIVE_ELEMENTS = 1_000_000_000
STEP_ELEMENTS = 1_000_000_000
BUCKET_ELEMENTS = 50_000_000  # reduce_bucket_size and prefetch bucket of learner/zero.py

# Assumptions about GPUs. None is measured.
CUDA_CONTEXT = 1.0 * GIB  # context, NCCL, libraries
CUDA_GRAPHS = 1.5 * GIB  # of an engine, beyond its share of the memory
FRAGMENTATION = 0.05  # of activations, that the allocator cannot use

# CPU processes, measured (docs/plan.md): what they hold without any model.
ENGINE_BASE: float = 714 * MIB  # vLLM, torch, Ray
RANK_BASE: float = 575 * MIB  # DeepSpeed, transformers, torch, Ray
DRIVER_BASE: float = 610 * MIB
BOTH_BASE: float = 730 * MIB  # vLLM and DeepSpeed in one process: runtime=in_process
ENGINE_WORKING: float = (
    350 * MIB
)  # requests, sampling, and what the heap keeps of thousands of them
# A heap does not give back what it has had: resident bytes for each byte of activations that is
# alive at one time. On CPU this holds with gradient checkpointing too, which frees what the heap
# then does not use again.
HEAP_FACTOR = 1.5
# vLLM repacks the matrices of a layer for oneDNN, and the heap keeps some of what it had before.
ENGINE_WEIGHTS_FACTOR = 1.4


def state_bytes(
    *, total: int, trained: int, ranks: int, stage: int, width: int
) -> dict[str, float]:
    """What a rank holds between micro-batches, by kind.

    With bfloat16 weights (`width` 2) a trained parameter costs 2 + 4 + 8 + 4 bytes: weight, float32
    weight, two moments, gradient summed in float32. With float32 weights stage 3 has no second
    copy of them.

    Args:
        total: parameters of the model.
        trained: those that are trained; adapters come on top of `total`.
        ranks: that share them.
        stage: of ZeRO: 1 shares optimizer state, 2 gradients too, 3 weights too.
        width: bytes of a weight.
    """
    whole = 1 / ranks
    copy = 0 if stage == 0 or (stage == 3 and width == 4) else 4
    return {
        "weights": width * total * (whole if stage == 3 else 1),
        "float32 weights": copy * trained * whole,
        "moments": 8 * trained * (whole if stage > 0 else 1),
        "gradients": 4 * trained * (whole if stage > 1 else 1),
    }


def gathered_bytes(shape: Shape, width: int) -> float:
    """What ZeRO-3 keeps whole while it works: up to a billion elements and a prefetch, at least
    the largest parameter.
    """
    most = max(LIVE_ELEMENTS, shape.embedding) + BUCKET_ELEMENTS
    return float(width * min(shape.parameters, most))


def layer_activation_bytes(shape: Shape, width: int) -> float:
    """Of one token in one layer, from forward to backward.

    Each of two norms keeps its input in float32, the normalised input and the result, which the
    next matrices need as well. Attention keeps queries, keys, values, the result, and the float32
    log-sum of each head. The MLP keeps gate, its SiLU, up, and their product.
    """
    norms = 2 * (4 + 2 * width) * shape.hidden
    attention = width * (2 * shape.query_width + 2 * shape.kv_width) + 4 * shape.heads
    return norms + attention + width * 4 * shape.intermediate


def activation_bytes(shape: Shape, width: int, *, checkpointing: bool) -> float:
    """Of one token of a micro-batch at the peak, which is in the backward pass.

    Without checkpointing all layers wait, and the last norm and the output layer with them. With
    it the input of every layer waits, and one layer is there whole with the gradient of its MLP.
    """
    layer = layer_activation_bytes(shape, width)
    if checkpointing:
        waiting = shape.layers * shape.hidden * width + layer
        return waiting + width * (4 * shape.hidden + shape.intermediate)
    return shape.layers * layer + width * 7 * shape.hidden


def output_layer_bytes(
    shape: Shape, width: int, *, trained: bool, chunk_tokens: int, on_gpu: bool
) -> float:
    """Two tiles of logits, and the gradient of the output weight: of its own type, in float32, and
    once more in one piece to be shared out. A tile is `chunk_tokens` by 16,384 words, 1,024 on CPU.
    """
    words = min(shape.vocabulary, 16_384 if on_gpu else 1024)
    gradient = shape.embedding * (width + 8) if trained else 0
    return float(2 * 4 * chunk_tokens * words + gradient)


def heap_bytes(shape: Shape, trained: int, ranks: int, width: int, *, reference: bool) -> float:
    """What the heap of a CPU rank keeps of other phases, since little of it fits into holes: the
    checkpoint's weights and moments, the whole policy when rank 0 saves it, gradients in one piece
    for the reduce-scatter of several ranks, and layers that the reference gathers.
    """
    whole = float(width * shape.parameters)
    checkpoint = 12 * trained / ranks
    pieces = 4.0 * min(trained, BUCKET_ELEMENTS) if ranks > 1 else 0.0
    gathered = width * min(shape.parameters, BUCKET_ELEMENTS + shape.layer) if reference else 0
    return checkpoint + whole + pieces + gathered


def step_bytes(trained: int, ranks: int, stage: int) -> float:
    """What AdamW needs beside its state: the gradient in one piece, and a denominator."""
    share = trained / ranks if stage > 0 else trained
    return 8 * min(share, STEP_ELEMENTS)


def kv_bytes_per_token(shape: Shape, width: int) -> int:
    """Keys and values of all layers."""
    return 2 * shape.layers * shape.kv_width * width


def transfer_bytes(shape: Shape, width: int, buffer_bytes: int, messages: int) -> float:
    """Messages of weights: a buffer is closed by the tensor that makes it larger than its size."""
    return messages * float(buffer_bytes + width * shape.embedding)


def profile_bytes(shape: Shape, width: int, batched_tokens: int, seqs: int) -> float:
    """What an engine needs for one forward pass: its widest layer, and float32 logits of all
    sequences with three more of that size for sampling.
    """
    layer = width * batched_tokens * (2 * shape.hidden + 2 * shape.intermediate)
    return float(layer + 4 * 4 * seqs * shape.vocabulary)


def round_down(value: float, unit: int) -> int:
    """The largest multiple of `unit` that is not above `value`."""
    return math.floor(value / unit) * unit
