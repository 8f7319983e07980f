"""Fixtures of all tests."""

from __future__ import annotations

import os

import pytest

from tests.models import SMALL_MODEL

os.environ.setdefault("WANDB_MODE", "offline")
# Models are so small here that threads cost more than they bring: on busy cores they wait for each
# other, and a test of 0.2 seconds takes 14. Has to come before the first import of torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """With several processes, the long files come first and the many short ones fill the gaps."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("stack") is None)


@pytest.fixture(scope="session")
def small_model():
    """A Hugging Face folder with a base model of 0.1M parameters."""
    return SMALL_MODEL
