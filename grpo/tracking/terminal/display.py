"""What one sees of a run on the terminal: a live display, or plain lines where there is no
terminal.

Everything shown passes `shown()`: text of a model or of an error may hold escape sequences that
move the cursor, change the title or fake output. rich markup is never parsed (`Text`, not strings).
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from grpo.tracking.terminal.wording import Pace, headline, one_line

PLAIN_STATUS_SECONDS = 15.0  # a phase that counts upwards prints at most this often into a log file


class Display(Protocol):
    """Where a run is shown. Safe to call from any thread."""

    def status(self, text: str) -> None:
        """Show the phase that goes on."""

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of an update."""

    def evaluation(self, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an evaluation."""

    def notice(self, text: str) -> None:
        """Show one line that stays."""

    def close(self) -> None:
        """Give the terminal back."""


def open_display(recipe: str, total_steps: int, stream: TextIO | None = None) -> Display:
    """Live on a terminal, plain otherwise (a pipe, a file, TERM=dumb)."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", ""):
        from grpo.tracking.terminal.live import LiveDisplay

        return LiveDisplay(recipe, total_steps, stream)
    return PlainDisplay(total_steps, stream)


class PlainDisplay:
    """One line for each step, evaluation and phase; for log files and pipes."""

    def __init__(self, total_steps: int, stream: TextIO) -> None:
        self._total_steps = total_steps
        self._stream = stream
        self._pace = Pace(total_steps)
        self._printed: dict[str, float] = {}  # when each phase was last printed

    def status(self, text: str) -> None:
        """A phase. One that returns, or whose figures change ("evaluating 37%"), is repeated now
        and then.
        """
        phase, now = re.sub(r"[\d.,%]+", "", text), time.monotonic()
        if phase not in self._printed or now - self._printed[phase] >= PLAIN_STATUS_SECONDS:
            self._printed[phase] = now
            self.notice(text)

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of an update."""
        self._pace.step(time.monotonic())
        width = len(str(self._total_steps))
        parts = [f"step {metrics['step']:>{width}}/{self._total_steps}", *headline(metrics)]
        self._print("  ".join([*parts, f"left {self._pace.left(metrics['step'])}"]))

    def evaluation(self, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an evaluation."""
        self._pace.start(time.monotonic())
        self._print(
            "  ".join([f"evaluation at step {step}, {one_line(name)}:", *headline(metrics)])
        )

    def notice(self, text: str) -> None:
        """Show one line that stays."""
        self._print(one_line(text))

    def close(self) -> None:
        """Give the terminal back."""
        self._stream.flush()

    def _print(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(line.encode(encoding, errors="replace").decode(encoding) + "\n")
        self._stream.flush()
