"""Launch scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_bash_can_read_the_script(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_a_job_without_an_address_says_what_to_set():
    done = subprocess.run(
        [LAUNCH / "ray_job.sh"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 78
    assert "RAY_ADDRESS: missing; set it to the job server" in done.stderr


STAND_INS = {
    "scontrol": 'echo "scontrol $*" >>"$LOG"; [[ "$1" != show ]] || printf "gpu7\\ngpu9\\n"',
    "srun": 'echo "srun $*" >>"$LOG"; [[ "$*" != *hostname* ]] || echo "127.0.1.1 10.1.0.7"',
    # wait_nodes.py waits for both nodes, as it does in truth.
    "venv/bin/python": 'echo "python $RAY_ADDRESS $*" >>"$LOG"; [[ "$*" != *grpo.train* ]] || exit 75;'
    'while [[ "$*" == *wait_nodes* && $(grep -c ray_node "$LOG") != 2 ]]; do sleep 0.1; done',
}


def test_the_slurm_script_starts_a_node_each_then_the_run_and_is_queued_again_on_75(tmp_path):
    """With stand-ins for Slurm. The name of a Debian node stands for 127.0.1.1 there."""
    for name, text in STAND_INS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(0o755)
    (tmp_path / "token").write_text("secret")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "VENV": str(tmp_path / "venv"),
        "LOG": str(tmp_path / "log"),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        "SLURM_SUBMIT_DIR": str(LAUNCH.parent),
        "SLURM_JOB_NODELIST": "gpu[7,9]",
        "SLURM_JOB_ID": "5",
    }
    arguments = ["--config-name", "tiny", "a=b"]
    command = ["bash", LAUNCH / "slurm.sbatch", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 75, done.stderr
    log = (tmp_path / "log").read_text()
    one = "srun --nodes=1 --ntasks=1 --nodelist"
    head = f"{one}=gpu7 --export=ALL launch/ray_node.sh head --block --node-ip-address=10.1.0.7\n"
    assert head in log
    assert f"{one}=gpu9 --export=ALL launch/ray_node.sh worker 10.1.0.7 --block\n" in log
    assert "python 10.1.0.7:6379 launch/wait_nodes.py 2\n" in log
    assert "python 10.1.0.7:6379 -m grpo.train --config-name tiny a=b\n" in log
    assert log.endswith("scontrol requeue 5\n")
    assert not (tmp_path / "token").exists()


def test_a_worker_without_the_token_of_its_cluster_says_so(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [LAUNCH / "ray_node.sh", "worker", "head"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 78
    assert "no token; copy that of the head node there" in done.stderr
