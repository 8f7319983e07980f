"""What Ray tells a driver of its own accord, through Ray's own thread and without a cluster."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from ray._private import worker as ray_worker
from ray._raylet import JobID

from grpo.runtime.ray import cluster

DIED = (
    "A worker died or was killed while executing a task by an unexpected system error. To "
    "troubleshoot the problem, check the logs for the dead worker. Worker PID: 20186"
)
MEMORY = "1 Workers (tasks / actors) killed due to memory pressure (OOM)\nsee `ray logs raylet.out`"


def test_a_dead_process_is_not_told_in_rays_words_and_all_else_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Also that Ray still prints by the function that `reserve` replaces."""
    told, stopped = iter([DIED, MEMORY, DIED]), threading.Event()

    def poll() -> tuple[None, dict[str, object] | None]:
        message = next(told, None)
        if message is None:
            stopped.set()
            return None, None
        return None, {"job_id": None, "error_message": message}

    listener = SimpleNamespace(
        gcs_error_subscriber=SimpleNamespace(subscribe=lambda: None, poll=poll),
        current_job_id=JobID.from_int(1),
    )
    monkeypatch.setattr(ray_worker, "print_to_stdstream", cluster._tell)
    ray_worker.listen_error_messages(listener, stopped)
    assert capsys.readouterr() == ("", f"ray: {MEMORY}\n")
