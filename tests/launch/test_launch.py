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
