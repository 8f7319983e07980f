"""One training run as the trainer sees it: say what happens, and it is recorded, copied and shown."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grpo.config.schema import TrackingConfig
from grpo.tracking import files
from grpo.tracking.catalogue import in_order, panel_values
from grpo.tracking.redact import redact, redact_text
from grpo.tracking.terminal.display import Display, open_display
from grpo.tracking.terminal.summary_table import places, print_closing
from grpo.tracking.trackers.background import Background
from grpo.tracking.trackers.tensorboard import TensorBoardTracker
from grpo.tracking.trackers.wandb import FINISH_SECONDS, WandbTracker, resolve_mode

FAILED_SECONDS = 15.0  # what trackers get when training failed: the error should be seen soon

Metrics = Mapping[str, float | int | str | None]


def open_run(
    output_dir: Path,
    config: dict[str, Any],
    settings: TrackingConfig,
    recipe: str,
    total_steps: int,
    git_hash: str | None,
) -> "Run":
    """Create the run folder with its config.yaml, and the display. Trackers start with the first
    record.

    Args:
        output_dir: the folder of this run and of no other.
        config: the resolved recipe, as nested dicts; secrets in it are not written.
        recipe: its name, for titles.
        total_steps: updates planned, for progress and time left.
        git_hash: of the code that runs; None where there is no repository.

    Raises:
        ValueError: the folder holds another run, or wandb is to be online without a key.
    """
    mode = resolve_mode(settings.wandb)
    if (output_dir / "metrics.jsonl").exists():
        raise ValueError(
            f"output_dir={output_dir} already holds a run; name another folder, or remove this one"
        )
    (output_dir / "rollouts").mkdir(parents=True, exist_ok=True)
    clean_config = redact(files.plain(config))
    head = [f"recipe: {recipe}", f"git: {git_hash or 'unknown'}"]
    files.write_yaml(output_dir / "config.yaml", clean_config, comments=head)
    display = open_display(recipe, total_steps)
    trackers = []
    if settings.tensorboard:
        trackers.append(Background(TensorBoardTracker(output_dir / "tensorboard"), display.notice))
    if mode != "disabled":
        wandb_config = {**clean_config, "recipe": recipe, "git_hash": git_hash}
        tracker = WandbTracker(settings.wandb, mode, output_dir, wandb_config, recipe)
        trackers.append(Background(tracker, display.notice))
    return Run(output_dir, settings, recipe, display, trackers)


class Run:
    """The record of one run. Built by `open_run`; a context manager, so that the terminal is given
    back and the trackers are closed when training fails."""

    def __init__(
        self,
        output_dir: Path,
        settings: TrackingConfig,
        recipe: str,
        display: Display,
        trackers: list[Background],
    ) -> None:
        self.output_dir = output_dir
        self._settings = settings
        self._recipe = recipe
        self._display = display
        self._trackers = trackers
        self._open = True

    def status(self, text: str) -> None:
        """The phase shown while something other than steps goes on, such as "starting engines"."""
        self._display.status(text)

    def notice(self, text: str) -> None:
        """A line that stays on the terminal, such as a warning."""
        self._display.notice(text)

    def log_step(self, metrics: Metrics) -> None:
        """Record one update. `metrics` holds `step`; its keys are those of `metrics.METRICS`."""
        row = in_order(metrics)
        files.append_jsonl(self.output_dir / "metrics.jsonl", row)
        for tracker in self._trackers:
            tracker.log(int(row["step"] or 0), panel_values(row))
        self._display.step(row)

    def log_rollouts(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Record every sample of a step, whole, in rollouts/step_NNNNNN.jsonl."""
        files.write_jsonl(self.output_dir / "rollouts" / f"step_{step:06d}.jsonl", rows)

    def log_evaluation(
        self, step: int, name: str, metrics: Mapping[str, float], samples: list[dict[str, Any]]
    ) -> None:
        """Record an evaluation on held-out problems, as keys `eval/<name>/<metric>` of its own row.

        Args:
            step: updates that the evaluated weights have seen.
            name: which evaluation, such as "sampled" or "greedy".
            samples: rows for the sample table, all with the same keys; those of one run may differ
                in number.
        """
        row = {"step": step, **{f"eval/{name}/{key}": value for key, value in metrics.items()}}
        files.append_jsonl(self.output_dir / "metrics.jsonl", row)
        for tracker in self._trackers:
            tracker.log(step, panel_values(row))
            if samples:
                tracker.log_samples(step, name, samples)
        self._display.evaluation(step, name, metrics)

    def close(self, summary: dict[str, Any]) -> None:
        """Write summary.json, finish trackers and plots, and show base -> final and where to look."""
        files.write_json(self.output_dir / "summary.json", redact(files.plain(summary)))
        self._display.status("finishing plots and trackers")
        if self._settings.plots:
            self._plot()
        where = self._finish(summary, timeout=FINISH_SECONDS + 10)
        print_closing(self._recipe, summary, places(self.output_dir, where))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without `close`: training failed, and the record ends where it ended."""
        if self._open:
            self._finish(None, timeout=FAILED_SECONDS)

    def _plot(self) -> None:
        from grpo.tracking.plots import plot_run

        try:
            plot_run(self.output_dir, self._recipe)
        # Plots can be made again from metrics.jsonl; a missing font must not make a finished run a
        # failure.
        except Exception as error:
            reason = redact_text(f"{type(error).__name__}: {error}")
            self._display.notice(
                f"no plots ({reason}); try: python -m grpo.tracking.plots {self.output_dir}"
            )

    def _finish(self, summary: dict[str, Any] | None, timeout: float) -> dict[str, str]:
        """Close trackers, then the display. Returns where each tracker's copy is."""
        self._open = False
        try:
            where = {t.name: t.close(summary, timeout) for t in self._trackers}
        finally:
            self._display.close()
            sys.stdout.flush()
        return {name: place for name, place in where.items() if place is not None}
