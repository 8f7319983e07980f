"""A staged run on the real stack: limits that go up and down, weights that go back, problems that
change, and a run that goes on right where a switch was asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.runtime.test_in_process import train
from tests.stack import warm
from tests.stack.test_run import untimed

pytestmark = pytest.mark.stack

STAGES = """stages=[
    {name: short, max_response_tokens: 6, until: {max_steps: 3}},
    {name: long, max_response_tokens: 40, num_prompts: 4, restart_from: 1, optimizer: reset,
     subset: {prompt_tokens: [0, 18]}, until: {all: [{max_steps: 1}, {max_tokens: 1}]}},
    {name: again, max_response_tokens: 12, num_samples: 2, temperature: 0.7, lr: 1.0e-9,
     set: {algorithm.advantage_std: none}, until: {max_steps: 2}}]"""
SETTINGS = (
    *("runtime=in_process", "learner.num_ranks=1", "trainer.max_steps=50", "checkpoint.every=0"),
    *("evaluation.every=0", "health.weight_check_every=1", "checkpoint.keep=4"),
    " ".join(STAGES.split()),
)


def read(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "switch" in row]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, train(folder, *SETTINGS)


def test_stages_follow_each_other_by_themselves_and_the_record_says_why(run):
    folder, rows = run
    assert [row["stage"] for row in rows] == [1, 1, 1, 2, 3, 3]
    first, second, third = read(folder)
    assert (first["step"], first["switch/from"], first["switch/to"]) == (3, "short", "long")
    assert first["switch/reason"] == "3 of 3 steps"
    assert (second["step"], second["switch/to"]) == (4, "again")
    # The last stage's own condition ends the run, long before trainer.max_steps.
    assert (third["step"], third["switch/to"]) == (6, "end")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 6


def test_each_stage_has_its_own_limit_batch_and_learning_rate(run):
    _, rows = run
    assert all(row["response_length_max"] <= 6 for row in rows[:3])
    assert 12 < rows[3]["response_length_max"] <= 40
    assert all(row["response_length_max"] <= 12 for row in rows[4:])
    assert [row["groups_sampled"] for row in rows] == [8, 8, 8, 4, 8, 8]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3] * 4 + [1e-9] * 2)


def test_a_stage_that_goes_back_gets_new_versions_and_the_data_goes_on(run):
    folder, rows = run
    # Versions 0, 1, 2 made steps 1 to 3; version 4 is step 1's weights, which come again.
    assert [row["weight_version"] for row in rows] == [0, 1, 2, 4, 5, 6]
    assert all(row["logprob_gap_mean"] < 1e-5 for row in rows)
    seen = [
        json.loads(line)["problem_id"]
        for step in (1, 2, 3)
        for line in (folder / f"rollouts/step_{step:06d}.jsonl").read_text().splitlines()
    ]
    assert len(set(seen)) == 24  # no problem twice within an epoch


def test_checkpoints_that_a_later_stage_names_are_written_and_kept(run):
    folder, _ = run
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["step_000001", "step_000003", "step_000004", "step_000006"]


def test_steps_of_every_stage_can_be_done_again_to_the_last_bit(run):
    """Switches and weights that go back included; they depend on what the steps bring."""
    folder, _ = run
    done = warm.run("grpo.commands.verify", folder, "--steps", 6)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "the same to the last bit: steps 1, 2, 3, 4, 5, 6" in done.stdout


def test_a_run_that_was_stopped_at_a_switch_makes_it_when_it_goes_on(run, tmp_path):
    folder, rows = run
    checkpoint = folder / "checkpoints/step_000003"
    assert json.loads((checkpoint / "state.json").read_text())["pending"]["target"] == "long"
    again = tmp_path / "again"
    rerun = train(again, *SETTINGS, f"resume={checkpoint}")
    assert untimed(rerun) == untimed(rows[3:])


def test_a_stage_with_more_engines_and_ranks_gets_them_and_goes_on_with_the_weights(tmp_path):
    """Other processes are started on Ray: one engine and one rank become two of each."""
    stages = """stages=[{name: small, until: {max_steps: 1}},
        {name: large, num_engines: 2, set: {learner.num_ranks: 2, learner.cpus_per_rank: 0.5}}]"""
    settings = ("learner.num_ranks=1", "learner.cpus_per_rank=1", "evaluation.every=0")
    rows = train(tmp_path / "staged", *settings, " ".join(stages.split()))
    assert [row["stage"] for row in rows] == [1, 2]
    assert all(row["logprob_gap_mean"] < 1e-5 for row in rows)
    ranks = tmp_path / "staged/checkpoints/step_000002/learner"
    assert len(list(ranks.iterdir())) == 2
    alone = train(tmp_path / "alone", *settings, "runtime=in_process")
    for key in ("reward", "response_length", "generated_tokens"):
        assert rows[1][key] == alone[1][key], key
    assert rows[1]["grad_norm"] == pytest.approx(alone[1]["grad_norm"], rel=1e-4)
    # From the model itself, with one engine and rank, to the second stage with two of each.
    verify = [sys.executable, "-m", "grpo.commands.verify", str(tmp_path / "staged"), "--at", "2"]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "the same to the last bit: steps 1, 2" in done.stdout
