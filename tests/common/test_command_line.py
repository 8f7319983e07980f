import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grpo.common.command_line import Parser, add_recipe, file_path, run
from grpo.common.errors import UserError


def recipe_parser() -> Parser:
    parser = Parser("test")
    add_recipe(parser)
    parser.add_argument("--output", type=Path)
    return parser


def test_flags_take_a_space_or_an_equals_sign_and_stand_anywhere():
    one = recipe_parser().parse(["a=1", "--config-name", "tiny", "b=2", "--output=x", "c=3"])
    two = recipe_parser().parse(["--config-name=tiny", "a=1", "b=2", "c=3", "--output", "x"])
    assert one == two
    assert one.config_name == "tiny" and one.overrides == ["a=1", "b=2", "c=3"]


def test_a_flag_cannot_be_cut_short():
    with pytest.raises(UserError, match="config-name"):
        recipe_parser().parse(["--config-n", "tiny"])


def test_an_error_of_the_user_is_one_message_and_78(capsys: pytest.CaptureFixture[str]):
    def command(arguments: object) -> int:
        raise UserError("steps=0: must be at least 1")

    assert run(command, []) == 78
    assert capsys.readouterr().err == "grpo: steps=0: must be at least 1\n"


def test_of_the_copies_that_torchrun_starts_the_first_one_of_a_machine_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def command(arguments: object) -> int:
        raise UserError("steps=0: must be at least 1")

    waits: list[float] = []
    monkeypatch.setattr("grpo.common.command_line.time.sleep", waits.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    told = {}
    for local_rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        assert run(command, []) == 78
        told[local_rank] = (capsys.readouterr().err.count("steps=0"), len(waits))
    assert told == {"0": (1, 0), "1": (0, 1)}


def test_ctrl_c_is_a_line_and_130(capsys: pytest.CaptureFixture[str]):
    def command(arguments: object) -> int:
        raise KeyboardInterrupt

    assert run(command, []) == 130
    assert capsys.readouterr().err == "grpo: stopped by Ctrl-C\n"


def test_sigterm_closes_what_is_open_and_is_143(capsys: pytest.CaptureFixture[str]):
    closed = []

    def command(arguments: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            closed.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert run(command, []) == 143 and closed
    assert capsys.readouterr().err == "grpo: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_importing_the_shared_pieces_loads_nothing_heavy():
    heavy = "{'torch', 'ray', 'numpy', 'yaml', 'hydra'}"
    modules = "sys, grpo.common.command_line, grpo.common.files"
    code = f"import {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_a_path_behind_an_equals_sign_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = Parser("x")
    add_recipe(parser, required=False)
    assert parser.parse(["--config-dir=~/recipes"]).config_dir == Path("/home/me/recipes")
    assert file_path("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
