"""A cluster that `ray start` made, protected by a token: a run joins it where RAY_ADDRESS
names it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack

RAY = Path(sys.executable).with_name("ray")
JOIN = """
import sys
from grpo.config import load_config
from grpo.common.errors import exit_on_user_error
from grpo.runtime.ray.cluster import reserve

def main(argv):
    with reserve(load_config("tiny", argv)) as cluster:
        print("private" if cluster.local else "joined")
    return 0

sys.exit(exit_on_user_error(main, []))
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The environment of a user of a running cluster of two CPUs."""
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text(secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": address}
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={address.split(':')[1]}",
    ]
    options = ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(
        [*command, *options],
        env={key: value for key, value in environment.items() if key != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not listens(address):
        assert head.poll() is None and time.monotonic() < deadline, "ray start failed"
        time.sleep(0.2)
    yield environment
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(30)
    finally:
        os.killpg(head.pid, signal.SIGKILL) if head.poll() is None else None


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def join(environment):
    return subprocess.run(
        [sys.executable, "-c", JOIN], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_run_joins_the_cluster_that_ray_address_names(head):
    done = join(head)
    assert done.stdout.split() == ["joined"], done.stderr


def test_a_wrong_token_is_a_message_and_not_a_traceback(head, tmp_path):
    other = tmp_path / "auth_token"
    other.write_text(secrets.token_hex(32))
    done = join({**head, "RAY_AUTH_TOKEN_PATH": str(other)})
    assert done.returncode == 78
    assert "is its token that of this user" in done.stderr
