"""Training over the network: two hosts with their own network, name and shared memory, on this
machine. Their names stand for 127.0.1.1, as on stock Debian. Needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.models import SMALL_MODEL
from tests.stack.hosts import two_hosts, why_not

REASON = why_not()
pytestmark = [pytest.mark.stack, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

ROOT = Path(__file__).parents[2]
MODEL_BYTES = (SMALL_MODEL / "model.safetensors").stat().st_size
QUIET = ("tracking.plots=false", "tracking.tensorboard=false", "tracking.wandb.mode=disabled")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Both hosts, and the environment of their user. The ports are those of launch/cluster.env."""
    folder = tmp_path_factory.mktemp("two")
    short = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))  # that of pytest is too long for sockets
    (short / "s").mkdir()
    own = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "GLOO_SOCKET_IFNAME"}
    environment = {
        **{key: value for key, value in os.environ.items() if key not in own},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
        "RAY_TMPDIR": str(short / "s"),
        "GRPO_HOME": str(folder / "home"),
        "VENV": str(Path(sys.executable).parents[1]),
        "PYTHONPATH": str(ROOT),
    }
    try:
        with two_hosts(short / "s") as (one, two):
            yield one, two, environment
    finally:
        shutil.rmtree(short)


@pytest.fixture(scope="module")
def cluster(network, tmp_path_factory):
    """A Ray cluster over both, with the environment of its driver."""
    one, two, environment = network
    log = tmp_path_factory.mktemp("ray") / "log"
    options = ("--block", "--num-cpus=1", f"--object-store-memory={10**8}")
    one.start([ROOT / "launch/ray_node.sh", "head", *options], environment, log)
    answers = ["bash", "-c", f": </dev/tcp/{one.address}/6379"]
    deadline = time.monotonic() + 240
    while subprocess.run(two.command(answers), capture_output=True).returncode:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    two.start([ROOT / "launch/ray_node.sh", "worker", one.address, *options], environment, log)
    joined = {**environment, "RAY_ADDRESS": f"{one.address}:6379"}
    wait = [sys.executable, ROOT / "launch/wait_nodes.py", "2"]
    done = drive(one, wait, joined)
    assert done.returncode == 0, done.stderr + log.read_text()
    return one, two, joined


def drive(host, command, environment):
    return subprocess.run(
        host.command(command), env=environment, capture_output=True, text=True, timeout=400
    )


def test_ranks_and_engines_of_both_hosts_train_under_ray(cluster, tmp_path):
    """On each a rank and an engine. The weights of each engine are compared with the learner's."""
    one, two, environment = cluster
    before = one.sent(), two.sent()
    recipe = [
        *("--config-name", "tiny", "model.base=null", f"model.path={SMALL_MODEL}", *QUIET),
        *("learner.cpus_per_rank=0.6", "rollout.cpus_per_engine=0.4", "trainer.max_steps=1"),
        *("evaluation.every=0", "evaluation.num_samples=1", "data.held_out.num_problems=16"),
        *("batch.num_prompts=8", "health.weight_check_every=1", f"output_dir={tmp_path / 'run'}"),
    ]
    done = drive(one, [sys.executable, "-m", "grpo.train", *recipe], environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 1
    # Host one has sent all weights to the engine of the other, before and after the step. Host two
    # has sent its half of them to rank 0 each time.
    assert one.sent() - before[0] > 2 * MODEL_BYTES
    assert two.sent() - before[1] > MODEL_BYTES


def test_the_ranks_of_both_hosts_train_under_torchrun(network, tmp_path):
    one, two, environment = network
    before = one.sent(), two.sent()
    expressions = "arithmetic: {lengths: [3], max_term: 9}"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "one:29400", "-m", "grpo.sft"),
        *("--config-name", "sft_tiny", "runtime=torchrun", "rollout.num_engines=2", *QUIET),
        *("model.base=null", f"model.path={SMALL_MODEL}", "data.held_out=null", "rewards=null"),
        f"data.train.options={{num_examples: 16, {expressions}}}",
        f"data.held_out_examples.options={{num_examples: 4, {expressions}}}",
        *("batch.num_examples=8", "trainer={epochs: 1}", f"output_dir={tmp_path / 'run'}"),
    ]
    other = two.start(command, environment, tmp_path / "log")
    done = drive(one, command, environment)
    told = done.stdout[-2000:] + done.stderr[-4000:] + (tmp_path / "log").read_text()[-4000:]
    assert (done.returncode, other.wait(60)) == (0, 0), told
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 2
    # Each step gathers the half of the other rank, forward and backward.
    assert min(one.sent() - before[0], two.sent() - before[1]) > 2 * MODEL_BYTES
