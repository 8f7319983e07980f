"""How far an evaluation has come: a bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

LINE_SECONDS = 15.0  # at most this often into a log file


class Progress:
    """Problems done, their accuracy so far, and tokens a second. On standard error."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name, self.total, self.done = name, total, done
        self._right = self._rows = self._tokens = 0
        self._started, self._told = time.monotonic(), float("-inf")
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", ""):
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[figures]}"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.add_task(self.name, total=self.total, completed=self.done, figures="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, groups: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Problems whose samples are on the disk."""
        rows = [row for group in groups for row in group]
        self.done += len(groups)
        self._rows += len(rows)
        self._right += sum(row["right"] for row in rows)
        self._tokens += sum(row["length"] for row in rows)
        now = time.monotonic()
        speed = self._tokens / max(now - self._started, 1e-9)
        figures = f"accuracy {self._right / self._rows:.3f}, {speed:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, figures=figures)
        elif now - self._told >= LINE_SECONDS or self.done == self.total:
            self._told = now
            line = f"{self.name}: {self.done} of {self.total} problems, {figures}"
            print(line, file=sys.stderr, flush=True)
