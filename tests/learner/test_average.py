"""Averages of model folders: worked numbers, and folders that do not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from grpo.commands.average import main, run_average
from grpo.common.errors import UserError
from grpo.config.average import AverageConfig, load_average_config
from grpo.learner.average import average, check_alike
from grpo.learner.model_folder import folder_sha256
from tests.models import SMALL_MODEL

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"


def change(folder: Path, **tensors) -> None:
    state = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor is None:
            state.pop(name)
        else:
            state[name] = tensor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def two(tmp_path):
    """Two copies of the small model."""
    folders = [tmp_path / "long", tmp_path / "short"]
    for folder in folders:
        shutil.copytree(SMALL_MODEL, folder)
    return folders


def test_every_weight_is_the_weighted_sum_and_the_rest_is_the_first_models(two, tmp_path):
    size = load_file(two[0] / "model.safetensors")[NORM].numel()
    change(two[0], **{NORM: torch.full((size,), 1.0)})
    change(two[1], **{NORM: torch.full((size,), 5.0)})
    average(two, (0.75, 0.25), tmp_path / "out")
    found, before = (load_file(f / "model.safetensors") for f in (tmp_path / "out", two[0]))
    assert found.keys() == before.keys()
    assert found[NORM].tolist() == [2.0] * size  # 0.75 * 1 + 0.25 * 5
    assert torch.equal(found[EMBEDDING], before[EMBEDDING])
    assert (tmp_path / "out/config.json").read_text() == (two[0] / "config.json").read_text()
    check_alike([two[0], tmp_path / "out"])
    assert not (tmp_path / "out.partial").exists()


def test_sums_are_made_in_float32_and_stored_in_the_first_models_type(two, tmp_path):
    state = load_file(two[0] / "model.safetensors")
    change(two[0], **{name: tensor.bfloat16() for name, tensor in state.items()})
    size = state[NORM].numel()
    # In bfloat16 a third of 1 + 2^-7 is rounded three times; the mean of equal numbers is itself.
    for folder in two:
        change(folder, **{NORM: torch.full((size,), 1.0078125, dtype=torch.bfloat16)})
    average([two[0], two[1], two[0]], (1 / 3,) * 3, tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert found[NORM].dtype == found[EMBEDDING].dtype == torch.bfloat16
    assert found[NORM].tolist() == [1.0078125] * size


def test_files_may_be_split_otherwise(two, tmp_path):
    state = load_file(two[0] / "model.safetensors")
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors":
             names[1::2]}  # fmt: skip
    (two[0] / "model.safetensors").unlink()
    for file, held in parts.items():
        save_file({n: state[n] for n in held}, two[0] / file, metadata={"format": "pt"})
    index = {"weight_map": {n: file for file, held in parts.items() for n in held}}
    (two[0] / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = folder_sha256(two[1])
    for order in (two, two[::-1]):
        check_alike(order)
        average(order, (0.5, 0.5), tmp_path / "out")
        files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
        assert files == sorted(file.name for file in order[0].glob("*.safetensors"))
        assert folder_sha256(tmp_path / "out") == whole  # halves of equal numbers are exact


def edit(file: Path, **values) -> None:
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, **values}))


def test_the_first_difference_of_two_models_is_named(two):
    def refused() -> str:
        with pytest.raises(UserError) as raised:
            check_alike(two)
        shutil.rmtree(two[1])
        shutil.copytree(SMALL_MODEL, two[1])
        return str(raised.value)

    edit(two[1] / "config.json", rms_norm_eps=0.5)
    assert "config.json has rms_norm_eps=1e-06 and rms_norm_eps=0.5" in (told := refused())
    assert f"models: {two[1]} cannot be averaged with {two[0]}" in told
    change(two[1], extra=torch.ones(2))
    assert f"the weight extra is in {two[1]} alone" in refused()
    edit(two[1] / "tokenizer_config.json", chat_template="{{ messages }}")
    assert "the tokenizers have chat_template=None and '{{ messages }}'" in refused()
    tokenizer = json.loads((two[1] / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    (a, i), (b, j) = list(vocabulary.items())[:2]
    vocabulary |= {a: j, b: i}
    (two[1] / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert f"the tokenizers have the token {min(a, b)!r} as " in refused()
    edit(two[1] / "config.json", transformers_version="0.0", dtype="bfloat16", use_cache=False)
    check_alike(two)


def test_a_tied_head_that_one_folder_has_is_left_out(two, tmp_path):
    state = load_file(two[0] / "model.safetensors")
    change(two[0], **{"lm_head.weight": state[EMBEDDING].clone()})
    check_alike(two)
    average(two, (0.5, 0.5), tmp_path / "out")
    assert "lm_head.weight" not in load_file(tmp_path / "out/model.safetensors")


def test_the_summary_has_the_hashes_and_a_second_start_makes_nothing(two, tmp_path, capsys):
    size = load_file(two[0] / "model.safetensors")[NORM].numel()
    change(two[1], **{NORM: torch.zeros(size)})
    out = tmp_path / "averaged"
    words = [f"models=[{two[0]},{two[1]}]", f"output_dir={out}"]
    assert main(words) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["weights"] == [0.5, 0.5]
    assert summary["models_sha256"] == [folder_sha256(folder) for folder in two]
    assert summary["weights_sha256"] == folder_sha256(out / "policy")
    assert len({*summary["models_sha256"], summary["weights_sha256"]}) == 3
    stamp = (out / "policy/model.safetensors").stat().st_mtime_ns
    assert main(words) == 0
    assert "holds this average already" in capsys.readouterr().out
    assert (out / "policy/model.safetensors").stat().st_mtime_ns == stamp
    assert main([*words, "weights=[0.25,0.75]"]) == 78
    assert "holds another average" in capsys.readouterr().err
    # Interrupted before the summary, it is made again.
    (out / "summary.json").unlink()
    (out / "policy/model.safetensors").write_text("half")
    run_average(load_average_config(words))
    assert folder_sha256(out / "policy") == summary["weights_sha256"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models=[a]", "output_dir=x"], "models=['a']: needs at least 2 items"),
        (["models=[a,b]"], "output_dir: missing"),
        (["models=[a,b]", "weights=[1]", "output_dir=x"], "1 weights for 2 models"),
        (["models=[a,b]", "weights=[1,1]", "output_dir=x"], "their sum is 2, and that of an"),
        (["models=[a,b]", "weights=[2,-1]", "output_dir=x"], "must be greater than 0"),
        (["models=[a,b]", "weigths=[1,1]", "output_dir=x"], "did you mean 'weights'?"),
        (["models=[a,b]", "output_dir=x"], "model.path=a: no such folder"),
    ],
)
def test_mistakes_end_with_78_and_nothing_written(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 78
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_refused(two, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        run_average(AverageConfig(models=tuple(map(str, two)), output_dir=str(tmp_path / "out")))
