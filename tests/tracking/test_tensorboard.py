import math
import struct
from pathlib import Path
from typing import Any

import pytest

from grpo.tracking.trackers.tensorboard import TensorBoardTracker, crc32c, framed
from tests.tracking.conftest import Example


def events(folder: Path) -> list[Any]:
    """Decode the event file of a folder; lengths and checksums must be right."""
    from tensorboard.compat.proto import event_pb2

    (path,) = folder.glob("events.out.tfevents.*")
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        message = content[12 : 12 + size]
        assert framed(message) == content[: 16 + size]
        found.append(event_pb2.Event.FromString(message))
        content = content[16 + size :]
    return found


def scalars(folder: Path) -> dict[tuple[int, str], float]:
    return {
        (event.step, value.tag): value.simple_value
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def test_checksum_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_a_run_is_found_in_the_events(example: Example):
    found = scalars(example.folder / "tensorboard")
    assert found[1, "reward/mean"] == pytest.approx(0.625)
    assert found[4, "length/mean"] == pytest.approx(34)
    assert math.isnan(found[2, "policy/loss"])
    assert found[0, "eval/sampled_accuracy"] == pytest.approx(0.4)
    assert not any(tag.startswith("health/stage") for _, tag in found)  # text has no curve


def test_samples_are_text_that_cannot_become_markup(tmp_path: Path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.start()
    tracker.log_samples(3, "greedy", [{"response": "# a\r<b>\n\ud800"}])
    tracker.finish(None)
    (value,) = events(tmp_path)[1].summary.value
    assert value.tag == "eval/greedy_samples"
    assert value.tensor.string_val[0].decode() == "**response**\n\n    # a\n    <b>\n    ?"


def test_tensorboard_itself_reads_the_file(example: Example):
    pytest.importorskip("absl", reason="tensorboard's reader needs absl-py")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(example.folder / "tensorboard"))
    accumulator.Reload()
    assert [point.step for point in accumulator.Scalars("reward/mean")] == [1, 2, 3, 4]
    assert [point.step for point in accumulator.Tensors("eval/sampled_samples")] == [0, 4]
