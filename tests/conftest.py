"""Fixtures of all tests."""

from __future__ import annotations

import os

import pytest

from tests.models import SMALL_MODEL

os.environ.setdefault("WANDB_MODE", "offline")


@pytest.fixture(scope="session")
def small_model():
    """A Hugging Face folder with a base model of 0.1M parameters."""
    return SMALL_MODEL
