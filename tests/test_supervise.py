"""Which ends of a run start it again, and how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import UserError
from grpo.common.files import write_yaml
from grpo.config import load_config
from grpo.supervise import supervise

# Stands for `grpo.train`: each start takes the next line of a script, which says what is recorded
# and how it ends.
RUN = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
folder = Path(next(a for a in sys.argv if a.startswith("output_dir="))[12:-1])
assert "supervise=false" in sys.argv
folder.mkdir(exist_ok=True)
script = Path("script.json")
step, end, *rest = json.loads(script.read_text())
script.write_text(json.dumps(rest))
with (folder / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": step}) + "\\n")
if end == "leave":
    # As a worker of Ray is: of another session, below a process that has ended.
    below = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid)"
    done = subprocess.run([sys.executable, "-c", below], stdout=open("left", "w"))
    end = -signal.SIGKILL
if end == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print("waiting", flush=True)
    time.sleep(60)
if end < 0:
    os.kill(os.getpid(), -end)
sys.exit(end)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}")
    (tmp_path / "stand_in.py").write_text(RUN.replace("[12:-1]", '[len("output_dir=\'"):-1]'))

    def start(*script):
        (tmp_path / "script.json").write_text(json.dumps(script))
        config = load_config("tiny", [f"output_dir={tmp_path / 'run'}"])
        code = supervise("stand_in", "tiny", [], None, config, pause_seconds=0.01)
        return code, json.loads((tmp_path / "script.json").read_text())

    return start


def test_crashes_kills_and_retries_are_started_again(run):
    assert run(1, 70, 2, -signal.SIGKILL, 3, 75, 4, 0) == (0, [])


@pytest.mark.parametrize("code", [78, 76])
def test_what_a_new_start_would_not_mend_ends_it(run, code):
    assert run(1, code, 2, 0) == (code, [2, 0])


def test_a_step_that_fails_three_times_is_given_up_with_its_reasons(run, capfd):
    assert run(1, 70, 4, 70, 4, -signal.SIGKILL, 4, 75, 5, 0) == (75, [5, 0])
    told = capfd.readouterr().err
    assert "step 5 has failed 3 times" in told
    assert told.count("SIGKILL") == 2  # when it happened, and in the diagnosis


def test_what_a_killed_run_leaves_is_killed_before_the_next_one_starts(run, tmp_path):
    other = subprocess.Popen(["sleep", "60"])  # of whoever started the supervisor
    assert run(1, "leave", 2, 0) == (0, [])
    assert not psutil.pid_exists(int((tmp_path / "left").read_text()))
    assert other.poll() is None
    other.kill()
    other.wait()


# A run as `grpo train` begins and saves it, which dies twice: before its first own checkpoint, and
# after it.
BRANCH = """
import os, signal, sys
from pathlib import Path
from grpo.checkpoint.folder import Checkpoints
from grpo.checkpoint.resume import recorded_bytes, starting_point
from grpo.common.command_line import run
from grpo.common.files import append_line, write_yaml
from grpo.config import load_config
from grpo.tracking.folder import run_folder
from grpo.tracking.record import cut_back

def main(arguments):
    config = load_config("tiny", arguments[2:])
    start = starting_point(config, print)
    with run_folder(config.output_dir, "tiny", config.resume) as folder:
        cut_back(folder, start.step, recorded_bytes(start, folder))
        write_yaml(folder / "config.yaml", config.as_tree())
        with open("starts", "a") as file:
            file.write(f"{start.folder.parents[1].name} {start.step}\\n")
        for step in range(start.step + 1, 46):
            append_line(folder / "metrics.jsonl", {"step": step})
            size = (folder / "metrics.jsonl").stat().st_size
            if step == 43:
                state = {"step": step, "metrics_bytes": size}
                Checkpoints(folder).write(state, lambda folder: None)
            if step in (42, 44) and not Path(f"died_{step}").exists():
                Path(f"died_{step}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return 0

sys.exit(run(main))
"""


def test_a_branch_that_dies_goes_on_in_its_own_folder(tmp_path, monkeypatch, run):
    (tmp_path / "branch_stand_in.py").write_text(BRANCH)
    first, branch = tmp_path / "first", tmp_path / "branch"
    first.mkdir()
    config = load_config("tiny", [f"output_dir={first}"])
    write_yaml(first / "config.yaml", config.as_tree())
    Checkpoints(first).write({"step": 41, "metrics_bytes": 999}, lambda folder: None)
    overrides = [f"resume={first}", f"output_dir={branch}"]
    config = load_config("tiny", overrides)
    assert supervise("branch_stand_in", "tiny", overrides, None, config, 0.01) == 0
    starts = (tmp_path / "starts").read_text().splitlines()
    assert starts == ["first 41", "first 41", "branch 43"]
    rows = map(json.loads, (branch / "metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows] == [42, 43, 44, 45]


def test_resume_fresh_would_begin_anew_every_time():
    with pytest.raises(UserError, match="resume=fresh would begin anew"):
        supervise("grpo.train", "tiny", [], None, load_config("tiny", ["resume=fresh"]))


def test_a_signal_to_the_supervisor_ends_the_run_and_then_itself(tmp_path, run):
    (tmp_path / "script.json").write_text(json.dumps([1, "wait"]))
    code = (
        "from grpo.common.command_line import run\n"
        "from grpo.config import load_config\n"
        "from grpo.supervise import supervise\n"
        f"config = load_config('tiny', ['output_dir={tmp_path / 'run'}'])\n"
        "raise SystemExit(run(lambda _: supervise('stand_in', 'tiny', [], None, config), []))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout.readline() == "waiting\n"
        one.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert one.wait(30) == 75
    assert time.monotonic() - began < 20
