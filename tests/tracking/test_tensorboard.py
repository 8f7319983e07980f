import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2

from grpo.tracking.trackers.tensorboard import TensorBoardTracker
from tests.tracking.conftest import Example


def values(folder: Path) -> dict[tuple[int, str], object]:
    """What tensorboard reads from a folder, by step and tag."""
    (path,) = folder.glob("events.out.tfevents.*")
    events = (event_pb2.Event.FromString(raw) for raw in RawEventFileLoader(str(path)).Load())
    return {(event.step, value.tag): value for event in events for value in event.summary.value}


def test_a_run_is_found_in_the_events(example: Example):
    found = values(example.folder / "tensorboard")
    rewards = [found[step, "reward/mean"].simple_value for step in (1, 2, 3, 4)]
    assert rewards == [0.625, 0.75, 0.875, 1.0]
    assert found[0, "eval/sampled_accuracy"].simple_value == pytest.approx(0.4)
    assert not any(tag.startswith("stage/number") for _, tag in found)  # text has no curve


def test_a_metric_that_is_nan_stays_nan(example: Example):
    found = values(example.folder / "tensorboard")
    assert math.isnan(found[2, "policy/loss"].simple_value)
    assert found[4, "policy/loss"].simple_value == pytest.approx(0.04)


def test_the_end_of_a_stage_is_text_with_its_reason(tmp_path: Path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.start()
    tracker.log_switch(3, {"from": "short", "to": "long", "reason": "3 of 3 steps"})
    tracker.finish(None)
    value = values(tmp_path)[3, "stage/switches/text_summary"]
    assert value.tensor.string_val == [b"short -> long: 3 of 3 steps"]


def test_samples_are_text_that_cannot_become_markup(tmp_path: Path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.start()
    tracker.log_samples(3, "greedy", [{"response": "# a\r<b>\n\ud800"}])
    tracker.finish(None)
    value = values(tmp_path)[3, "eval/greedy_samples/text_summary"]
    text = value.tensor.string_val[0].decode()
    assert text == "**response**\n\n    # a\n    <b>\n    ?"
