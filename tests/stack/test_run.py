"""A whole run through the front door: `python -m grpo.train`, three steps on the real stack."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from grpo.common.provenance import git_hash
from tests.models import SMALL_MODEL
from tests.stack.conftest import OVERRIDES
from tests.tracking import wandb_file

pytestmark = pytest.mark.stack

GOLDEN = Path(__file__).parent / "golden_run.json"
STEP_KEYS = {
    "step", "stage", "reward", "reward_std", "reward/accuracy", "reward/format", "accuracy", "format",
    "response_length", "response_length_max", "truncation_share", "zero_variance_share", "entropy", "loss",
    "ratio_max", "clip_share", "grad_norm", "lr", "weight_max", "logprob_gap_mean", "logprob_gap_max", "weight_version",
    "generated_tokens", "tokens_per_second", "seconds/sample", "seconds/score", "seconds/learn",
    "seconds/transfer", "seconds/idle",
}  # fmt: skip
ROW_KEYS = {
    "step", "problem_id", "prompt", "response", "gold", "reward", "components", "reasons", "advantage", "length",
    "finish_reason", "weight_version", "seed",
}  # fmt: skip
TIMED = ("seconds/", "tokens_per_second")


def command(folder, *overrides, launcher=()):
    return [
        *(sys.executable, *launcher, "-m", "grpo.train", "--config-name", "tiny"),
        *(*OVERRIDES, f"model.path={SMALL_MODEL}", "trainer.max_steps=3", "evaluation.every=2"),
        *("evaluation.interim_problems=8", "tracking.wandb.mode=offline", f"output_dir={folder}"),
        *("checkpoint.every=1", *overrides),
    ]


def train(folder, *overrides):
    done = subprocess.run(command(folder, *overrides), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def steps(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward_std" in row]


def rollouts(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "rollouts").iterdir())}


def untimed(rows):
    return [{key: value for key, value in row.items() if not key.startswith(TIMED)} for row in rows]


def listeners(root):
    """(command, address) of every TCP socket on which a process waits for connections: `root` and
    all that descend from it. Addresses are as the kernel writes them, in hexadecimal.
    """
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = status.read_text().rpartition(")")[2]
            parents[int(status.parent.name)] = int(text.split()[1])
    family, size = {root}, 0
    while size < len(family):
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].partition(":")[0]
    found = set()
    for process in family:
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")[:120]
            for handle in Path(f"/proc/{process}/fd").iterdir():
                target = str(handle.readlink())
                if target in sockets:
                    found.add((name, sockets[target]))
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The folder of a run, and where its processes listened while it worked."""
    folder, found = tmp_path_factory.mktemp("run") / "first", set()
    with (folder.parent / "log").open("w") as log:
        run = subprocess.Popen(command(folder), stdout=log, stderr=log)
        deadline = time.monotonic() + 400
        while run.poll() is None and time.monotonic() < deadline:
            found |= listeners(run.pid)
            time.sleep(0.3)
        run.kill()
    assert run.wait() == 0, (folder.parent / "log").read_text()[-6000:]
    return folder, found


@pytest.fixture(scope="module")
def run_folder(watched):
    return watched[0]


def test_a_private_run_listens_on_the_loopback_address_alone(watched):
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    open_to_others = {(name, address) for name, address in watched[1] if address not in loopback}
    assert open_to_others == set()
    # Ray's own processes, an engine and a rank were among those that were looked at.
    names = " ".join(name for name, _ in watched[1])
    assert all(part in names for part in ("gcs_server", "raylet", "RolloutWorker", "LearnerWorker"))


def test_every_step_is_recorded_with_every_key(run_folder):
    rows = steps(run_folder)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert set(row) >= STEP_KEYS
    assert all(row["logprob_gap_mean"] <= 1e-5 for row in rows)


def test_every_sample_is_kept_with_the_version_of_the_weights_that_made_it(run_folder):
    for step in (1, 2, 3):
        lines = (run_folder / "rollouts" / f"step_{step:06d}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == 32
        assert {row["weight_version"] for row in rows} == {step - 1}
        assert len({row["seed"] for row in rows}) == 32
        assert all(row["finish_reason"] in ("stop", "length") for row in rows)


def test_the_record_of_a_sample_agrees_with_itself_and_with_the_metrics(run_folder):
    for metrics in steps(run_folder):
        lines = (
            (run_folder / "rollouts" / f"step_{metrics['step']:06d}.jsonl").read_text().splitlines()
        )
        rows = [json.loads(line) for line in lines]
        for row in rows:
            assert set(row) == ROW_KEYS
            assert row["prompt"].startswith("User: ") and row["prompt"].endswith("\nAssistant:")
            parts = row["components"]
            assert row["reward"] == pytest.approx(parts["accuracy"] + 0.1 * parts["format"])
            assert set(row["reasons"]) == set(parts) == {"accuracy", "format"}
            if parts["accuracy"] == 1:
                assert row["gold"] in row["response"]
        for i in range(0, len(rows), 4):
            group = rows[i : i + 4]
            assert len({row["prompt"] for row in group}) == 1
            assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-9)
            best = max(group, key=lambda row: row["reward"])
            assert best["advantage"] == max(row["advantage"] for row in group)
        assert metrics["accuracy"] == pytest.approx(
            sum(row["components"]["accuracy"] for row in rows) / len(rows)
        )
        assert metrics["generated_tokens"] == sum(row["length"] for row in rows)


def test_wandb_and_tensorboard_hold_the_run(run_folder):
    (log,) = run_folder.glob("wandb/offline-run-*/*.wandb")
    rows = wandb_file.history(log)
    recorded = {row["step"]: row["reward"] for row in steps(run_folder)}
    assert {
        row["step"]: row["reward/mean"] for row in rows if "reward/mean" in row
    } == pytest.approx(recorded)
    run = next(record.run for record in wandb_file.records(log) if record.HasField("run"))
    config = wandb_file.items(run.config.update)
    assert config["recipe"] == "tiny" and config["batch"]["num_samples"] == 4
    assert config["git_hash"] == git_hash()
    tables = {
        row["step"]: row["eval/sampled_samples/path"]
        for row in rows
        if "eval/sampled_samples/path" in row
    }
    assert sorted(tables) == [0, 2, 3]
    timed = [row["step"] for row in rows if row.get("speed/seconds_evaluate", 0) > 0]
    assert timed == [0, 2, 3]  # once for both ways of sampling
    for step, path in tables.items():
        table = json.loads((log.parent / "files" / path).read_text())
        assert set(table["columns"]) >= {"step", "prompt", "response", "gold", "reward"}
        assert "advantage" not in table["columns"]
        assert {row[table["columns"].index("step")] for row in table["data"]} == {step}
    assert list(run_folder.glob("tensorboard/events.*"))


def test_the_summary_compares_base_and_final(run_folder):
    summary = json.loads((run_folder / "summary.json").read_text())
    for side in ("base", "final"):
        for way in ("sampled", "greedy"):
            assert {"accuracy", "format", "response_length"} <= set(summary[side][way])
    assert summary["steps"] == 3
    assert summary["generated_tokens"] == sum(row["generated_tokens"] for row in steps(run_folder))
    assert summary["verdict"] in ("improved", "unchanged", "worse")
    assert {"torch", "ray", "deepspeed"} <= set(summary["versions"])


def test_the_policy_is_a_hugging_face_folder_with_changed_weights(run_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run_folder / "policy")
    assert AutoTokenizer.from_pretrained(run_folder / "policy").eos_token_id is not None
    before, after = (
        load_file(SMALL_MODEL / "model.safetensors"),
        load_file(run_folder / "policy/model.safetensors"),
    )
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) == len(before)
    assert torch.equal(model.state_dict()["model.norm.weight"], after["model.norm.weight"])


def test_nothing_half_written_is_left(run_folder):
    assert not list(run_folder.rglob("*.partial"))
    assert {"config.yaml", "metrics.jsonl", "summary.json", "rollouts", "policy", "plots"} <= {
        path.name for path in run_folder.iterdir()
    }


def test_a_run_that_was_killed_and_started_again_is_the_same_run(run_folder, tmp_path):
    again = tmp_path / "second"
    unwatched = (
        "tracking.plots=false",
        "tracking.tensorboard=false",
        "tracking.wandb.mode=disabled",
    )
    with subprocess.Popen(
        command(again, *unwatched), stdout=subprocess.DEVNULL, start_new_session=True
    ) as one:
        try:
            deadline = time.monotonic() + 300
            while not (again / "checkpoints/step_000002").exists() and one.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            os.killpg(one.pid, signal.SIGKILL)
    train(again, *unwatched)
    assert untimed(steps(again)) == untimed(steps(run_folder))
    assert rollouts(again) == rollouts(run_folder)
    first, second = (json.loads((f / "summary.json").read_text()) for f in (run_folder, again))
    assert first["weights_sha256"] == second["weights_sha256"]


def test_under_torchrun_it_is_the_same_run_although_a_signal_to_one_rank_stops_it(
    run_folder, tmp_path
):
    """SIGTERM comes to rank 1 in the middle of the first update. All ranks end after that step, and
    the same command goes on.
    """
    plan = tmp_path / "plan.json"
    where = {"point": "learner.forward", "where": {"rank": 1}, "action": "term"}
    plan.write_text(json.dumps([where]))
    both = command(
        tmp_path / "run",
        *("runtime=torchrun", "rollout.num_engines=2", "tracking.plots=false"),
        *("tracking.tensorboard=false", "tracking.wandb.mode=disabled"),
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    )
    environment = {**os.environ, "CHAOS_PLAN": str(plan)}
    for attempt in (1, 2):
        done = subprocess.run(both, capture_output=True, text=True, timeout=400, env=environment)
        told = done.stdout[-2000:] + done.stderr[-4000:]
        if attempt == 1:
            assert (done.returncode, len(steps(tmp_path / "run"))) == (1, 1), told
            assert done.stderr.count("goes on after step 1") == 1, told
            # The first one to end; torchrun ends the other one if that takes longer.
            assert "exitcode  : 75" in done.stderr.partition("Root Cause")[2], told
        else:
            assert done.returncode == 0, told
    assert rollouts(tmp_path / "run") == rollouts(run_folder)  # tokens, log-probs, texts, rewards
    for ours, theirs in zip(steps(tmp_path / "run"), steps(run_folder), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)


def test_a_run_whose_engine_and_rank_were_killed_is_the_same_run(run_folder, tmp_path):
    """The only engine dies while it samples, and a rank before its update. `make chaos` does more."""
    plan = [
        {"point": "engine.finished", "action": "kill"},
        {"point": "learner.step", "where": {"rank": 1}, "action": "kill"},
    ]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    quiet = ("tracking.tensorboard=false", "tracking.plots=false", "tracking.wandb.mode=disabled")
    done = subprocess.run(
        command(tmp_path / "broken", *quiet),
        env={**os.environ, "CHAOS_PLAN": str(tmp_path / "plan.json")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(list(tmp_path.glob("plan.json.struck_*"))) == 2
    told = done.stderr + done.stdout
    assert "32 samples were there already" in told
    # Our words, and not Ray's as well.
    assert "A worker died or was killed" not in told
    assert untimed(steps(tmp_path / "broken")) == untimed(steps(run_folder))
    assert rollouts(tmp_path / "broken") == rollouts(run_folder)
    chains = [(f / "chain.jsonl").read_bytes() for f in (run_folder, tmp_path / "broken")]
    assert chains[0] == chains[1]


def test_the_run_reproduces_the_recorded_one(run_folder):
    """A refactor must not move these numbers. A change that means to: `python -m
    tests.stack.test_run`.

    The loss of an on-policy step is 0 but for rounding; what a wrong loss moves is its gradient
    norm.
    """
    recorded = json.loads(GOLDEN.read_text())
    for row, golden in zip(steps(run_folder), recorded, strict=True):
        for key, value in golden.items():
            assert row[key] == pytest.approx(value, rel=1e-3, abs=1e-6), (row["step"], key)


def test_a_checkpoint_can_be_evaluated_alone(run_folder, tmp_path):
    """By `grpo eval`, which finds the samples of the run's last evaluation again."""
    from grpo.commands.evaluate import main

    held_out = next(o for o in OVERRIDES if o.startswith("data.held_out="))
    settings = [
        "recipe=tiny",
        f"model={run_folder / 'policy'}",
        held_out.replace("data.held_out=", "sources.held_out="),
        *("rollout.num_engines=1", "rollout.max_model_len=512"),
        *(f"output_dir={tmp_path / 'eval'}", f"pass_rates={tmp_path / 'rates.jsonl'}"),
    ]
    assert main(settings) == 0
    written = (tmp_path / "eval" / "samples.jsonl").read_bytes()
    result = json.loads((tmp_path / "eval" / "result.json").read_text())
    summary = json.loads((run_folder / "summary.json").read_text())
    assert result["model"]["weights_sha256"] == summary["weights_sha256"]
    # The exported policy answers exactly as the trained one did.
    found, final = result["sets"]["held_out"], summary["final"]["sampled"]
    assert found["accuracy"] == final["accuracy"]
    assert found["interval"] == [final["accuracy_low"], final["accuracy_high"]]
    assert found["pass_at"]["8"] == final["pass@8"]
    assert found["mean_length"] == final["response_length"]
    assert found["reward"] == pytest.approx(final["reward"])
    assert len((tmp_path / "rates.jsonl").read_text().splitlines()) == found["num_problems"] == 16
    # As if killed: one problem is missing and another is incomplete. Only these are sampled again.
    lines = written.splitlines(keepends=True)
    (tmp_path / "eval" / "samples.jsonl").write_bytes(b"".join(lines[:8] + lines[16:-1]))
    assert main(settings) == 0
    assert (tmp_path / "eval" / "samples.jsonl").read_bytes() == written
    assert json.loads((tmp_path / "eval" / "result.json").read_text()) == result


if __name__ == "__main__":
    import tempfile

    keys = (
        "reward",
        "accuracy",
        "format",
        "response_length",
        "loss",
        "entropy",
        "grad_norm",
        "generated_tokens",
    )
    with tempfile.TemporaryDirectory() as parent:
        rows = steps(train(Path(parent) / "golden"))
    GOLDEN.write_text(
        json.dumps([{key: row[key] for key in keys} for row in rows], indent=1) + "\n"
    )
