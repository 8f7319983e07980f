import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tracking.example_run import CANARIES

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    folder: Path
    stdout: str


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The folder and the output of one run of example_run.py, made once."""
    base = tmp_path_factory.mktemp("tracking")
    folder = base / "run"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
        "WANDB_API_KEY": CANARIES["wandb_value"],
        "WANDB_CACHE_DIR": str(base / "cache"),
        "WANDB_CONFIG_DIR": str(base / "config"),
        "SOME_SERVICE_TOKEN": CANARIES["environment"],
        "MPLCONFIGDIR": str(base / "matplotlib"),
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.tracking.example_run",
            str(folder),
            f"hub.token={CANARIES['command_line']}",
        ],
        env=environment,
        cwd=base,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return Example(folder=folder, stdout=done.stdout)
