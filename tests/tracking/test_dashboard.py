import json
import os
import subprocess
import sys

import pytest

from grpo.tracking.catalogue import GROUPS, METRICS
from grpo.tracking.trackers import dashboard
from tests.tracking.conftest import ROOT

SCRIPT = ROOT / "launch" / "wandb_dashboard.py"


def test_dry_run_prints_the_layout_as_json():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--dry-run"], capture_output=True, text=True
    )
    layout = json.loads(done.stdout)
    assert done.returncode == 0 and layout["x_axis"] == "step"
    assert {section["name"] for section in layout["sections"]} == set(GROUPS)
    assert layout["sections"][0]["panels"][0]["lines"] == [
        "eval/sampled_accuracy",
        "eval/greedy_accuracy",
    ]


def test_every_metric_is_on_the_dashboard_and_every_line_is_a_metric():
    lines = {
        line for section in dashboard.LAYOUT for panel in section.panels for line in panel.lines
    }
    metrics = {metric.panel for metric in METRICS if "<" not in metric.panel} - {"step"}
    assert {line for line in lines if not line.startswith("eval/")} == metrics


def test_each_panel_lies_in_the_section_of_its_lines():
    for section in dashboard.LAYOUT:
        for panel in section.panels:
            assert {line.split("/")[0] for line in panel.lines} == {section.name}


def test_without_key_or_package_there_is_one_line_and_no_traceback(tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("WANDB_")
    }
    environment |= {"NETRC": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 78 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "WANDB_API_KEY" in done.stderr


def test_the_layout_is_accepted_by_wandb_workspaces():
    pytest.importorskip("wandb_workspaces", reason="optional package wandb-workspaces")
    workspace = dashboard.workspace("entity", "project", "name")
    assert [section.name for section in workspace.sections] == [
        section.name for section in dashboard.LAYOUT
    ]
    assert workspace.sections[0].panels[0].y == ["eval/sampled_accuracy", "eval/greedy_accuracy"]
