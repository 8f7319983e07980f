"""What is wrong outside the recipe ends with one message and exit code 78 as well, before any actor starts."""

import json

import pytest

from grpo.cli import main as cli
from grpo.errors import UserError
from grpo.runtime.cluster import check_enough
from grpo.train import main


def run(capsys, *overrides):
    code = main(["--config-name", "tiny", *overrides])
    message = capsys.readouterr().err
    assert code == 78
    assert "Traceback" not in message
    assert len(message.splitlines()) < 20
    return message


@pytest.fixture
def model_folder(tmp_path, small_model):
    import shutil

    return shutil.copytree(small_model, tmp_path / "model")


def test_a_missing_model_folder(capsys, tmp_path):
    message = run(capsys, "model.base=null", "model.path=/no/such/folder", f"output_dir={tmp_path}/run")
    assert "model.path=/no/such/folder: no such folder" in message


@pytest.mark.parametrize(("pattern", "what"), [("config.json", "configuration"), ("*.safetensors", "weights")])
def test_a_model_folder_without_its_parts(capsys, tmp_path, model_folder, pattern, what):
    for file in model_folder.glob(pattern):
        file.unlink()
    message = run(capsys, "model.base=null", f"model.path={model_folder}", f"output_dir={tmp_path}/run")
    assert f"the folder has no {what}" in message


def test_a_tokenizer_without_an_end_of_sequence_token(capsys, tmp_path, model_folder):
    file = model_folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["eos_token"] = None
    file.write_text(json.dumps(settings))
    message = run(capsys, "model.base=null", f"model.path={model_folder}", f"output_dir={tmp_path}/run")
    assert "no end-of-sequence token" in message


def test_an_empty_data_set(capsys, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    source = f"data.train={{source: file, path: {tmp_path}/empty.jsonl}}"
    assert "the file is empty" in run(capsys, source, f"output_dir={tmp_path}/run")


def test_a_prompt_that_does_not_fit(capsys, tmp_path, model_folder):
    message = run(
        capsys,
        "model.base=null",
        f"model.path={model_folder}",
        "rollout.max_model_len=45",
        "sampling.max_response_tokens=40",
        f"output_dir={tmp_path}/run",
    )
    assert "raise rollout.max_model_len" in message


def test_an_output_folder_that_holds_something(capsys, tmp_path):
    (tmp_path / "precious.txt").write_text("keep me")
    assert "not empty" in run(capsys, f"output_dir={tmp_path}")
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_too_few_gpus():
    with pytest.raises(UserError, match=r"asks for 3 GPUs and the cluster has 1: .*trainer.device=cpu"):
        check_enough([{"CPU": 1, "GPU": 1}] * 3, {"CPU": 8, "GPU": 1})


def test_too_few_cpus():
    with pytest.raises(UserError, match="asks for 4 CPUs and the cluster has 2"):
        check_enough([{"CPU": 2.0}] * 2, {"CPU": 2})


def test_an_unknown_verb(capsys):
    assert cli(["trian"]) == 78
    assert "unknown verb 'trian'" in capsys.readouterr().err


def test_no_recipe_named(capsys):
    assert main([]) == 78
    assert "--config-name" in capsys.readouterr().err
