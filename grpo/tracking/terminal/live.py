"""The live display: one panel at the foot of the terminal, notices above it."""

import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from grpo.tracking.terminal.wording import (
    HEADLINE,
    Pace,
    duration,
    headline,
    known,
    number,
    one_line,
)

REFRESH_PER_SECOND = 2  # drawing costs milliseconds of a core that training wants


class LiveDisplay:
    """Redraws phase, progress and the last metrics in place. Printed text of others appears above
    it.
    """

    def __init__(self, recipe: str, total_steps: int, stream: TextIO) -> None:
        self._title = f"grpo {one_line(recipe)}"
        self._total_steps = total_steps
        self._pace = Pace(total_steps)
        self._began = time.monotonic()
        self._metrics: dict[str, Any] = {}
        self._evaluations: dict[str, tuple[int, dict[str, float]]] = {}
        self._spinner = Spinner("dots", Text("starting"))
        # legacy highlighting, markup and emoji codes off: what is printed is what was given
        self._console = Console(file=stream, markup=False, highlight=False, emoji=False)
        self._live = Live(
            get_renderable=self._panel,
            console=self._console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def status(self, text: str) -> None:
        """Show the phase that goes on."""
        self._spinner.update(text=Text(one_line(text)))

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of an update."""
        self._pace.step(time.monotonic())
        self._metrics = dict(metrics)
        self._spinner.update(text=Text("training"))

    def evaluation(self, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an evaluation."""
        self._pace.start(time.monotonic())
        self._evaluations[one_line(name)] = (step, dict(metrics))
        self.notice("  ".join([f"evaluation at step {step}, {name}:", *headline(metrics)]))

    def notice(self, text: str) -> None:
        """Show one line that stays."""
        self._console.print(Text(one_line(text)))

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def _panel(self) -> RenderableType:
        rows: list[RenderableType] = [self._spinner, self._progress()]
        if self._metrics:
            rows.append(self._figures())
        return Panel(Group(*rows), title=Text(self._title), title_align="left", border_style="cyan")

    def _progress(self) -> Table:
        step = known(self._metrics, "step") or 0
        row = Table.grid(padding=(0, 2), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        spent = duration(time.monotonic() - self._began)
        row.add_row(
            Text(f"step {step}/{self._total_steps}"),
            ProgressBar(total=max(1, self._total_steps), completed=step),
            Text(f"{spent} gone, {self._pace.left(step)} left"),
        )
        return row

    def _figures(self) -> Table:
        """The last step, and below it the last evaluation of each kind."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        for name in HEADLINE.values():
            table.add_column(name, justify="right")
        table.add_row(Text("this step"), *_cells(self._metrics))
        for name, (step, metrics) in list(self._evaluations.items()):
            table.add_row(Text(f"{name}, step {step}"), *_cells(metrics))
        return table


def _cells(metrics: Mapping[str, Any]) -> list[Text]:
    values = [(key, known(metrics, key)) for key in HEADLINE]
    return [Text("" if value is None else number(key, value)) for key, value in values]
