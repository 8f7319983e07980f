"""The scenarios of `make chaos-fast`; `make chaos` has the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.chaos import main
from benchmarks.soak import Usage, slopes

pytestmark = pytest.mark.stack


def test_engines_killed_saves_killed_and_files_damaged_change_nothing_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = main(["--fast", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    told = dict(re.split(r" {2,}", line, maxsplit=1) for line in printed.splitlines()[-12:])
    assert told["scenarios survived"] == "4/4"
    assert told["lost samples"] == "0 of 192"
    assert told["resumed curve identical"] == "1/1 to the last bit"
    assert told["save kill points"] == "29/29"


def test_what_a_process_grows_by_is_counted_once_it_has_run_for_20_steps():
    lives = {
        # 900 MiB while it warms up; from step 20 to 60 it grows by 8 MiB and opens 2 descriptors
        ("engines", 1): [Usage(0, 100, 10), Usage(20, 1000, 50), Usage(60, 1008, 52)],
        ("engines", 2): [Usage(60, 100, 10), Usage(79, 990, 70)],  # too short a life
    }
    assert slopes(lives) == (
        f"\n{'':13}engines: 2 lives, at most 1008 MiB and 70 descriptors; "
        "in 40 steady steps +8 MiB and +2 descriptors"
    )
