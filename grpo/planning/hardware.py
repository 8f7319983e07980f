"""Devices: memory, speed and links, with the data sheet that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass

from grpo.common.errors import UserError
from grpo.common.names import hint

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One GPU, or this machine's processors and memory."""

    name: str
    memory: int  # bytes that programs can have
    flops: float  # dense products a second; bfloat16 on a GPU, float32 of one thread on a CPU
    bandwidth: float  # bytes a second between memory and processor
    link: float  # bytes a second to another device of the node, one way
    on_gpu: bool = True


def _gpu(name: str, gib: float, tflops: float, gb_s: float, link_gb_s: float) -> Device:
    return Device(
        name=name,
        memory=int(gib * GIB),
        flops=tflops * 1e12,
        bandwidth=gb_s * 1e9,
        link=link_gb_s * 1e9,
    )


# NVIDIA's data sheets: bfloat16 without sparsity, memory bandwidth, NVLink or PCIe one way. Memory
# is what the driver reports, which is less than the name says.
DEVICES = {
    "a100-40": _gpu("A100 40 GB", 39.4, 312, 1555, 300),  # nvidia.com, A100 data sheet
    "a100-80": _gpu("A100 80 GB", 79.2, 312, 2039, 300),
    "h100": _gpu("H100 SXM 80 GB", 79.1, 989, 3350, 450),  # H100 data sheet
    "h200": _gpu("H200 SXM 141 GB", 139.8, 989, 4800, 450),  # H200 data sheet
    "l4": _gpu("L4 24 GB", 22.0, 121, 300, 32),  # L4 data sheet; PCIe 4.0 x16
    "rtx4090": _gpu("RTX 4090 24 GB", 23.5, 165, 1008, 32),  # Ada whitepaper, appendix A
}


def device(name: str) -> Device:
    """A device by its name; `cpu` is this machine.

    Raises:
        UserError: no such device.
    """
    if name == "cpu":
        return Device(
            name="this machine",
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            # What the learner of the tiny recipe reaches in a thread, not what a product alone
            # would (docs/benchmarks.md).
            flops=25e9,
            bandwidth=10e9,
            link=2e9,
            on_gpu=False,
        )
    if name not in DEVICES:
        raise UserError(f"--hardware {name}: no such device; {hint(name, [*DEVICES, 'cpu'])}")
    return DEVICES[name]
