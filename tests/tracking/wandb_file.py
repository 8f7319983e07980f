"""Reading back a wandb offline run: its `.wandb` file is a log of protobuf records in LevelDB's
format.
"""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FIRST, _MIDDLE = 2, 3


def records(path: Path) -> Iterator[Any]:
    """The `Record` messages of the file, in order."""
    from wandb.proto import wandb_internal_pb2

    for data in _messages(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def wait_until_complete(path: Path) -> None:
    """wandb's service writes its last block shortly after `finish` has returned, at the latest at
    exit.
    """
    deadline = time.monotonic() + 20
    while not any(record.HasField("exit") for record in records(path)):
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)


def _messages(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(content):  # a record that is still being written is left out
        left = _BLOCK - at % _BLOCK
        if left < 7:  # too short for a header: padding
            at += left
            continue
        _checksum, size, kind = struct.unpack_from("<IHB", content, at)
        if at + 7 + size > len(content):
            return
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind not in (_FIRST, _MIDDLE):
            yield parts
            parts = b""


def items(message: Any) -> dict[str, Any]:
    """Keys and values of a history, summary or config message."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message}


def history(path: Path) -> list[dict[str, Any]]:
    return [items(record.history.item) for record in records(path) if record.HasField("history")]
