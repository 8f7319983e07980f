"""The CPU channel: one gloo group of the sending rank (0) and all engine workers, apart from every
other group.
"""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist
from torch import Tensor

BACKEND = "grpo_gloo"  # the name under which the receiving end is registered with vLLM


def meeting_point(address: str, port: int, seconds: int, *, host: bool) -> dist.TCPStore:
    """The store through which the members find each other; the sender hosts it.

    Args:
        address: of the host.
        port: of the host. Where it hosts, 0 lets the system choose, and `.port` of the store says
            what it has chosen. Chosen and bound at once, it cannot be taken in between.
        seconds: longest wait of a member.
        host: host the store, rather than connect to it.
    """
    return dist.TCPStore(
        address, port, is_master=host, timeout=timedelta(seconds=seconds), wait_for_workers=False
    )


def join(store: dist.Store, rank: int, world_size: int, seconds: int) -> dist.ProcessGroup:
    """The group itself; returns when all its members have come. It does not touch the default
    group.
    """
    return dist.ProcessGroupGloo(
        dist.PrefixStore("weights", store), rank, world_size, timedelta(seconds=seconds)
    )


def broadcast(group: dist.ProcessGroup, tensor: Tensor) -> None:
    """Send `tensor` from rank 0, or receive into it."""
    options = dist.BroadcastOptions()
    options.rootRank = 0
    options.rootTensor = 0
    group.broadcast([tensor], options).wait()
