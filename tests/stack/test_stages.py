"""A staged run on the real stack: limits that go up and down, weights that go back, problems that
change, and a run that goes on right where a switch was asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from safetensors import safe_open

from grpo.commands.verify import main as verify
from grpo.tracking.record import read_rollouts
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


def problems(folder, steps):
    """Ids of the problems of some steps."""
    return {
        json.loads(line)["problem_id"]
        for step in steps
        for line in (folder / f"rollouts/step_{step:06d}.jsonl").read_text().splitlines()
    }


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
    assert len(problems(folder, (1, 2, 3))) == 24  # no problem twice within an epoch
    # The last stage draws from all problems again, behind what the first one drew.
    assert len(problems(folder, (1, 2, 3, 5, 6))) == 40


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


LARGER = """stages=[{name: small, until: {max_steps: 1}},
    {name: large, num_engines: 2, set: {learner.num_ranks: 2, learner.cpus_per_rank: 0.5}}]"""
ALONE = ("learner.num_ranks=1", "learner.cpus_per_rank=1", "evaluation.every=0")


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory):
    """One engine and one rank become two of each, so other processes are started."""
    folder = tmp_path_factory.mktemp("ray") / "staged"
    return folder, train(folder, *ALONE, " ".join(LARGER.split()))


def test_a_stage_with_more_engines_and_ranks_gets_them_and_goes_on_with_the_weights(
    on_ray, tmp_path
):
    folder, rows = on_ray
    assert [row["stage"] for row in rows] == [1, 2]
    assert all(row["logprob_gap_mean"] < 1e-5 for row in rows)
    assert len(list((folder / "checkpoints/step_000002/learner").iterdir())) == 2
    alone = train(tmp_path / "alone", *ALONE, "runtime=in_process")
    for key in ("reward", "response_length", "generated_tokens"):
        assert rows[1][key] == alone[1][key], key
    assert rows[1]["grad_norm"] == pytest.approx(alone[1]["grad_norm"], rel=1e-4)


def test_verify_does_a_switch_of_stages_and_two_engines_and_ranks_again(on_ray):
    folder, _ = on_ray
    done = subprocess.run(
        [sys.executable, "-m", "grpo.commands.verify", str(folder)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "starting 2 vLLM engines and 2 ZeRO-3 learner ranks" in done.stdout
    assert done.stdout.endswith("the same to the last bit: steps 1, 2\n")


def test_a_changed_byte_of_samples_or_weights_is_found_before_anything_starts(
    on_ray, tmp_path, capsys
):
    def told(name):
        """What verify says of the copy of a run."""
        assert verify([str(tmp_path / name)]) == 1
        return capsys.readouterr().out

    def flip(path, offset):
        raw = bytearray(path.read_bytes())
        raw[offset] ^= 1
        path.write_bytes(bytes(raw))

    for name in ("samples", "weights", "listed"):
        shutil.copytree(on_ray[0], tmp_path / name)
    # Log-probs are stored as they are, so the bytes of one are found in the archive.
    samples = tmp_path / "samples/rollouts/step_000002.npz"
    logprob = read_rollouts(tmp_path / "samples", 2)[0]["logprobs"][:4].tobytes()
    flip(samples, samples.read_bytes().index(logprob))
    assert "step 2, " in told("samples")
    place = "checkpoints/step_000002/learner/rank_001.safetensors"
    with safe_open(tmp_path / "weights" / place, "np") as file:
        part = file.get_tensor("model.model.norm.weight weight").tobytes()
    offset = (tmp_path / "weights" / place).read_bytes().index(part)
    flip(tmp_path / "weights" / place, offset)
    assert f"{tmp_path / 'weights' / place} is not what was written" in told("weights")
    # A manifest that was written anew does not hide it: the chain has hashes of the weights.
    flip(tmp_path / "listed" / place, offset)
    manifest = tmp_path / "listed/checkpoints/step_000002/manifest.json"
    listed = json.loads(manifest.read_text())
    raw = (tmp_path / "listed" / place).read_bytes()
    listed["files"]["learner/rank_001.safetensors"]["sha256"] = hashlib.sha256(raw).hexdigest()
    manifest.write_text(json.dumps(listed))
    assert "step 2, weights of the checkpoint: " in told("listed")


BACK = """stages=[{name: there, until: {max_steps: 3}},
    {name: back, restart_from: best, best: {metric: weight_version, mode: min}, optimizer: keep,
     refresh_reference: true, lr: 1.0e-30, until: {max_steps: 1}},
    {name: onward, until: {max_steps: 2}}]"""
BACK_SETTINGS = (
    *("runtime=in_process", "learner.num_ranks=1", "trainer.max_steps=50", "checkpoint.every=1"),
    *("evaluation.every=0", "checkpoint.keep=2", "algorithm.kl_coef=0.01"),
    " ".join(BACK.split()),
)


@pytest.fixture(scope="module")
def back(tmp_path_factory):
    """Three steps, then back to the checkpoint of the first, which is the best one: it has the
    lowest version. A step that moves no weight shows what it begins with.
    """
    folder = tmp_path_factory.mktemp("back") / "out"
    return folder, train(folder, *BACK_SETTINGS)


def test_the_best_checkpoint_gives_weights_moments_and_reference(back):
    folder, rows = back
    first = read(folder)[0]
    assert first["switch/reason"].endswith("the best checkpoint is step 1, weight_version 0")
    chain = map(json.loads, (folder / "chain.jsonl").read_text().splitlines())
    weights = {link["step"]: link["weights"] for link in chain if "weights" in link}
    assert weights[4] == weights[1] != weights[3]
    # AdamW has done the update of step 1, and then those of steps 4, 5 and 6.
    with safe_open(folder / "checkpoints/step_000006/learner/rank_000.safetensors", "np") as file:
        assert float(file.metadata()["steps"]) == 4
    assert rows[2]["kl"] > 1e-6
    assert rows[3]["kl"] < 1e-12  # to the policy that the stage began with
    assert rows[5]["kl"] > 1e-6


def test_after_going_back_the_next_problems_are_those_after_the_last_ones(back):
    folder, _ = back
    assert len(problems(folder, range(1, 7))) == 48  # none twice


def test_a_run_that_goes_on_in_the_middle_of_a_later_stage_is_the_same_run(back, tmp_path):
    folder, rows = back
    again = tmp_path / "again"
    rerun = train(again, *BACK_SETTINGS, f"resume={folder / 'checkpoints/step_000005'}")
    assert [row["stage"] for row in rerun] == [3]
    assert untimed(rerun) == untimed(rows[5:])
    samples = [(one / "rollouts/step_000006.jsonl").read_bytes() for one in (folder, again)]
    assert samples[0] == samples[1]
    ends = [json.loads((one / "summary.json").read_text()) for one in (folder, again)]
    for key in ("weights_sha256", "chain"):
        assert ends[0][key] == ends[1][key]
