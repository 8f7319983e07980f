"""The process that grades what the caller will not: one request at a time, under resource limits.

It speaks length-prefixed JSON on its standard streams. The parent kills it at a deadline; it needs
no signals and no threads, and nothing in it outlives the parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import IO, TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rewards.types import Reward

HEADER = struct.Struct(">I")
MAX_MESSAGE = 256 * 2**20  # bytes; a longer one is a broken stream


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    """One message; surrogates from decoded model output are escaped."""
    body = json.dumps(message).encode()
    stream.write(HEADER.pack(len(body)) + body)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next message; None at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    if size > MAX_MESSAGE:
        return None
    body = stream.read(size)
    message: dict[str, Any] | None = json.loads(body) if len(body) == size else None
    return message


def main() -> None:
    """Serve requests until the parent closes the stream."""
    requests, replies = private_streams()
    setup = read_message(requests)
    if setup is None:
        return
    die_with_parent()
    _limit(int(setup["memory_bytes"]))
    from grpo.common.names import import_modules

    import_modules(setup["modules"])
    _check_known_good()
    write_message(replies, {"ready": True})
    while (request := read_message(requests)) is not None:
        reply, healthy = _answer(request)
        write_message(replies, reply)
        if not healthy:
            return  # memory ran out: a fresh process grades the next answer


def private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Streams of our own, so that a reward that prints does not break the protocol."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, replies


def die_with_parent() -> None:
    """The kernel kills this process when the one that started it ends, however it ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _limit(memory_bytes: int) -> None:
    """Address space, core dumps, files; processes too, which binds for users other than root."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 2**24),
        (resource.RLIMIT_NPROC, 512),
    ):
        _, hard = resource.getrlimit(kind)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def _check_known_good() -> None:
    """A worker that cannot grade a known-good answer must not say that it is ready."""
    from rewards import registry
    from rewards.maths import WORKER
    from rewards.types import Sample

    sample = Sample(response=r"\boxed{\sqrt{8}}", gold=r"2\sqrt{2}")
    [reward] = registry.call("accuracy", [sample], {"limits": WORKER}, [])
    if reward.score != 1.0:
        raise RuntimeError(f"the worker cannot grade a known-good answer: {reward}")


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The reply to one request, and whether this process can go on."""
    from rewards import registry
    from rewards.maths import WORKER
    from rewards.types import Reward, Sample

    try:
        samples = [Sample(**fields) for fields in request["samples"]]
        options = dict(request["options"])
        if request["name"] == "accuracy":
            options["limits"] = WORKER
        earlier = [
            {name: Reward(*reward) for name, reward in one.items()} for one in request["earlier"]
        ]
        rewards = registry.call(request["name"], samples, options, earlier)
    except MemoryError:
        rewards = [Reward(0.0, "limit", {"limit": "memory"})] * len(request["samples"])
    healthy = not any(reward.details.get("limit") == "memory" for reward in rewards)
    return {"id": request["id"], "rewards": [as_row(reward) for reward in rewards]}, healthy


def as_row(reward: Reward) -> list[Any]:
    """The fields of a reward, as JSON carries them; `Reward(*row)` is the way back."""
    return [reward.score, reward.reason, dict(reward.details), reward.token_scores, reward.graded]
