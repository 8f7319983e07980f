import json
import math
from pathlib import Path

import pytest

from grpo.common import files
from grpo.common.errors import UserError
from grpo.common.files import work_folder


def test_a_json_line_is_one_line_whatever_the_text_holds():
    nasty = "a\nb\r\x00\x1b[31m\x85\u2028\u2029\ud800"
    line = files.json_line({"response": nasty})
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"response": nasty}


def test_non_finite_numbers_are_kept_as_words_in_valid_json():
    line = files.json_line({"loss": math.nan, "grad_norm": math.inf, "kl": -math.inf})
    assert line == '{"loss": "nan", "grad_norm": "inf", "kl": "-inf"}'


def test_plain_turns_paths_tuples_and_array_scalars_into_json_types():
    class Scalar:
        def tolist(self) -> float:
            return 0.5

    assert files.plain({"a": Path("x/y"), "b": (1, 2), 3: Scalar()}) == {
        "a": "x/y",
        "b": [1, 2],
        "3": 0.5,
    }


def test_half_a_surrogate_pair_comes_back_from_appended_and_from_whole_files(tmp_path: Path):
    row = {"text": "größer \ud800 \u2028"}
    files.append_line(tmp_path / "a.jsonl", row)
    files.write_atomically({tmp_path / "b.jsonl": [row]})
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert list(files.read_jsonl(tmp_path / "a.jsonl")) == [row]


def test_a_full_disk_leaves_no_part_of_an_appended_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written"):
            files.append_line(path, {"step": 2, "reward": 0.123456789})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == '{"step": 1}\n'


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "summary.json"
    files.write_atomically({path: {"steps": 1}})

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(UserError, match="no space"):
        files.write_atomically({path: {"steps": 2}})
    assert json.loads(path.read_text()) == {"steps": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_last_line_is_left_out_and_a_torn_line_before_it_is_not(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(files.read_jsonl(path)) == [{"a": 1}]
    path.write_text('{"a": 1\n{"a": 2}\n')
    with pytest.raises(json.JSONDecodeError):
        list(files.read_jsonl(path))


def test_yaml_keeps_the_order_and_comments_stay_comments(tmp_path: Path):
    import yaml

    path = tmp_path / "config.yaml"
    files.write_yaml(path, {"b": 1, "a": {"text": "x\x1b\n: y"}}, comments=["recipe: tiny\nb: 2"])
    assert path.read_text().startswith("# recipe: tiny b: 2\nb: 1\n")
    assert yaml.safe_load(path.read_text()) == {"b": 1, "a": {"text": "x\x1b\n: y"}}


def test_a_file_below_a_file_is_told_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is no folder"):
        files.check_writable([tmp_path / "file" / "x" / "y.json"])


def test_a_copy_that_ray_deletes_after_the_job_is_no_place_for_a_run(monkeypatch):
    monkeypatch.delenv("GRPO_HOME", raising=False)
    copy = Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0123/grpo")
    assert work_folder(copy) == Path.home() / "grpo"
    assert work_folder(Path("/home/me/grpo")) == Path("/home/me/grpo")
    monkeypatch.setenv("GRPO_HOME", "/shared/me")
    assert work_folder(copy) == Path("/shared/me")
