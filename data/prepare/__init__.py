"""From raw problem sets to a clean training set: `python -m data.prepare`."""

from __future__ import annotations

from data.prepare.run import main, prepare

__all__ = ["main", "prepare"]
