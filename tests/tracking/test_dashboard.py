import importlib.util
import json
import os
import subprocess
import sys

import pytest

from grpo.common.command_line import run
from grpo.common.errors import UserError
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


def script():
    """The command as a module, to call it in this process."""
    spec = importlib.util.spec_from_file_location("wandb_dashboard", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        run(script().main, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--project", "--entity", "--name", "--dry-run"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--projct", "x"], "unrecognized arguments: --projct"),
        (["--project"], "expected one argument"),
        (["--project", ""], "--project is empty"),
        (["--project", "team/grpo"], "--project team/grpo: wandb takes no '/' in it"),
        (["--entity", "a:b"], "--entity a:b: wandb takes no ':' in it"),
    ],
)
def test_a_wrong_command_line_is_a_configuration_error(arguments, message, capsys):
    assert run(script().main, [*arguments, "--dry-run"]) == 78
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConnectionError("no route\nto host"), 1, "ConnectionError: no route to host"),
        (UserError("the key has no default entity"), 78, "the key has no default entity"),
    ],
)
def test_what_the_service_refuses_is_one_line(error, code, message, capsys, monkeypatch):
    def save(*_):
        raise error

    monkeypatch.setattr(dashboard, "missing", lambda: None)
    monkeypatch.setattr(dashboard, "save", save)
    assert run(script().main, ["--project", "mine"]) == code
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_the_view_is_saved_under_the_names_that_were_given(capsys, monkeypatch):
    monkeypatch.setattr(dashboard, "missing", lambda: None)
    monkeypatch.setattr(dashboard, "save", lambda *names: " ".join(map(str, names)))
    assert run(script().main, ["--project=p", "--entity", "team", "--name", "My view"]) == 0
    assert capsys.readouterr().out == "team p My view\n"


def test_the_layout_is_accepted_by_wandb_workspaces():
    pytest.importorskip("wandb_workspaces", reason="optional package wandb-workspaces")
    workspace = dashboard.workspace("entity", "project", "name")
    assert [section.name for section in workspace.sections] == [
        section.name for section in dashboard.LAYOUT
    ]
    assert workspace.sections[0].panels[0].y == ["eval/sampled_accuracy", "eval/greedy_accuracy"]
