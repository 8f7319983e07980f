import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from grpo.common.errors import UserError
from grpo.common.files import read_jsonl
from grpo.config.schema import TrackingConfig, WandbConfig
from grpo.tracking import open_run
from grpo.tracking import run as module
from grpo.tracking.terminal.summary_table import closing_rows
from tests.tracking.conftest import Example
from tests.tracking.example_run import CANARIES, GIT_HASH, NASTY

QUIET = TrackingConfig(wandb=WandbConfig(mode="disabled"), tensorboard=False, plots=False)


def test_metrics_are_one_object_a_step_in_the_documented_order(example: Example):
    lines = (example.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [0, 0, 1, 2, 3, 4, 4]
    assert list(rows[2]) == [
        "step", "stage", "reward", "reward/accuracy", "accuracy", "format", "response_length",
        "kl", "loss", "lr", "weight_version", "tokens_per_second",
    ]  # fmt: skip
    assert rows[3]["loss"] == "nan" and rows[2]["kl"] is None
    assert rows[0] == {
        "step": 0,
        "eval/sampled/accuracy": 0.4,
        "eval/sampled/format": 0.7,
        "eval/sampled/response_length": 22,
    }


def test_rollouts_keep_the_text_exactly(example: Example):
    path = example.folder / "rollouts" / "step_000004.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 3 and rows[0]["response"] == NASTY


def test_config_says_recipe_and_code_and_is_yaml(example: Example):
    text = (example.folder / "config.yaml").read_text()
    assert text.startswith(f"# recipe: tiny\n# git: {GIT_HASH}\n")
    config = yaml.safe_load(text)
    assert config["sampling"] == {"max_tokens": 64, "stop_token": "</answer>"}
    assert config["model"] == {"path": "somewhere", "hf_token": "[redacted]", "revision": GIT_HASH}


def test_summary_is_what_the_trainer_gave(example: Example):
    summary = json.loads((example.folder / "summary.json").read_text())
    assert summary["final"]["sampled"]["accuracy"] == 0.9
    assert summary["weights_sha256"] == "ab" * 32 and summary["steps"] == 4


def test_no_secret_is_in_any_file_or_on_the_terminal(example: Example):
    paths = [path for path in example.folder.rglob("*") if path.is_file()]
    names = {path.name for path in paths}
    assert {
        "config.yaml",
        "summary.json",
        "metrics.jsonl",
        "debug.log",
    } <= names  # the search sees what it should
    for name, canary in CANARIES.items():
        holders = [path for path in paths if canary.encode() in path.read_bytes()]
        assert not holders, f"{name} is in {holders}"
        assert canary not in example.stdout


def test_no_drafts_are_left(example: Example):
    assert not list(example.folder.rglob("*.tmp"))


def test_the_plain_output_has_one_line_a_step_the_table_and_the_places(example: Example):
    lines = example.stdout.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 4 and steps[3].startswith(
        "step 4/4  reward 1.000  accuracy 0.900  format 0.950  length 34.0"
    )
    assert (
        sum(line.startswith("evaluating 1024 problems") for line in lines) == 1
    )  # not one line for each percent
    assert "evaluation at step 4, sampled:  accuracy 0.900  format 0.950  length 34.0" in lines
    assert any("sampled accuracy" in line and "+0.500" in line for line in lines)
    assert any("sampled worked share" in line and "+0.600" in line for line in lines)
    assert "4 steps, 5m02s, 1.2M tokens generated" in lines
    assert any(line.startswith("wandb:") and "wandb sync" in line for line in lines)
    assert f"run folder:    {example.folder}" in lines


def test_text_of_a_model_cannot_reach_the_terminal(example: Example):
    (line,) = (line for line in example.stdout.splitlines() if line.startswith("text of a model"))
    assert "\\x1b]0;pwned\\x07[bold red]1" in line
    assert not set(example.stdout) & set("\x00\x07\x1b\x85\u2028")


def test_a_folder_with_a_run_is_refused(tmp_path: Path):
    with open_run(tmp_path, {}, QUIET, "tiny", 1, None) as run:
        run.log_step({"step": 1, "reward": 0.5})
    with pytest.raises(UserError, match="already holds a run"):
        open_run(tmp_path, {}, QUIET, "tiny", 1, None)


def test_a_failing_run_keeps_its_record_and_lets_the_error_through(tmp_path: Path):
    settings = TrackingConfig(wandb=WandbConfig(mode="disabled"))
    with (
        pytest.raises(KeyError, match="boom"),
        open_run(tmp_path, {}, settings, "tiny", 2, None) as run,
    ):
        run.log_step({"step": 1, "reward": 0.5})
        raise KeyError("boom")
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "reward": 0.5}\n'
    assert list((tmp_path / "tensorboard").iterdir()) and not (tmp_path / "summary.json").exists()


def test_a_metric_that_is_not_finite_is_kept_and_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with open_run(tmp_path, {}, QUIET, "tiny", 3, None) as run:
        for step in (1, 2, 3):
            run.log_step({"step": step, "reward": float("nan"), "grad_norm": float("inf")})
        run.close({})
    assert [row["reward"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == ["nan"] * 3
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("warning")] == [
        "warning: reward is nan at step 1",
        "warning: grad_norm is inf at step 1",
    ]
    assert any(line.startswith("step 3/3  reward nan") for line in told)


def test_the_size_of_an_evaluation_is_recorded_with_it(tmp_path: Path):
    with open_run(tmp_path, {}, QUIET, "tiny", 1, None) as run:
        run.log_evaluation(0, "greedy", {"accuracy": 0.5}, [], num_problems=128, num_samples=1)
        run.close({})
    assert list(read_jsonl(tmp_path / "metrics.jsonl")) == [
        {
            "step": 0,
            "eval/greedy/num_problems": 128,
            "eval/greedy/num_samples": 1,
            "eval/greedy/accuracy": 0.5,
        }
    ]


def test_the_time_of_the_evaluations_of_a_step_is_recorded_once(tmp_path: Path):
    with open_run(tmp_path, {}, QUIET, "tiny", 1, None) as run:
        run.log_evaluation(4, "sampled", {"accuracy": 0.5}, [])
        run.log_evaluation(4, "greedy", {"accuracy": 0.5}, [], seconds=1.5)
        run.close({})
    sampled, greedy = read_jsonl(tmp_path / "metrics.jsonl")
    assert sampled == {"step": 4, "eval/sampled/accuracy": 0.5}
    assert greedy == {"step": 4, "eval/greedy/accuracy": 0.5, "seconds/evaluate": 1.5}


def test_the_table_compares_evaluations_of_equal_size_only_and_shows_every_figure():
    base = {"num_problems": 512, "num_samples": 8, "accuracy": 0.25, "detour_share": 0.5}
    final = {**base, "accuracy": 0.75}
    rows = closing_rows({"base": {"sampled": base}, "final": {"sampled": final}})
    assert rows == [
        ("sampled accuracy", "0.250", "0.750", "+0.500"),
        ("sampled detour share", "0.500", "0.500", "+0.000"),
    ]
    small = {**final, "num_problems": 128}
    assert closing_rows({"base": {"sampled": base}, "final": {"sampled": small}}) == []


def test_a_run_without_evaluations_closes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with open_run(tmp_path, {}, QUIET, "tiny", 1, None) as run:
        run.close({"steps": 0})
    assert "0 steps" in capsys.readouterr().out


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'torch', 'wandb', 'tensorboard', 'matplotlib', 'rich', 'numpy', 'yaml'}"
    code = f"import sys, grpo.tracking, grpo.config.schema; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        == "set()\n"
    )


def test_a_disk_that_is_full_makes_a_gap_in_the_record_and_training_goes_on(tmp_path, monkeypatch):
    def refuse(path, row):
        raise UserError(f"{path}: cannot be written: No space left on device")

    write = module.append_line
    with open_run(tmp_path, {}, QUIET, "tiny", 3, None) as run:
        run.log_step({"step": 1, "reward": 0.5})
        monkeypatch.setattr(module, "append_line", refuse)
        run.log_step({"step": 2, "reward": 0.5})
        monkeypatch.setattr(module, "append_line", write)
        run.log_step({"step": 3, "reward": 0.5})
        run.close({"base": {}, "final": {}})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3]
    assert json.loads((tmp_path / "summary.json").read_text())["failed_record_writes"] == 1


def test_a_run_that_was_stopped_before_its_first_update_goes_on_in_its_folder(tmp_path):
    with open_run(tmp_path, {}, QUIET, "tiny", 3, None) as run:
        run.log_evaluation(0, "greedy", {"accuracy": 0.5}, [])
    with pytest.raises(UserError, match="already holds a run"):
        open_run(tmp_path, {}, QUIET, "tiny", 3, None)
    with open_run(tmp_path, {}, QUIET, "tiny", 3, None, 0, goes_on=True) as run:
        run.log_step({"step": 1, "reward": 0.5})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
