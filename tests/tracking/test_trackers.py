import threading
import time
from typing import Any

from grpo.tracking.trackers.background import Background


class Recorder:
    """A tracker that keeps what it gets; fails or waits where told to."""

    name = "recorder"

    def __init__(self, *, start_fails: bool = False, fails_at: int | None = None) -> None:
        self.start_fails = start_fails
        self.fails_at = fails_at
        self.gate = threading.Event()
        self.gate.set()
        self.steps: list[int] = []
        self.threads: set[int] = set()

    def start(self) -> None:
        if self.start_fails:
            raise RuntimeError("no service; key was hf_" + "x" * 30)

    def log(self, step: int, values: dict[str, Any]) -> None:
        self.gate.wait()
        self.threads.add(threading.get_ident())
        if step == self.fails_at:
            raise SystemExit("a library gave up")
        self.steps.append(step)

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        self.log(step, {})

    def log_switch(self, step: int, switch: dict[str, str]) -> None:
        self.log(step, {})

    def finish(self, summary: dict[str, Any] | None) -> str | None:
        return f"finished with {summary}"


def test_records_arrive_in_order_in_a_thread_of_the_tracker():
    tracker, notices = Recorder(), []
    background = Background(tracker, notices.append)
    for step in range(20):
        background.log(step, {})
    assert background.close({"steps": 20}, timeout=10) == "finished with {'steps': 20}"
    assert tracker.steps == list(range(20)) and notices == []
    assert threading.get_ident() not in tracker.threads


def test_a_standing_tracker_costs_training_nothing_and_loses_only_what_does_not_fit():
    tracker, notices = Recorder(), []
    tracker.gate.clear()
    background = Background(tracker, notices.append, limit=10)
    background.log(0, {})
    while background._queue.qsize():  # until the thread holds record 0 and stands at the gate
        time.sleep(0.001)
    began = time.perf_counter()
    for step in range(1, 1001):
        background.log(step, {})
    assert time.perf_counter() - began < 2
    tracker.gate.set()
    background.close({}, timeout=10)
    assert tracker.steps == list(range(11))  # one in hand, ten waiting
    assert notices == [
        "recorder: 990 of 1001 records are missing there (990 dropped, 0 failed); "
        "metrics.jsonl has them all"
    ]


def test_closing_does_not_wait_longer_than_told():
    tracker, notices = Recorder(), []
    tracker.gate.clear()
    background = Background(tracker, notices.append)
    background.log(0, {})
    began = time.perf_counter()
    assert background.close({}, timeout=0.05) is None
    assert time.perf_counter() - began < 5
    assert notices and notices[0].startswith("recorder: not finished after 0 s")
    tracker.gate.set()


def test_a_failing_record_is_reported_once_and_the_others_arrive():
    tracker, notices = Recorder(fails_at=1), []
    background = Background(tracker, notices.append)
    for step in (0, 1, 2, 1, 3):
        background.log(step, {})
    background.close({}, timeout=10)
    assert tracker.steps == [0, 2, 3]
    assert len(notices) == 2
    assert (
        notices[0]
        == "recorder: SystemExit: a library gave up (training goes on; metrics.jsonl is the record)"
    )
    assert "2 of 5 records are missing there (0 dropped, 2 failed)" in notices[1]


def test_a_tracker_that_does_not_start_says_so_once_without_the_key():
    tracker, notices = Recorder(start_fails=True), []
    background = Background(tracker, notices.append)
    for step in range(3):
        background.log(step, {})
    assert background.close({}, timeout=10) is None
    assert "no service; key was [redacted]" in notices[0]
    assert "3 of 3 records" in notices[1] and len(notices) == 2


def test_a_tracker_without_records_is_never_started():
    assert Background(Recorder(start_fails=True), print).close({}, timeout=1) is None
