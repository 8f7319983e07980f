"""How metrics, durations and untrusted text read on a terminal."""

import statistics
import unicodedata
from collections import deque
from collections.abc import Mapping
from typing import Any

from grpo.tracking.catalogue import Value

# What a line shows, and under which name; the order is that of the line.
HEADLINE = {
    "nll": "nll",
    "reward": "reward",
    "accuracy": "accuracy",
    "format": "format",
    "response_length": "length",
    "tokens_per_second": "tokens/s",
}
_PACE_STEPS = 20  # the time left follows the median of so many last steps


def shown(text: str) -> str:
    """`text` safe for a terminal: control, direction-changing and invalid characters as visible
    escapes.
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in (
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Zl",
        "Zp",
    ):
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    """`text` on one line, safe for a terminal."""
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
    """A metric as it reads best: shares with three digits, lengths with one, counts with k, M."""
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
        """A step ended now."""
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now

    def left(self, step: int) -> str:
        """Time left after `step`, as text; a dash while nothing is known."""
        if not self._seconds:
            return "-"
        return duration(statistics.median(self._seconds) * max(0, self._total_steps - step))


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """`reward 0.512` and so on, for those of HEADLINE that are known."""
    return [
        f"{name} {number(key, value)}"
        for key, name in HEADLINE.items()
        if (value := known(metrics, key)) is not None
    ]


def known(metrics: Mapping[str, Value], key: str) -> Value | None:
    """A metric, or None: a row holds the metrics of what ran, so any of them may be missing."""
    return metrics.get(key)
