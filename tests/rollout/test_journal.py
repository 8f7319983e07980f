"""The rollout journal gives back what was finished, to the bit, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from grpo.rollout.journal import Journal
from grpo.types import Response, SampleRequest, SamplingSettings

SETTINGS = SamplingSettings(num_samples=2, temperature=1.0, max_tokens=8, seed=0)
REQUESTS = [SampleRequest(key, [1, 2], seed=100 + key) for key in range(3)]
# a float32 that no short decimal is, a line break of Unicode, a character outside the plane
LOGPROBS = [float(np.float32(-1 / 3)), -0.0]
TEXT = "a\u2028b\x85\n\U0001f600"


class Engines:
    """Finishes requests one by one, and can die after some."""

    def __init__(self, dies_after=None):
        self.made, self.dies_after, self.queue = [], dies_after, []

    def submit(self, requests, settings):
        self.queue += requests

    def completed(self):
        for request in self.queue:
            if len(self.made) == self.dies_after:
                raise RuntimeError("died")
            self.made.append(request.key)
            yield [
                Response(
                    request.key, [7, 2**31 - 1], TEXT, LOGPROBS, "stop", 4, request.seed,
                    ((0, 1, 3), (1, 2, 4)),
                )
            ]  # fmt: skip
        self.queue = []


def journal(folder, identity="settings"):
    notices = []
    return Journal(folder / "journal", identity, notices.append), notices


def sample(one, engines, step=5, version=4, requests=REQUESTS):
    with one.step(step, version, engines) as rollouts:
        rollouts.submit(requests, SETTINGS)
        found = [response for batch in rollouts.completed() for response in batch]
    return sorted(found, key=lambda response: response.key)


def test_only_what_was_not_finished_is_made_again(tmp_path):
    one, _ = journal(tmp_path)
    with pytest.raises(RuntimeError):
        sample(one, Engines(dies_after=2))
    again = Engines()
    found = sample(one, again)
    assert again.made == [2]
    assert found == sample(journal(tmp_path / "other")[0], Engines())
    third = Engines()
    assert sample(one, third) == found and third.made == []


def test_a_torn_or_changed_line_ends_what_is_believed(tmp_path):
    one, _ = journal(tmp_path)
    sample(one, Engines())
    (path,) = (tmp_path / "journal").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"stop"', b'"stpp"'), *lines[3:]]))
    engines = Engines()
    sample(one, engines)
    assert engines.made == [1, 2]
    path.write_bytes(path.read_bytes()[:-5])
    engines = Engines()
    sample(one, engines)
    assert engines.made == [2]


@pytest.mark.parametrize("change", ["settings", "version", "step"])
def test_other_settings_weights_and_steps_find_nothing(tmp_path, change):
    sample(journal(tmp_path)[0], Engines())
    engines = Engines()
    one, _ = journal(tmp_path, "other" if change == "settings" else "settings")
    sample(one, engines, step=6 if change == "step" else 5, version=5 if change == "version" else 4)
    assert engines.made == [0, 1, 2]


class OddEngines(Engines):
    """Log-probs that are not finite, for the sample of key 1, so many times."""

    def __init__(self, times, value):
        super().__init__()
        self.times, self.value = times, value

    def completed(self):
        while self.queue:
            request = self.queue.pop(0)
            self.made.append(request.key)
            odd = request.key == 1 and self.made.count(1) <= self.times
            logprobs = [-0.5, self.value if odd else -0.25]
            yield [Response(request.key, [7, 8], TEXT, logprobs, "stop", 4, request.seed)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_log_probs_that_are_not_finite_are_made_once_more(tmp_path, value):
    one, notices = journal(tmp_path)
    engines = OddEngines(1, value)
    assert [r.logprobs for r in sample(one, engines)] == [[-0.5, -0.25]] * 3
    assert engines.made == [0, 1, 2, 1]
    (told,) = notices
    assert "step_000005: the sample with seed 101" in told and "made once more" in told
    assert sample(one, again := Engines()) and again.made == []


def test_log_probs_that_stay_not_finite_are_handed_on_and_not_kept(tmp_path):
    one, notices = journal(tmp_path)
    engines = OddEngines(2, np.nan)
    assert np.isnan(sample(one, engines)[1].logprobs[1])  # the learner sees a bad step
    assert engines.made == [0, 1, 2, 1]
    assert "the second time as well" in notices[1] and len(notices) == 2
    sample(one, again := Engines())
    assert again.made == [1]


def test_samples_without_a_seed_are_made_every_time(tmp_path):
    requests = [dataclasses.replace(request, seed=None) for request in REQUESTS]
    one, _ = journal(tmp_path)
    for _ in range(2):
        engines = Engines()
        sample(one, engines, requests=requests)
        assert engines.made == [0, 1, 2]


def test_journals_of_steps_that_nobody_does_again_are_deleted(tmp_path):
    one, _ = journal(tmp_path)
    for step in (4, 5, 6):
        sample(one, Engines(), step=step)
    one.prune(5)
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["step_000006.jsonl"]


def test_a_run_that_branches_off_takes_over_one_step_and_only_where_it_has_none(tmp_path):
    sample(journal(tmp_path / "first")[0], Engines())
    other, _ = journal(tmp_path / "second")
    other.adopt(tmp_path / "first", 5)
    other.adopt(tmp_path / "first", 6)  # which the first run has not
    engines = Engines()
    assert len(sample(other, engines)) == 3 and engines.made == []
    with pytest.raises(RuntimeError):
        sample(other, Engines(dies_after=1), step=6)
    sample(journal(tmp_path / "first")[0], Engines(), step=6)
    other.adopt(tmp_path / "first", 6)
    engines = Engines()
    sample(other, engines, step=6)
    assert engines.made == [1, 2]


def test_a_disk_that_takes_nothing_is_told_once_and_sampling_goes_on(tmp_path):
    (tmp_path / "journal").write_text("a file where the folder should be")
    one, notices = journal(tmp_path)
    assert len(sample(one, Engines())) == 3
    assert len(notices) == 1 and "cannot be written" in notices[0]
