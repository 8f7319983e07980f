"""Batches that are sampled one step ahead: of which weights, at the same time, and after a stop."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from grpo import batches as module
from grpo.batches import Batches
from grpo.config import load_config
from grpo.rollout.batch_rules import Batch
from grpo.rollout.journal import Journal


class Stream:
    """Draws numbers in order."""

    def __init__(self):
        self.cursor = 0

    def state_dict(self):
        return {"cursor": self.cursor}

    def load_state_dict(self, state):
        self.cursor = state["cursor"]


class Clock:
    def __init__(self):
        self.laps = []

    def add(self, phase, seconds):
        self.laps.append(phase)

    def lap(self, phase):
        self.laps.append(phase)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Batches whose one group says what was drawn and by which weights."""
    gate = threading.Event()
    gate.set()

    def fill(rules, sample, stream, settings, step, rollouts, scorer):
        stream.cursor += 1
        drawn = stream.cursor
        assert gate.wait(10)
        rollouts.num_made = 7  # nothing is in the journal
        return Batch([(step, drawn, rollouts.version)], [], [])  # type: ignore[list-item]

    monkeypatch.setattr(module, "fill_batch", fill)

    def make(staleness, state=None, notice=print):
        config = load_config(
            "tiny",
            [
                f"rollout.max_staleness={staleness}",
                "trainer.max_steps=4",
                "algorithm.mismatch.correction=truncate",
            ],
        )
        if state is None:
            state = SimpleNamespace(step=0, weight_version=0, ahead=None, stream=Stream())
        journal = Journal(tmp_path / "journal", "x", print)
        return Batches(config, state, None, None, None, journal, notice), state, gate  # type: ignore[arg-type]

    return make


def steps(batches, state, count):
    found = []
    for _ in range(count):
        (sampled,) = batches.next(Clock()).sampled
        batches.begin_next()
        batches.wait(Clock())
        state.step += 1
        state.weight_version += 1
        found.append(sampled)
    return found


def test_without_staleness_every_batch_is_of_the_weights_of_its_step(work):
    batches, state, _ = work(0)
    assert steps(batches, state, 4) == [(1, 1, 0), (2, 2, 1), (3, 3, 2), (4, 4, 3)]
    assert state.ahead is None


def test_one_step_ahead_every_batch_but_the_first_is_one_version_old(work):
    batches, state, _ = work(1)
    assert steps(batches, state, 4) == [(1, 1, 0), (2, 2, 0), (3, 3, 1), (4, 4, 2)]
    assert state.stream.cursor == 4  # nothing is sampled beyond the last step


def test_sampling_goes_on_while_the_learner_works(work):
    batches, _, gate = work(1)
    batches.next(Clock())
    gate.clear()
    batches.begin_next()  # returns although the engines are not done
    gate.set()
    batches.wait(Clock())


def test_a_run_that_goes_on_takes_the_batch_that_was_sampled_ahead(work):
    batches, state, _ = work(1)
    steps(batches, state, 2)
    # As a checkpoint has it. The stream has drawn for step 3 already.
    saved = SimpleNamespace(step=2, weight_version=2, ahead=dict(state.ahead), stream=Stream())
    saved.stream.cursor = state.stream.cursor
    again, state_again, _ = work(1, saved)
    assert steps(again, state_again, 2) == steps(batches, state, 2) == [(3, 3, 1), (4, 4, 2)]


def test_samples_that_the_journal_lacks_are_told_where_other_weights_made_them_ahead(work):
    batches, state, _ = work(1)
    steps(batches, state, 2)
    told = []
    again, state_again, _ = work(1, state, told.append)
    steps(again, state_again, 2)
    (notice,) = told  # step 4 is sampled by the weights that it should have
    assert "step 3: 7 samples that weights 1 made ahead are not in the journal" in notice


def test_what_was_sampled_ahead_is_given_back_where_a_stage_ends(work):
    batches, state, _ = work(1)
    steps(batches, state, 2)
    batches.drop()
    assert state.ahead is None and state.stream.cursor == 2
