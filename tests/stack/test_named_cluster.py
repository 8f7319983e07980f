"""A cluster of two nodes, started with the scripts of launch/ and protected by a token. Both nodes
are on this machine and have one CPU each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.models import SMALL_MODEL

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
# A driver: joins, starts engines or looks at folders, and says what it found.
DRIVER = """
import sys
from pathlib import Path
from grpo.config import load_config
from grpo.common.command_line import run

def main(argv):
    what, *argv = argv
    from grpo.inputs import load_inputs
    from grpo.parts import start_parts
    from grpo.runtime.ray.cluster import check_folders, reserve
    config = load_config("tiny", argv)
    if what == "parts":
        inputs = load_inputs(config, print)
        Path(config.model.path, "model.safetensors").write_bytes(b"\\x02" + bytes(7) + b"{}")
        with start_parts(config, inputs, print, with_learner=False):
            return 0
    with reserve(config) as cluster:
        print("private" if cluster.local else "joined")
        ids = []
        for role in (cluster.ranks, cluster.engines):
            ids.append({node.id for node in role.nodes})
            print(role.name, len(role.nodes), "on", len(ids[-1]))
        print("apart" if not set.intersection(*ids) else "together")
        if what == "folders":
            check_folders(cluster.ranks.nodes, argv[0].partition("=")[2], [Path("/nowhere/run")])
    return 0

sys.exit(run(main, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment of a user of the running cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    sockets = tempfile.mkdtemp(prefix="g", dir="/tmp")  # that of pytest is too long for them
    ports = {}
    for name in ("RAY_PORT", "RAY_DASHBOARD_PORT"):
        with socket.socket() as free:
            free.bind(("", 0))
            ports[name] = str(free.getsockname()[1])
    # Two nodes on one machine cannot have the same ports: 0 lets Ray choose.
    for name in ("NODE_MANAGER", "OBJECT_MANAGER", "MIN_WORKER", "MAX_WORKER"):
        ports[f"RAY_{name}_PORT"] = "0"
    environment = {
        **{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        **ports,
        "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
        "RAY_TMPDIR": sockets,
        "GRPO_HOME": str(folder / "home"),
        "VENV": str(Path(sys.executable).parents[1]),
        "PYTHONPATH": str(ROOT),
    }
    # The port of another user's Ray on this machine. Where something has it already, so much the better.
    others = socket.socket()
    with contextlib.suppress(OSError):
        others.bind(("", 52365))  # DEFAULT_DASHBOARD_AGENT_LISTEN_PORT of Ray
        others.listen()
    nodes = [start(environment, "head", "--include-dashboard=true")]
    try:
        wait_for(nodes[0], f"127.0.0.1:{ports['RAY_PORT']}")
        wait_for(nodes[0], f"127.0.0.1:{ports['RAY_DASHBOARD_PORT']}")
        # A folder of its own: a node that is given a job's code deletes what lies at its place, and
        # the other node's driver would lose its modules while it imports them.
        nodes.append(start(environment, "worker", f"--temp-dir={sockets}/2"))
        environment["RAY_ADDRESS"] = f"127.0.0.1:{ports['RAY_PORT']}"
        wait = [sys.executable, ROOT / "launch/wait_nodes.py", "2"]
        subprocess.run(wait, env=environment, check=True, timeout=260)
        yield environment
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            try:
                node.wait(30)
            finally:
                os.killpg(node.pid, signal.SIGKILL) if node.poll() is None else None
        shutil.rmtree(sockets, ignore_errors=True)
        others.close()


def start(environment, role, *options):
    head = [f"127.0.0.1:{environment['RAY_PORT']}"] if role == "worker" else []
    return subprocess.Popen(
        [
            *(ROOT / "launch/ray_node.sh", role, *head),
            *("--block", "--num-cpus=1", *options),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(process, address):
    host, port = address.split(":")
    deadline = time.monotonic() + 240
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        assert process.poll() is None and time.monotonic() < deadline, "ray start failed"
        time.sleep(0.2)


def drive(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_run_joins_the_cluster_that_ray_address_names_and_keeps_ranks_and_engines_apart(cluster):
    done = drive(cluster, "join")
    assert done.stdout.splitlines() == [
        "joined",
        "ranks 2 on 1",
        "engines 2 on 1",
        "apart",
    ], done.stderr
    assert "asks for no token" not in done.stderr


def test_folders_that_a_node_misses_are_named_before_anything_starts(cluster, tmp_path):
    done = drive(cluster, "folders", f"model.path={tmp_path}", "model.base=null")
    assert done.returncode == 78
    assert f"model.path={tmp_path}: no such model folder" in done.stderr
    assert "output_dir=/nowhere/run: the run's folder is not there" in done.stderr
    assert re.search(r"on node \d+\.\d+\.\d+\.\d+$", done.stderr, re.MULTILINE)


def test_an_engine_that_cannot_load_its_model_says_why(cluster, tmp_path):
    shutil.copytree(SMALL_MODEL, tmp_path / "model")
    overrides = ["model.base=null", f"model.path={tmp_path / 'model'}", "rollout.num_engines=1"]
    done = drive(cluster, "parts", *overrides)
    assert re.search(
        r"engine 0 on [0-9.]+ did not start: ValueError: Following weights were not", done.stderr
    ), done.stderr[-3000:]


def test_a_wrong_token_is_a_message_and_not_a_traceback(cluster, tmp_path):
    other = tmp_path / "auth_token"
    other.write_text(secrets.token_hex(32))
    done = drive({**cluster, "RAY_AUTH_TOKEN_PATH": str(other)}, "join")
    assert done.returncode == 78
    assert "is its token that of this user" in done.stderr


def test_a_submitted_job_trains_on_both_nodes_and_its_run_outlives_the_job(cluster):
    """`ray job submit --working-dir .`, as launch/ray_job.sh does it."""
    address = f"http://127.0.0.1:{cluster['RAY_DASHBOARD_PORT']}"
    recipe = ["--config-name", "tiny", "model.base=null", f"model.path={SMALL_MODEL}"]
    small = ["trainer.max_steps=1", "evaluation.every=0", "evaluation.num_samples=1"]
    small += ["data.held_out.num_problems=16", "batch.num_prompts=8", "tracking.plots=false"]
    command = [ROOT / "launch/ray_job.sh", *recipe, *small, "tracking.wandb.mode=disabled"]
    environment = {**cluster, "RAY_ADDRESS": address}
    for _ in range(12):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        # On a busy machine the process that starts jobs comes a while after its node.
        if "No available agent to submit job, please try again" not in done.stderr:
            break
        time.sleep(5)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    (run,) = Path(cluster["GRPO_HOME"]).glob("runs/tiny/*")
    assert json.loads((run / "summary.json").read_text())["steps"] == 1
    # The copy that was sent: the code, and nothing that .gitignore or .rayignore names.
    sent = "ray/session_latest/runtime_resources/working_dir_files/_ray_pkg_*"
    (copy,) = {path.resolve() for path in Path(cluster["RAY_TMPDIR"]).glob(sent) if path.is_dir()}
    there = {path.name for path in copy.iterdir()}
    assert {"grpo", "rewards", "data", "recipes"} <= there
    assert not {".git", ".venv", ".cache", "runs", "tests"} & there
    assert sum(file.stat().st_size for file in copy.rglob("*") if file.is_file()) < 5e6
