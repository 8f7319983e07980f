"""A wheel in an environment of its own trains the tiny recipe, from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.models import SMALL_MODEL
from tests.stack.conftest import OVERRIDES

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("grpo", "rewards", "data", "recipes", "requirements")


def run(*command, **options):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=400, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment with our wheel in it, and the stack's packages behind.

    Those come from a .pth file, which does not run the stack's own .pth files: our editable
    installation stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, since setuptools leaves a build folder in the tree and later takes old files from it.
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, tree)
    (wheel,) = folder.glob("grpo-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "stack.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_a_wheel_trains_from_any_folder(python, tmp_path):
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = run(
        python, "-c", "import grpo.train; print(grpo.train.__file__)", cwd=tmp_path, env=clean
    )
    assert Path(found.strip()).is_relative_to(python.parents[1])
    run(
        *(python, "-m", "grpo.train", "--config-name", "tiny", *OVERRIDES),
        *(f"model.path={SMALL_MODEL}", "trainer.max_steps=1", "evaluation.num_samples=1"),
        *("tracking.plots=false", "tracking.tensorboard=false", "output_dir=run"),
        cwd=tmp_path,
        env=clean,
    )
    assert (tmp_path / "run" / "policy" / "model.safetensors").exists()
