"""PNG plots of a run, from its metrics.jsonl alone.

    python -m grpo.tracking.plots RUN_DIR

writes RUN_DIR/plots/{reward,accuracy,format,response_length}.png and overview.png with all four.
What probes measure in evaluations goes to probes.png.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import Parser, file_path, run
from grpo.common.errors import UserError
from grpo.tracking.catalogue import METRICS, evaluation_size
from grpo.tracking.record import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, TRAINING = "#333333", "#4c78a8"
EVALUATIONS = {
    "sampled": ("#d1495b", "o"),
    "greedy": ("#2a9d8f", "s"),
}  # colour and marker; others take the next
_OTHER_EVALUATIONS = (("#8e6c8a", "^"), ("#e9a23b", "D"))
DPI = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One plot: a metric in training, and in evaluations."""

    key: str  # the metric in training; evaluations show eval/<name>/<key>
    title: str
    unit: str
    share: bool = False  # lies in 0..1


PANELS = (
    Panel(key="reward", title="Reward", unit="mean reward"),
    Panel(key="accuracy", title="Accuracy", unit="share of right answers", share=True),
    Panel(key="format", title="Format", unit="share in the asked-for form", share=True),
    Panel(key="response_length", title="Response length", unit="tokens"),
    Panel(key="nll", title="Negative log-likelihood", unit="nats per trained token"),
)

Curve = list[tuple[int, float]]  # (step, value), steps rising


def curve(rows: Sequence[Mapping[str, Any]], key: str) -> Curve:
    """The finite values of one metric (others are written as text)."""
    return [
        (row["step"], row[key]) for row in rows if key in row and isinstance(row[key], int | float)
    ]


def evaluation_curves(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Curve]:
    """The curves eval/<name>/<key>, by name, in the order of their first evaluation.

    Evaluations of another size than the first of their name get a curve of their own, such as
    `sampled 128x1`: a mean over the first problems is another measure than one over all.
    """
    found = (
        name for row in rows for name in row if name.startswith("eval/") and name.count("/") == 2
    )
    curves: dict[str, Curve] = {}
    for name in (name for name in dict.fromkeys(found) if name.endswith(f"/{key}")):
        way, first = name.split("/")[1], None
        for row in rows:
            if not isinstance(row.get(name), int | float):
                continue
            size = evaluation_size(
                {part: row.get(f"eval/{way}/{part}") for part in ("num_problems", "num_samples")}
            )
            first = first or size
            label = way if size == first else f"{way} {size}"
            curves.setdefault(label, []).append((row["step"], row[name]))
    return curves


def probe_panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A panel for each figure of evaluations that the catalogue does not know: those of probes."""
    known = {metric.key.split("/")[-1] for metric in METRICS} | {panel.key for panel in PANELS}
    keys = (
        name.split("/")[2]
        for row in rows
        for name in row
        if name.startswith("eval/") and name.count("/") == 2
    )
    # pass@k needs several samples, which only the first and the last evaluation have
    new = [k for k in dict.fromkeys(keys) if k not in known and not k.startswith("pass@")]
    titles = [key.replace("_", " ") for key in new]
    return [
        Panel(key=key, title=title[:1].upper() + title[1:], unit="")
        for key, title in zip(new, titles, strict=True)
        if evaluation_curves(rows, key)
    ]


def smooth(points: Curve) -> Curve:
    """Centred running mean over about a twentieth of the run: the trend without the noise of a
    batch.
    """
    half = max(1, len(points) // 40)
    windows = (points[max(0, i - half) : i + half + 1] for i in range(len(points)))
    return [
        (step, sum(value for _, value in window) / len(window))
        for (step, _), window in zip(points, windows, strict=True)
    ]


def plot_run(run_dir: Path, title: str = "") -> list[Path]:
    """Write all plots of a run. Panels without any data are left out.

    Raises:
        FileNotFoundError: there is no metrics.jsonl.
    """
    rows = read_metrics(run_dir)
    panels = [
        panel for panel in PANELS if curve(rows, panel.key) or evaluation_curves(rows, panel.key)
    ]
    folder = run_dir / "plots"
    folder.mkdir(exist_ok=True)
    written = [_save(_single(rows, panel), folder / f"{panel.key}.png") for panel in panels]
    if panels:
        written.append(_save(_overview(rows, panels, title), folder / "overview.png"))
    if probes := probe_panels(rows):
        written.append(_save(_overview(rows, probes, title), folder / "probes.png"))
    return written


def _single(rows: Sequence[Mapping[str, Any]], panel: Panel) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    draw(axes, rows, panel)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    return figure


def _overview(rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel], title: str) -> Figure:
    """All panels in two columns, with one legend for all below them."""
    from matplotlib.figure import Figure

    lines = (len(panels) + 1) // 2
    figure = Figure(figsize=(11, 3.4 * lines + 0.6), layout="constrained")
    grid = figure.subplots(lines, 2, squeeze=False).flatten()
    entries: dict[str, Any] = {}
    for axes, panel in zip(grid, panels, strict=False):
        draw(axes, rows, panel)
        entries |= {
            label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=14, color=INK)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=len(entries),
        frameon=False,
    )
    return figure


def draw(axes: Axes, rows: Sequence[Mapping[str, Any]], panel: Panel) -> None:
    """Training as a faint line with its running mean; evaluations as points, base and final with
    values; a dashed line with the name of the stage that begins there.
    """
    if training := curve(rows, panel.key):
        axes.plot(*_xy(training), color=TRAINING, alpha=0.28, linewidth=1)
        axes.plot(*_xy(smooth(training)), color=TRAINING, linewidth=2, label="training batches")
    evaluations = evaluation_curves(rows, panel.key)
    looks = _looks(list(evaluations))
    for name, points in evaluations.items():
        colour, marker = looks[name]
        axes.plot(*_xy(points), color=colour, linewidth=1, alpha=0.6)
        axes.plot(
            *_xy(points), color=colour, marker=marker, linestyle="", label=f"held-out, {name}"
        )
    first = {name: points[0] for name, points in evaluations.items() if points[0][0] == 0}
    last = {name: points[-1] for name, points in evaluations.items() if len(points) > 1}
    _write_values(axes, first, looks, word="base", side="left")
    _write_values(axes, last, looks, word="final", side="right")
    _dress(axes, panel)
    for row in rows:
        if "switch/to" in row:
            axes.axvline(row["step"] + 0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f" {row['switch/to']}",
                (row["step"] + 0.5, 0.02),
                xycoords=("data", "axes fraction"),
                color=INK,
                fontsize=8.5,
            )


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each evaluation."""
    others = itertools.cycle(_OTHER_EVALUATIONS)
    return {name: EVALUATIONS[name] if name in EVALUATIONS else next(others) for name in names}


def _write_values(
    axes: Axes,
    ends: Mapping[str, tuple[int, float]],
    looks: Mapping[str, tuple[str, str]],
    word: str,
    side: str,
) -> None:
    """Write the values at one end of the run: the highest above its point, the others below."""
    falling = sorted(ends, key=lambda name: ends[name][1], reverse=True)
    for place, name in enumerate(falling):
        axes.annotate(
            f"{word} {ends[name][1]:#.3g}",
            ends[name],
            (0, 9 if place == 0 else -4 - 13 * place),
            textcoords="offset points",
            ha=side,
            color=looks[name][0],
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.55, "pad": 0.8},
        )


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", color=INK, fontsize=12)
    axes.set_xlabel("step (updates of the policy)", color=INK)
    axes.set_ylabel(panel.unit, color=INK)
    if panel.share:
        axes.set_ylim(-0.04, 1.09)
    else:
        axes.margins(y=0.16)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _xy(points: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)  # no window system is looked for
    figure.savefig(path, dpi=DPI)
    return path


def _recipe(run_dir: Path) -> str:
    """The recipe's name from the head of config.yaml; empty where the metrics came alone."""
    config = run_dir / "config.yaml"
    head = config.read_text(encoding="utf-8").partition("\n")[0] if config.is_file() else ""
    return head.removeprefix("# recipe: ") if head.startswith("# recipe: ") else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """`grpo plots RUN_DIR`; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo plots", "Draw the plots of a run, also while it goes on.")
    parser.add_argument("run_dir", type=file_path, metavar="RUN_DIR", help="the folder of a run")
    run_dir: Path = parser.parse(arguments).run_dir
    if not (run_dir / "metrics.jsonl").is_file():
        raise UserError(f"{run_dir} holds no metrics.jsonl: name the folder of a run")
    for path in plot_run(run_dir, _recipe(run_dir)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
