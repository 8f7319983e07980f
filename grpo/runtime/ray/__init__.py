"""Ray actors around plain classes. Nothing else in the project knows Ray."""

from __future__ import annotations

import os
from pathlib import Path


def has_ray_token() -> bool:
    """Does this user have the token of a cluster, where Ray looks for it?"""
    named = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return (
        any(name in os.environ for name in named) or (Path.home() / ".ray" / "auth_token").is_file()
    )


# `ray start` protects a cluster with a token; a driver shows its own only if told so before it
# imports Ray.
if has_ray_token():
    os.environ.setdefault("RAY_AUTH_MODE", "token")
