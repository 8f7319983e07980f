"""Seconds of every phase, as pure functions.

FLOPs are counted as in PaLM (arXiv:2204.02311, appendix B): two for each weight and token, causal
attention over half the pairs, twice as much backward. Decoding is bound by memory: each step reads
all weights and the keys and values of all sequences (Pope et al., arXiv:2211.05102, section 2). The
efficiencies are assumptions, and the times on GPUs predictions that nobody has measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo.planning.hardware import Device
from grpo.planning.memory import kv_bytes_per_token
from grpo.planning.shapes import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """Shares of the data sheet that are reached, and fixed costs."""

    learning: float  # model FLOPs utilisation
    prefill: float
    bandwidth: float
    link: float
    step_seconds: float  # of a decoding step, whatever its batch: scheduling, launches, sampling
    sequence_seconds: float  # more for each sequence of the batch
    microbatch_seconds: float  # hooks and gathers of ZeRO
    score_seconds: float  # of a response


# GPU: 35% MFU is what published ZeRO-3 runs of this size report with long texts; the others are
# guesses. CPU: from docs/benchmarks.md, where a decoding step of 256 sequences takes 29 ms.
ON_GPU = Efficiency(
    learning=0.35, prefill=0.5, bandwidth=0.6, link=0.6, step_seconds=4e-3, sequence_seconds=1e-5,
    microbatch_seconds=0.02, score_seconds=2e-4,
)  # fmt: skip
ON_CPU = Efficiency(
    learning=1.0, prefill=2.5, bandwidth=2.5, link=1.0, step_seconds=3e-3, sequence_seconds=5e-5,
    microbatch_seconds=0.03, score_seconds=5e-5,
)  # fmt: skip


def forward_flops(shape: Shape, length: float) -> float:
    """Of one token of a text of `length` tokens; the look-up of embeddings costs nothing."""
    weights = shape.layers * shape.matrices + shape.embedding
    return 2.0 * weights + shape.layers * 2.0 * length * shape.query_width


def learn_flops(
    shape: Shape, length: float, *, checkpointing: bool, forward_passes: float
) -> float:
    """Of one token: forward and twice that backward, one forward again with checkpointing (6N or
    8N for N weights), and `forward_passes` for other policies' log-probs.
    """
    return forward_flops(shape, length) * ((4 if checkpointing else 3) + forward_passes)


def decode_step_seconds(
    shape: Shape,
    device: Device,
    eff: Efficiency,
    *,
    sequences: float,
    length: float,
    width: int,
    devices: int,
) -> float:
    """One decoding step of an engine for `sequences` of mean `length`, on `devices` GPUs."""
    read = width * shape.parameters + sequences * length * kv_bytes_per_token(shape, width)
    memory = read / (device.bandwidth * eff.bandwidth * devices)
    compute = sequences * forward_flops(shape, length) / (device.flops * eff.prefill * devices)
    return max(memory, compute) + eff.step_seconds + sequences * eff.sequence_seconds


def decode_steps(responses: float, at_once: float, mean: float, longest: float) -> float:
    """Steps until all responses of an engine are there. Those that wait begin as others end, and
    the last ones go on alone until the longest is finished.
    """
    return longest + max(0.0, responses - at_once) * mean / max(at_once, 1)


def link_seconds(size: float, device: Device, eff: Efficiency) -> float:
    """Of bytes over the link between two devices."""
    return size / (device.link * eff.link)
