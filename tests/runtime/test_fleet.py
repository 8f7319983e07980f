"""The control calls to all engines at once, with calls that answer at once in place of actors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from grpo.runtime.ray import rollouts


def test_every_engine_gets_its_own_ranks_after_the_sender(monkeypatch: pytest.MonkeyPatch):
    """Equal ranks would leave the members waiting for each other until the timeout."""
    given: list[dict[str, Any]] = []

    def engine() -> Any:
        call = SimpleNamespace(remote=given.append)
        return SimpleNamespace(actor=SimpleNamespace(init_weight_transfer_engine=call))

    monkeypatch.setattr(rollouts, "wait", lambda calls, engines, seconds, phase: None)
    fleet = rollouts.EngineFleet([engine(), engine(), engine()], 2, timeout_seconds=1)
    fleet.init_weight_transfer_engine({"rank_offset": 1, "world_size": 7})
    # rank 0 sends; three engines of two workers take 1 and 2, 3 and 4, 5 and 6
    assert [info["rank_offset"] for info in given] == [1, 3, 5]
    assert {info["world_size"] for info in given} == {7}
