"""The real stack, once for all tests that can share it: one engine, two learner ranks, a small
model.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from benchmarks.logprob_gap import untie
from grpo.config import TrainConfig, load_config
from grpo.inputs import load_inputs
from grpo.parts import start_parts
from tests.models import SMALL_MODEL

OVERRIDES = [
    "model.base=null",
    "data.train={source: arithmetic, num_problems: 64, arithmetic: {lengths: [3], max_term: 9}}",
    "data.held_out={source: arithmetic, num_problems: 16, arithmetic: {lengths: [3], max_term: 9}}",
    "batch.num_prompts=8",
    "batch.num_samples=4",
    # not the recipe's, which may be tuned: the recorded run must stay what it is
    "optimizer={lr: 1.0e-3, schedule: constant}",
    "algorithm.aggregation=seq-mean-token-mean",
    "sampling.max_response_tokens=40",
    "rollout.num_engines=1",
    "rollout.max_model_len=512",
    "tracking.wandb.mode=disabled",
]


@dataclass
class Stack:
    """A living stack."""

    config: TrainConfig
    inputs: object
    rollouts: object
    learner: object


@contextmanager
def running(model_folder, *overrides):
    """The stack of the tiny recipe on a given model, weights handed over once as version 0."""
    config = load_config("tiny", [*OVERRIDES, f"model.path={model_folder}", *overrides])
    inputs = load_inputs(config, print)
    with start_parts(config, inputs, print) as (rollouts, learner):
        learner.connect(rollouts)
        learner.push_weights(0)
        yield Stack(config, inputs, rollouts, learner)


@pytest.fixture(scope="module", params=["tied", "untied"])
def stack(request, tmp_path_factory):
    """Both kinds of output weight, one after the other."""
    folder = (
        SMALL_MODEL
        if request.param == "tied"
        else untie(SMALL_MODEL, tmp_path_factory.mktemp("untied"))
    )
    with running(folder) as living:
        yield living
