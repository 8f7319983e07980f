import struct
import subprocess
import sys
from pathlib import Path

import pytest

from grpo.common.files import append_line
from grpo.tracking import plots
from tests.tracking.conftest import ROOT, Example

NAMES = ["reward.png", "accuracy.png", "format.png", "response_length.png", "overview.png"]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_run_leaves_all_plots(example: Example):
    assert sorted(path.name for path in (example.folder / "plots").iterdir()) == sorted(NAMES)
    assert size(example.folder / "plots" / "overview.png")[0] == 11 * plots.DPI


def test_plots_can_be_made_from_the_metrics_alone(example: Example, tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes((example.folder / "metrics.jsonl").read_bytes())
    command = [sys.executable, "-m", "grpo.tracking.plots", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == [str(tmp_path / "plots" / name) for name in NAMES]


def test_a_folder_without_metrics_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert plots.main([str(tmp_path)]) == 78
    told = f"grpo: {tmp_path} holds no metrics.jsonl: name the folder of a run\n"
    assert capsys.readouterr().err == told


def test_curves_skip_what_is_no_number():
    rows = [
        {"step": 1, "reward": 0.5},
        {"step": 2, "reward": "nan"},
        {"step": 3, "reward": None},
        {"step": 4},
    ]
    assert plots.curve(rows, "reward") == [(1, 0.5)]


def test_evaluations_are_found_by_name_and_exact_metric():
    rows = [
        {"step": 0, "eval/sampled/accuracy": 0.4, "eval/sampled/worked_accuracy": 0.9},
        {"step": 5, "eval/greedy/accuracy": 0.7, "eval/sampled/accuracy": 0.6},
    ]
    expected = {"sampled": [(0, 0.4), (5, 0.6)], "greedy": [(5, 0.7)]}
    assert plots.evaluation_curves(rows, "accuracy") == expected


def test_evaluations_of_another_size_are_another_curve():
    full = {"eval/sampled/num_problems": 512, "eval/sampled/num_samples": 8}
    interim = {"eval/sampled/num_problems": 128, "eval/sampled/num_samples": 1}
    rows = [
        {"step": 0, "eval/sampled/accuracy": 0.4, **full},
        {"step": 10, "eval/sampled/accuracy": 0.7, **interim},
        {"step": 20, "eval/sampled/accuracy": 0.6, **full},
    ]
    expected = {"sampled": [(0, 0.4), (20, 0.6)], "sampled 128x1": [(10, 0.7)]}
    assert plots.evaluation_curves(rows, "accuracy") == expected


def test_what_a_probe_measures_is_plotted_without_naming_it_here(tmp_path: Path):
    row = {"step": 0, "eval/greedy/accuracy": 0.4, "eval/greedy/hesitation_share": 0.25}
    append_line(tmp_path / "metrics.jsonl", row)
    assert [panel.title for panel in plots.probe_panels([row])] == ["Hesitation share"]
    assert [path.name for path in plots.plot_run(tmp_path)][-1] == "probes.png"


def test_smoothing_is_a_centred_mean():
    points = [(step, float(value)) for step, value in enumerate([0, 3, 0, 3])]
    assert plots.smooth(points) == [(0, 1.5), (1, 1.0), (2, 2.0), (3, 1.5)]


def test_base_and_final_values_are_written_beside_the_points():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    rows = [
        {"step": 0, "eval/greedy/accuracy": 0.4},
        {"step": 9, "accuracy": 0.8, "eval/greedy/accuracy": 0.9},
    ]
    plots.draw(axes, rows, plots.PANELS[1])
    assert [text.get_text() for text in axes.texts] == ["base 0.400", "final 0.900"]
    assert (
        axes.get_xlabel() == "step (updates of the policy)"
        and axes.get_ylabel() == "share of right answers"
    )
    assert axes.get_legend_handles_labels()[1] == ["training batches", "held-out, greedy"]


def test_the_end_of_a_stage_is_a_line_between_two_steps_with_the_name_of_the_next():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    rows = [
        {"step": 3, "reward": 0.4, "switch": 1, "switch/from": "short", "switch/to": "long"},
        {"step": 4, "reward": 0.6},
    ]
    plots.draw(axes, rows, plots.PANELS[0])
    (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert list(line.get_xdata()) == [3.5, 3.5]
    (name,) = axes.texts
    assert (name.get_text().strip(), name.xy[0]) == ("long", 3.5)


def test_a_run_with_only_evaluations_plots_what_there_is(tmp_path: Path):
    append_line(tmp_path / "metrics.jsonl", {"step": 0, "eval/greedy/accuracy": 0.4})
    assert [path.name for path in plots.plot_run(tmp_path)] == ["accuracy.png", "overview.png"]
