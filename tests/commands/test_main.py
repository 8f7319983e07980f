"""The `grpo` command."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from grpo.commands import evaluate, main


def test_an_unknown_verb_gets_the_near_one_and_78(capsys):
    assert main.main(["trian", "--config-name", "tiny"]) == 78
    told = capsys.readouterr().err
    assert told.startswith("grpo: unknown verb 'trian'; did you mean 'train'?\n")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_every_verb(capsys, arguments):
    assert main.main(arguments) == 0
    told = capsys.readouterr().out
    assert all(f"grpo {verb}" in told for verb in main.VERBS)


@pytest.mark.parametrize("verb", sorted(main.VERBS))
def test_every_verb_is_a_function_that_explains_itself(capsys, verb):
    assert callable(importlib.import_module(main.VERBS[verb].module).main)
    with pytest.raises(SystemExit) as ended:
        main.main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_wrong_flag_of_a_verb_is_78(capsys):
    assert main.main(["doctor", "--what"]) == 78
    assert "unrecognized arguments: --what" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["output_dir", "pass_rates"])
def test_an_evaluation_output_below_a_file_is_refused_before_the_model_is_looked_at(
    tmp_path, capsys, key
):
    (tmp_path / "file").write_text("x")
    settings = ["model=none", "data=[none.jsonl]", f"{key}={tmp_path}/file/x"]
    assert evaluate.main(settings) == 78
    assert "is no folder" in capsys.readouterr().err


def test_the_verbs_are_known_without_loading_anything_heavy():
    code = "import sys, grpo.commands.main; print({'torch', 'ray', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"
