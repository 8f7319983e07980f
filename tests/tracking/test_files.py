import json
import math
from pathlib import Path

import pytest

from grpo.tracking import files


def test_a_json_line_is_one_line_whatever_the_text_holds():
    nasty = "a\nb\r\x00\x1b[31m\x85\u2028\u2029\ud800"
    line = files.json_line({"response": nasty})
    assert len(line.splitlines()) == 1 and line.isascii()
    assert json.loads(line) == {"response": nasty}


def test_non_finite_numbers_are_kept_as_words_in_valid_json():
    line = files.json_line({"loss": math.nan, "grad_norm": math.inf, "kl": -math.inf})
    assert line == '{"loss": "nan", "grad_norm": "inf", "kl": "-inf"}\n'


def test_plain_turns_paths_tuples_and_array_scalars_into_json_types():
    class Scalar:
        def tolist(self) -> float:
            return 0.5

    assert files.plain({"a": Path("x/y"), "b": (1, 2), 3: Scalar()}) == {
        "a": "x/y",
        "b": [1, 2],
        "3": 0.5,
    }


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "summary.json"
    files.write_json(path, {"steps": 1})

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, {"steps": 2})
    assert json.loads(path.read_text()) == {"steps": 1}


def test_rows_of_one_step_are_merged_and_a_torn_last_line_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    files.append_jsonl(path, {"step": 1, "reward": 0.5})
    files.append_jsonl(path, {"step": 0, "eval/greedy/accuracy": 0.4})
    files.append_jsonl(path, {"step": 1, "eval/greedy/accuracy": 0.6})
    with path.open("a") as file:
        file.write('{"step": 2, "rew')
    assert files.read_metrics(tmp_path) == [
        {"step": 0, "eval/greedy/accuracy": 0.4},
        {"step": 1, "reward": 0.5, "eval/greedy/accuracy": 0.6},
    ]


def test_yaml_keeps_the_order_and_comments_stay_comments(tmp_path: Path):
    import yaml

    path = tmp_path / "config.yaml"
    files.write_yaml(path, {"b": 1, "a": {"text": "x\x1b\n: y"}}, comments=["recipe: tiny\nb: 2"])
    assert path.read_text().startswith("# recipe: tiny b: 2\nb: 1\n")
    assert yaml.safe_load(path.read_text()) == {"b": 1, "a": {"text": "x\x1b\n: y"}}
