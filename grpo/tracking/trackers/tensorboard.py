"""TensorBoard events, written without torch or TensorFlow.

An event file is a sequence of protobuf messages with checksums around them. tensorboard's own
message classes load in 0.1 s; its writers load TensorFlow stubs, torch's loads torch, and all we
need of either is the frame below.
"""

import os
import struct
import time
from pathlib import Path
from typing import Any, BinaryIO

from grpo.tracking.files import plain


class TensorBoardTracker:
    """Writes one event file into `folder`; `tensorboard --logdir` shows it while it grows."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def start(self) -> None:
        from tensorboard.compat.proto import event_pb2  # type: ignore[import-untyped]

        self._folder.mkdir(parents=True, exist_ok=True)
        # The name every reader looks for; no host name in it, it may be shown to others.
        self._file = (self._folder / f"events.out.tfevents.{time.time():.0f}.{os.getpid()}").open(
            "wb"
        )
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Numbers become scalars; text (a stage's name) has no curve and is left out."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        scalars = [
            summary_pb2.Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in values.items()
            if isinstance(value, int | float)
        ]
        self._write(
            event_pb2.Event(
                wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=scalars)
            )
        )

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        """The first rows as text; the full samples are in rollouts/ and in wandb's table."""
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2

        text = "\n\n---\n\n".join(_as_markdown(row) for row in rows[:8])
        value = summary_pb2.Summary.Value(
            tag=f"eval/{name}_samples",
            metadata=summary_pb2.SummaryMetadata(
                plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
            ),
            tensor=tensor_pb2.TensorProto(
                dtype=types_pb2.DT_STRING, string_val=[text.encode("utf-8", errors="replace")]
            ),
        )
        self._write(
            event_pb2.Event(
                wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=[value])
            )
        )

    def finish(self, summary: dict[str, Any] | None) -> str | None:
        assert self._file is not None, "start() opens it"
        self._file.close()
        return f"tensorboard --logdir {self._folder}"

    def _write(self, event: Any) -> None:
        assert self._file is not None, "start() opens it"
        self._file.write(framed(event.SerializeToString()))
        self._file.flush()  # so that the curves can be watched


def _as_markdown(row: dict[str, Any]) -> str:
    """Each field under its name, indented by four: markdown shows that as it is, whatever the model
    wrote.
    """
    fields = (
        f"**{key}**\n\n" + "\n".join("    " + line for line in str(plain(value)).splitlines())
        for key, value in row.items()
    )
    return "\n\n".join(fields)


def framed(message: bytes) -> bytes:
    """A message as a record: length (uint64), its checksum, the message, its checksum;
    little-endian.
    """
    length = struct.pack("<Q", len(message))
    return length + _masked_checksum(length) + message + _masked_checksum(message)


def _masked_checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32 with the Castagnoli polynomial (zlib has only the other one)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_table_entry(byte: int) -> int:
    crc = byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_CRC_TABLE = [_crc_table_entry(byte) for byte in range(256)]
