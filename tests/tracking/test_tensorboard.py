import math
from pathlib import Path

import pytest

from grpo.tracking.trackers.tensorboard import TensorBoardTracker
from tests.tracking.conftest import Example

pytest.importorskip("absl", reason="tensorboard's reader needs absl-py")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_tensorboard_finds_the_run_in_the_events(example: Example):
    found = read(example.folder / "tensorboard")
    rewards = [(point.step, point.value) for point in found.Scalars("reward/mean")]
    assert rewards == [(1, 0.625), (2, 0.75), (3, 0.875), (4, 1.0)]
    assert found.Scalars("eval/sampled_accuracy")[0].value == pytest.approx(0.4)
    assert "health/stage" not in found.Tags()["scalars"]  # text has no curve


def test_a_metric_that_is_nan_stays_nan(example: Example):
    losses = {
        point.step: point.value
        for point in read(example.folder / "tensorboard").Scalars("policy/loss")
    }
    assert math.isnan(losses[2]) and losses[4] == pytest.approx(0.04)


def test_samples_are_text_that_cannot_become_markup(tmp_path: Path):
    tracker = TensorBoardTracker(tmp_path)
    tracker.start()
    tracker.log_samples(3, "greedy", [{"response": "# a\r<b>\n\ud800"}])
    tracker.finish(None)
    (event,) = read(tmp_path).Tensors("eval/greedy_samples/text_summary")
    assert event.step == 3
    text = event.tensor_proto.string_val[0].decode()
    assert text == "**response**\n\n    # a\n    <b>\n    ?"
