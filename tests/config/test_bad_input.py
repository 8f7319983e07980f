"""What is wrong outside the recipe ends with one message and exit code 78 as well, before any actor
starts.
"""

import json
import socket

import pytest

from grpo.commands.main import main as cli
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.runtime.ray.cluster import check_enough, reserve
from grpo.runtime.ray.placement import Unit
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
    message = run(
        capsys, "model.base=null", "model.path=/no/such/folder", f"output_dir={tmp_path}/run"
    )
    assert "model.path=/no/such/folder: no such folder" in message


@pytest.mark.parametrize(
    ("pattern", "what"), [("config.json", "configuration"), ("*.safetensors", "weights")]
)
def test_a_model_folder_without_its_parts(capsys, tmp_path, model_folder, pattern, what):
    for file in model_folder.glob(pattern):
        file.unlink()
    message = run(
        capsys, "model.base=null", f"model.path={model_folder}", f"output_dir={tmp_path}/run"
    )
    assert f"the folder has no {what}" in message


def test_a_tokenizer_without_an_end_of_sequence_token(capsys, tmp_path, model_folder):
    file = model_folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["eos_token"] = None
    file.write_text(json.dumps(settings))
    message = run(
        capsys, "model.base=null", f"model.path={model_folder}", f"output_dir={tmp_path}/run"
    )
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


@pytest.mark.parametrize("setting", ["sampling", "evaluation"])
def test_responses_that_do_not_fit_the_context_of_the_model(
    capsys, tmp_path, model_folder, setting
):
    message = run(
        capsys,
        "model.base=null",
        f"model.path={model_folder}",
        f"{setting}.max_response_tokens=510",
        f"output_dir={tmp_path}/run",
    )
    assert f"{setting}.max_response_tokens=510: with the prompt of" in message
    assert "the context of the model is 512" in message


def test_a_model_whose_logits_the_learner_cannot_compute(capsys, tmp_path, model_folder):
    file = model_folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"final_logit_softcapping": 30.0}))
    message = run(
        capsys, "model.base=null", f"model.path={model_folder}", f"output_dir={tmp_path}/run"
    )
    assert "final_logit_softcapping, which the learner does not support" in message


def test_held_out_problems_that_are_trained_on(capsys, tmp_path):
    rows = [{"id": str(i), "problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(3)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows[1]["problem"] = "what is  1 + 1?"
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[1]))
    message = run(
        capsys,
        f"data.train={{source: file, path: {tmp_path}/train.jsonl}}",
        f"data.held_out={{source: file, path: {tmp_path}/test.jsonl}}",
        f"output_dir={tmp_path}/run",
    )
    assert "data.held_out: 1 of its problems are in data.train too, the first is '1'" in message


def test_a_machine_that_is_too_small_is_refused_before_the_base_is_trained(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(
        "grpo.miniature.base_model.build_base_model", lambda *_: pytest.fail("trained a base")
    )
    message = run(capsys, "rollout.cpus_per_engine=1000", f"output_dir={tmp_path}/run")
    assert "asks for 2001 CPUs" in message
    assert "asks for 4 GPUs and the cluster has" in run(
        capsys, "trainer.device=gpu", f"output_dir={tmp_path}/run"
    )


def test_a_cluster_that_does_not_answer(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError, match=f"RAY_ADDRESS={address}: nothing answers there"),
        reserve(load_config("tiny", [])),
    ):
        pass


def test_an_output_folder_that_holds_something(capsys, tmp_path):
    (tmp_path / "precious.txt").write_text("keep me")
    assert "not empty" in run(capsys, f"output_dir={tmp_path}")
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_too_few_gpus():
    with pytest.raises(UserError, match=r"asks for 3 GPUs and the cluster has 1: .*STACK=cpu"):
        check_enough({"engines": Unit(cpus=1, gpus=1, count=3)}, {"CPU": 8, "GPU": 1})


def test_too_few_cpus():
    with pytest.raises(UserError, match="asks for 4 CPUs and the cluster has 2"):
        engine, rank = Unit(cpus=2, gpus=0, count=1), Unit(cpus=1, gpus=0, count=2)
        check_enough({"engines": engine, "ranks": rank}, {"CPU": 2})


def test_an_unknown_verb(capsys):
    assert cli(["trian"]) == 78
    assert "unknown verb 'trian'" in capsys.readouterr().err


def test_no_recipe_named(capsys):
    assert main([]) == 78
    assert "--config-name" in capsys.readouterr().err
