"""What one sees of a run on the terminal: a live display, or plain lines where there is no terminal.

Everything shown passes `shown()`: text of a model or of an error may hold escape sequences that move the
cursor, change the title or fake output. rich markup is never parsed (`Text`, not strings).
"""

import os
import re
import statistics
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from grpo.tracking.metrics import Value

# What a line shows, and under which name; the order is that of the line.
HEADLINE = {
    "reward": "reward",
    "accuracy": "accuracy",
    "format": "format",
    "response_length": "length",
    "tokens_per_second": "tokens/s",
}
PLAIN_STATUS_SECONDS = 15.0  # a phase that counts upwards prints at most this often into a log file
_PACE_STEPS = 20  # the time left follows the median of so many last steps


def shown(text: str) -> str:
    """`text` safe for a terminal: control, direction-changing and invalid characters as visible escapes."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    return shown(" ".join(text.split()))


def duration(seconds: float) -> str:
    """42s, 3m20s, 2h05m."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    return f"{total // 3600}h{total % 3600 // 60:02d}m"


def number(key: str, value: Any) -> str:
    """A metric as it reads best: shares with three digits, lengths with one, counts with k and M."""
    if not isinstance(value, int | float):
        return one_line(str(value))
    if key.endswith("response_length"):
        return f"{value:.1f}"
    if key.endswith(("tokens_per_second", "tokens")):
        return _count(value)
    return f"{value:.3f}"


def _count(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


class Pace:
    """How long a step takes, and so how long the rest will take."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._last: float | None = None
        self._seconds: deque[float] = deque(maxlen=_PACE_STEPS)

    def start(self, now: float) -> None:
        """An evaluation ended: its time does not belong to the next step."""
        self._last = now

    def step(self, now: float) -> None:
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now

    def left(self, step: int) -> str:
        if not self._seconds:
            return "-"
        return duration(statistics.median(self._seconds) * max(0, self._total_steps - step))


class Display(Protocol):
    """Where a run is shown. Safe to call from any thread."""

    def status(self, text: str) -> None: ...
    def step(self, metrics: Mapping[str, Any]) -> None: ...
    def evaluation(self, step: int, name: str, metrics: Mapping[str, float]) -> None: ...
    def notice(self, text: str) -> None: ...
    def close(self) -> None: ...


def open_display(recipe: str, total_steps: int, stream: TextIO | None = None) -> Display:
    """Live on a terminal, plain otherwise (a pipe, a file, TERM=dumb)."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", ""):
        from grpo.tracking.live import LiveDisplay

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
        """A phase. One that returns, or whose figures change ("evaluating 37%"), is repeated now and then."""
        phase, now = re.sub(r"[\d.,%]+", "", text), time.monotonic()
        if phase not in self._printed or now - self._printed[phase] >= PLAIN_STATUS_SECONDS:
            self._printed[phase] = now
            self.notice(text)

    def step(self, metrics: Mapping[str, Any]) -> None:
        self._pace.step(time.monotonic())
        width = len(str(self._total_steps))
        parts = [f"step {metrics['step']:>{width}}/{self._total_steps}", *headline(metrics)]
        self._print("  ".join([*parts, f"left {self._pace.left(metrics['step'])}"]))

    def evaluation(self, step: int, name: str, metrics: Mapping[str, float]) -> None:
        self._pace.start(time.monotonic())
        self._print("  ".join([f"evaluation at step {step}, {one_line(name)}:", *headline(metrics)]))

    def notice(self, text: str) -> None:
        self._print(one_line(text))

    def close(self) -> None:
        self._stream.flush()

    def _print(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(line.encode(encoding, errors="replace").decode(encoding) + "\n")
        self._stream.flush()


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """`reward 0.512` and so on, for those of HEADLINE that are known."""
    return [
        f"{name} {number(key, value)}" for key, name in HEADLINE.items() if (value := known(metrics, key)) is not None
    ]


def known(metrics: Mapping[str, Value], key: str) -> Value | None:
    """A metric, or None: a row holds the metrics of what ran, so any of them may be missing."""
    return metrics.get(key)
