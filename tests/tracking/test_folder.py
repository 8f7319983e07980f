"""Folders of runs, with real processes, locks and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grpo.common.errors import Terminated, UserError
from grpo.common.files import append_line
from grpo.tracking.folder import claim, read_state, release, run_folder
from tests.tracking.conftest import ROOT

# A run that takes its folder, writes what its second argument names, and waits to be stopped.
RUN = """
import signal, sys
# A job in the background starts with SIGINT ignored, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from grpo.common.command_line import run
from grpo.common.files import append_line
from grpo.tracking.folder import run_folder

def main(arguments):
    with run_folder(arguments[0], "tiny") as folder:
        (folder / "config.yaml").write_text("a: 1")
        for step in range(int(arguments[1])):
            append_line(folder / "metrics.jsonl", {"step": step + 1})
        print(folder, flush=True)
        while True:
            signal.pause()

sys.exit(run(main, sys.argv[1:]))
"""


def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    """A run in a process of its own, once it has its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(steps)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"{folder}\n"
    return process


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folders = {claim(None, "tiny") for _ in range(5)}
    assert len(folders) == 5
    assert {folder.parent for folder in folders} == {tmp_path / "runs" / "tiny"}
    for folder in folders:
        release(folder, "failed", "test")


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path):
    running = start(tmp_path / "run", steps=0)
    try:
        with pytest.raises(UserError, match="another run works in it"):
            claim(tmp_path / "run", "tiny")
        assert read_state(tmp_path / "run")["state"] == "running"
    finally:
        running.kill()
        running.communicate()


def test_a_killed_start_does_not_block_the_next_one(tmp_path: Path):
    running = start(tmp_path / "run", steps=0)
    running.kill()
    running.communicate()
    assert read_state(tmp_path / "run")["state"] == "died"
    with run_folder(tmp_path / "run", "tiny") as folder:
        assert sorted(path.name for path in folder.iterdir()) == [".claim", "run.json"]


def test_a_killed_run_keeps_its_record_and_its_folder_is_refused(tmp_path: Path):
    running = start(tmp_path / "run", steps=3)
    running.kill()
    running.communicate()
    with pytest.raises(UserError, match=r"already holds a run \(died after step 3\)"):
        claim(tmp_path / "run", "tiny")


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
)
def test_a_stopped_run_says_so_without_a_traceback(
    tmp_path: Path, number: signal.Signals, code: int, reason: str
):
    running = start(tmp_path / "run", steps=2)
    running.send_signal(number)
    _, told = running.communicate(timeout=30)
    assert running.returncode == code
    assert told.splitlines() == [
        f"grpo: the run was interrupted after step 2 ({reason}); its record is in {tmp_path}/run",
        f"grpo: stopped by {reason}",
    ]
    state = read_state(tmp_path / "run")
    assert (state["state"], state["reason"], state["last_step"]) == ("interrupted", reason, 2)


def test_a_start_that_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyError), run_folder(tmp_path / "a" / "run", "tiny") as folder:
        (folder / "rollouts").mkdir()
        (folder / "config.yaml").write_text("a: 1")
        raise KeyError("boom")
    assert not (tmp_path / "a" / "run").exists()


def test_a_start_that_fails_keeps_files_that_are_not_its_own(tmp_path: Path):
    with pytest.raises(Terminated), run_folder(tmp_path, "tiny") as folder:
        (folder / "note.txt").write_text("mine")
        raise Terminated
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_run_that_fails_later_says_why_and_keeps_what_it_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(KeyError), run_folder(tmp_path, "tiny") as folder:
        append_line(folder / "metrics.jsonl", {"step": 4})
        raise KeyError("boom")
    state = read_state(tmp_path)
    assert (state["state"], state["reason"], state["last_step"]) == (
        "failed",
        "KeyError: 'boom'",
        4,
    )
    assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / ".claim").exists()
    assert "the run failed after step 4 (KeyError: 'boom')" in capsys.readouterr().err


def test_a_finished_run_says_so_and_its_folder_is_not_used_again(tmp_path: Path):
    with run_folder(tmp_path, "tiny") as folder:
        append_line(folder / "metrics.jsonl", {"step": 1})
    state = read_state(tmp_path)
    assert (state["state"], state["reason"], state["recipe"]) == ("finished", None, "tiny")
    with pytest.raises(UserError, match=r"already holds a run \(finished after step 1\)"):
        claim(tmp_path, "tiny")


def test_a_folder_with_files_of_others_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        claim(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_folder_below_a_file_and_a_file_are_refused(tmp_path: Path):
    (tmp_path / "LICENSE").write_text("x")
    with pytest.raises(UserError, match=r"output_dir=.*LICENSE/x: .*is no folder"):
        claim(tmp_path / "LICENSE" / "x", "tiny")
    with pytest.raises(UserError, match="is a file"):
        claim(tmp_path / "LICENSE", "tiny")


def test_the_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = claim("~/runs/x", "tiny")
    assert folder == tmp_path / "runs" / "x"
    release(folder, "failed", "test")
