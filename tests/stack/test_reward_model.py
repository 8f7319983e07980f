"""Two steps of a run whose rewards come from a reward model as well as from rules."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from rewards.preference.model import Exchange
from rewards.preference.sequence_classifier import SequenceClassifier
from rewards.preference.settings import PreferenceSettings
from tests.models import SMALL_MODEL
from tests.rewards.test_preference import make_reward_model
from tests.runtime.test_in_process import train

pytestmark = pytest.mark.stack


def test_a_run_learns_from_what_a_reward_model_gives_its_samples(tmp_path):
    model = make_reward_model(tmp_path / "model", SMALL_MODEL)
    liked = f"{{kind: preference, model: {model}, reads: everything, rows: all, weight: 2.0}}"
    rows = train(
        tmp_path / "run",
        *("runtime=in_process", "learner.num_ranks=1", "evaluation.every=0"),
        f"+rewards.components.liked={liked}",
    )
    settings = PreferenceSettings(model=str(model))
    judge = SequenceClassifier(asdict(settings))
    for step, row in enumerate(rows, start=1):
        lines = (tmp_path / f"run/rollouts/step_{step:06d}.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines]
        questions = [
            sample["prompt"].removeprefix("User: ").removesuffix("\nAssistant:")
            for sample in samples
        ]
        scores = [sample["components"]["liked"] for sample in samples]
        for i in (0, 13, 31):
            [output] = judge.score([judge.prepare(Exchange(questions[i], samples[i]["response"]))])
            assert scores[i] == pytest.approx(settings.bounded(output), rel=1e-4)
        assert max(scores) - min(scores) > 0.1
        assert row["reward/liked"] == pytest.approx(sum(scores) / len(scores))
        assert row["ungraded"] == 0
        for sample in samples:
            parts = sample["components"]
            total = parts["accuracy"] + 0.1 * parts["format"] + 2 * parts["liked"]
            assert sample["reward"] == pytest.approx(total)
        # Each group is compared by these rewards: the best of it has the largest advantage.
        for i in range(0, len(samples), 4):
            group = samples[i : i + 4]
            order = sorted(range(4), key=lambda j: group[j]["reward"])
            assert order == sorted(range(4), key=lambda j: group[j]["advantage"])
        assert row["grad_norm"] > 0
