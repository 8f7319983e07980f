"""Trackers that may fail: each works in a thread of its own, behind a queue of bounded length.

Training only ever puts a record into the queue, which does not wait: what a slow or broken tracker
cannot take is dropped and counted. `metrics.jsonl` has it all the same.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from grpo.tracking.redact import redact_text

QUEUE_RECORDS = (
    1000  # steps and evaluations; at one step a second, a quarter of an hour of standstill
)


class Tracker(Protocol):
    """One place to which records are copied. All its methods run in the tracker's own thread."""

    name: str

    def start(self) -> None:
        """Open it; the first call."""

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Values by panel key (`metrics.panel_key`)."""

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        """Take rows for a table of samples."""

    def log_switch(self, step: int, switch: dict[str, str]) -> None:
        """Take the end of a stage after `step`: texts `from`, `to` and `reason`."""

    def finish(self, summary: dict[str, Any] | None) -> str | None:
        """Close, and say where to look (one line). `summary` is None when the run did not reach its
        end.
        """


@dataclass(slots=True)
class Tally:
    """What became of the records that a tracker was given."""

    taken: int = 0
    dropped: int = 0  # the queue was full
    failed: int = 0  # the tracker raised


class Background:
    """Runs a tracker in a daemon thread: it starts with the first record, and never raises into
    training.

    Args:
        tracker: is not touched by any other thread from here on.
        notice: takes one line for the user; called on the first failure and by `close`.
    """

    def __init__(
        self, tracker: Tracker, notice: Callable[[str], None], limit: int = QUEUE_RECORDS
    ) -> None:
        self.name = tracker.name
        self.tally = Tally()
        self._tracker = tracker
        self._notice = notice
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(limit)
        self._summary: dict[str, Any] | None = None
        self._where: str | None = None
        self._told = False  # of a failure; the later ones are only counted
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name=f"tracker-{tracker.name}", daemon=True
        )

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Take the values of a step, by panel key."""
        self._put(lambda: self._tracker.log(step, values))

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        """Take rows for a table of samples."""
        self._put(lambda: self._tracker.log_samples(step, name, rows))

    def log_switch(self, step: int, switch: dict[str, str]) -> None:
        """Take the end of a stage."""
        self._put(lambda: self._tracker.log_switch(step, switch))

    def close(self, summary: dict[str, Any] | None, timeout: float) -> str | None:
        """Give the tracker `timeout` seconds to write what waits. Returns where to look, if
        anywhere.
        """
        if not self._thread.ident:
            return None  # no record ever came
        self._summary = summary
        deadline = time.monotonic() + timeout
        self._closing.set()
        self._wake()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._notice(
                f"{self._tracker.name}: not finished after {timeout:.0f} s, left behind; "
                f"{self._queue.qsize()} records waited"
            )
        if lost := self.tally.dropped + self.tally.failed:
            self._notice(
                f"{self._tracker.name}: {lost} of {self.tally.taken} records are missing there "
                f"({self.tally.dropped} dropped, {self.tally.failed} failed); "
                "metrics.jsonl has them all"
            )
        return self._where

    def _put(self, record: Callable[[], None]) -> None:
        self.tally.taken += 1
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.tally.dropped += 1
        if not self._thread.ident:
            self._thread.start()

    def _wake(self) -> None:
        """End the wait for a next record; a thread with a full queue does not wait."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def _work(self) -> None:
        started = self._attempt(self._tracker.start)
        while record := self._next():
            if not (started and self._attempt(record)):
                self.tally.failed += 1
        if started:
            self._attempt(self._finish)

    def _next(self) -> Callable[[], None] | None:
        """The next record, or None when the run is closing and nothing waits."""
        while True:
            try:
                record = self._queue.get(block=not self._closing.is_set())
            except queue.Empty:
                return None
            if record is not None:
                return record

    def _finish(self) -> None:
        self._where = self._tracker.finish(self._summary)

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Run it; tell the user of the first failure, and go on."""
        try:
            action()
        # A tracker talks to services and libraries of others, so any exception is possible, and
        # none of them
        # is worth a training run. SystemExit too: a library's exit would end this thread unseen.
        except (Exception, SystemExit) as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            reason = " ".join(redact_text(f"{type(error).__name__}: {error}").split())[:300]
            self._notice(
                f"{self._tracker.name}: {reason} (training goes on; metrics.jsonl is the record)"
            )
