"""TensorBoard events, by the `SummaryWriter` of torch.

tensorboard's own `Writer` would load faster, but it has no text and stores scalars as tensors. The
training process has loaded torch anyway. It is imported in the tracker's thread, so nothing waits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grpo.common.files import plain

FLUSH_SECONDS = 5  # so that the curves can be watched
SHOWN_ROWS = 8  # the full samples are in rollouts/ and in wandb's table


class TensorBoardTracker:
    """Writes one event file into `folder`; `tensorboard --logdir` shows it while it grows."""

    name = "tensorboard"

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        self._folder = folder
        # Of a run that goes on: what was written of later steps is not shown.
        self._purge = first_step + 1 if first_step else None
        self._writer: Any = None

    def start(self) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            str(self._folder), purge_step=self._purge, flush_secs=FLUSH_SECONDS
        )

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Numbers become scalars; text (a stage's name) has no curve and is left out."""
        for tag, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(tag, value, step)

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        """The first rows as text."""
        text = "\n\n---\n\n".join(_as_markdown(row) for row in rows[:SHOWN_ROWS])
        text = text.encode("utf-8", errors="replace").decode("utf-8")  # half a surrogate pair
        self._writer.add_text(f"eval/{name}_samples", text, step)

    def log_switch(self, step: int, switch: dict[str, str]) -> None:
        """The switch as text. Its curve is `stage/switch`."""
        text = f"{switch['from']} -> {switch['to']}: {switch['reason']}"
        self._writer.add_text("stage/switches", text, step)

    def finish(self, summary: dict[str, Any] | None) -> str | None:
        """Close the file and say how to look at it."""
        self._writer.close()
        return f"tensorboard --logdir {self._folder}"


def _as_markdown(row: dict[str, Any]) -> str:
    """Each field under its name, indented by four: markdown shows that as it is, whatever the model
    wrote.
    """
    fields = (
        f"**{key}**\n\n" + "\n".join("    " + line for line in str(plain(value)).splitlines())
        for key, value in row.items()
    )
    return "\n\n".join(fields)
