"""One training run as the trainer sees it: what it is told is recorded, copied and shown."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grpo.common.errors import UserError
from grpo.common.files import append_line, plain, write_atomically, write_yaml
from grpo.config.schema import TrackingConfig
from grpo.stages import Switch
from grpo.tracking.catalogue import evaluation_size, in_order, panel_values
from grpo.tracking.chain import Link, append
from grpo.tracking.record import Arrays, write_rollouts
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
    first_step: int = 0,
    *,
    goes_on: bool = False,
) -> Run:
    """Create the run folder with its config.yaml, and the display. Trackers start with the first
    record.

    Args:
        output_dir: the folder of this run and of no other.
        config: the resolved recipe, as nested dicts; secrets in it are not written.
        recipe: its name, for titles.
        total_steps: updates planned, for progress and time left.
        git_hash: of the code that runs; None where there is no repository.
        first_step: updates done before. Above 0 the folder may hold the record of these.
        goes_on: it may hold one of step 0 too, since a run can be stopped before its first update.

    Raises:
        UserError: the folder holds another run.
        ValueError: wandb is to be online without a key.
    """
    mode = resolve_mode(settings.wandb)
    if not (first_step or goes_on) and (output_dir / "metrics.jsonl").exists():
        raise UserError(
            f"output_dir={output_dir} already holds a run; name another folder, or remove this one"
        )
    (output_dir / "rollouts").mkdir(parents=True, exist_ok=True)
    clean_config = redact(plain(config))
    head = [f"recipe: {recipe}", f"git: {git_hash or 'unknown'}"]
    write_yaml(output_dir / "config.yaml", clean_config, comments=head)
    display = open_display(recipe, total_steps)
    trackers = []
    if settings.tensorboard:
        trackers.append(
            Background(TensorBoardTracker(output_dir / "tensorboard", first_step), display.notice)
        )
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
        self._gaps = 0  # parts of the record that the disk did not take
        self._warned: set[str] = set()  # metrics that have been NaN or infinite
        self._sizes: dict[str, str] = {}  # of the first evaluation of each name

    def status(self, text: str) -> None:
        """The phase shown while something other than steps goes on, such as "starting engines"."""
        self._display.status(text)

    def position(self) -> int:
        """Bytes of metrics.jsonl so far: what a checkpoint remembers of the record."""
        metrics = self.output_dir / "metrics.jsonl"
        return metrics.stat().st_size if metrics.exists() else 0

    def notice(self, text: str) -> None:
        """A line that stays on the terminal, such as a warning."""
        self._display.notice(text)

    def log_step(self, metrics: Metrics) -> None:
        """Record one update. `metrics` holds `step`; keys that catalogue.METRICS does not list are
        recorded under their own names.
        """
        row = in_order(metrics)
        self._record(lambda: append_line(self.output_dir / "metrics.jsonl", row))
        for tracker in self._trackers:
            tracker.log(int(row["step"] or 0), panel_values(row))
        self._warn(int(row["step"] or 0), row)
        self._display.step(row)

    def log_switch(self, switch: Switch) -> None:
        """Record that a stage has ended, as a row of its own with the keys `switch/...`."""
        told = {"from": switch.source, "to": switch.target or "end", "reason": switch.reason}
        row = {"step": switch.step, "switch": 1, **{f"switch/{k}": v for k, v in told.items()}}
        self._record(lambda: append_line(self.output_dir / "metrics.jsonl", row))
        for tracker in self._trackers:
            tracker.log(switch.step, panel_values({"step": switch.step, "switch": 1}))
            tracker.log_switch(switch.step, told)
        self._display.notice(f"stage: {switch}")

    def log_rollouts(
        self, step: int, rows: list[dict[str, Any]], arrays: Arrays | None = None
    ) -> None:
        """Record every sample of a step, whole; see `record.write_rollouts`."""
        kept = arrays if self._settings.rollout_tokens else None
        self._record(lambda: write_rollouts(self.output_dir, step, rows, kept))

    def log_unhealthy(
        self,
        step: int,
        reason: str,
        rows: list[dict[str, Any]],
        arrays: Arrays,
        metrics: Metrics,
    ) -> str:
        """Record the step that ends the run, in `unhealthy/`, which no new start cuts back: its
        samples as in `rollouts/`, and reason and numbers in a file beside them.

        Returns:
            A sentence that says where they are, or why they are not there.
        """
        folder = self.output_dir / "unhealthy"
        why = {"step": step, "reason": reason, "metrics": dict(metrics)}
        try:
            write_rollouts(folder, step, rows, arrays)
            write_atomically({folder / f"step_{step:06d}.json": redact(plain(why))})
        except UserError as error:
            return f"Its batch is lost: {error}"
        return f"Its batch and its numbers are in {folder}"

    def log_link(self, link: Link) -> None:
        """Record the link of a step in chain.jsonl."""
        self._record(lambda: append(self.output_dir, link))

    def log_evaluation(
        self,
        step: int,
        name: str,
        metrics: Mapping[str, float],
        samples: list[dict[str, Any]],
        *,
        num_problems: int | None = None,
        num_samples: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Record an evaluation on held-out problems, as keys `eval/<name>/<metric>` of its own row.

        Args:
            step: updates that the evaluated weights have seen.
            name: which evaluation, such as "sampled" or "greedy".
            metrics: its means. `num_problems` and `num_samples` may stand among them.
            samples: rows for the sample table, all with the same keys; those of one run may differ
                in number.
            num_problems: how many problems it had.
            num_samples: responses to each. Evaluations of another size than the first one of this
                name get curves of their own in TensorBoard and wandb.
            seconds: that all evaluations of these weights took, where this is the last of them; in
                the record as `seconds/evaluate`.
        """
        sizes = {"num_problems": num_problems, "num_samples": num_samples}
        metrics = {**{k: v for k, v in sizes.items() if v is not None}, **metrics}
        timed = {} if seconds is None else {"seconds/evaluate": seconds}
        row = {
            "step": step,
            **{f"eval/{name}/{key}": value for key, value in metrics.items()},
            **timed,
        }
        self._record(lambda: append_line(self.output_dir / "metrics.jsonl", row))
        size = evaluation_size(metrics)
        first = self._sizes.setdefault(name, size)
        curve = name if size == first else f"{name}_{size}"
        shown = {
            "step": step,
            **{f"eval/{curve}/{key}": value for key, value in metrics.items()},
            **timed,
        }
        for tracker in self._trackers:
            tracker.log(step, panel_values(shown))
            if samples:
                tracker.log_samples(step, name, samples)
        self._warn(step, row)
        self._display.evaluation(step, name, metrics)

    def _record(self, write: Callable[[], object]) -> None:
        """Write a part of the record. A full disk makes a gap in it and does not end training."""
        try:
            write()
        except UserError as error:
            self._gaps += 1
            if self._gaps in (1, 10, 100, 1000):
                self._display.notice(
                    f"warning: {error}. Training goes on; writes of the record that failed so far: "
                    f"{self._gaps}"
                )

    def _warn(self, step: int, row: Mapping[str, Any]) -> None:
        """One line for each metric that is not finite, the first time that it is not."""
        for key, value in row.items():
            if isinstance(value, float) and not math.isfinite(value) and key not in self._warned:
                self._warned.add(key)
                self._display.notice(f"warning: {key} is {value} at step {step}")

    def close(self, summary: dict[str, Any]) -> None:
        """Write summary.json, finish trackers and plots, show base -> final and where to look."""
        if self._gaps:
            summary = {**summary, "failed_record_writes": self._gaps}
        write_atomically({self.output_dir / "summary.json": redact(plain(summary))})
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
