"""Each kind of bad input: one clear message, exit 78, and nothing under a final name."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from data.prepare import main
from tests.data.helpers import prepare, read_jsonl, write_jsonl

GOOD = {"id": "a", "problem": "What is 1 + 1?", "answer": "2", "source": "s"}


def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The message of a run that must fail."""
    code = prepare(tmp_path / "out", *arguments)
    message = capsys.readouterr().err
    assert code == 78
    assert message.startswith("grpo: ")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    return message


def rows(tmp_path: Path, *bad: dict[str, Any]) -> Path:
    path = write_jsonl(tmp_path / "in.jsonl", [GOOD, *bad])
    path.write_text(
        path.read_text().replace("\\\\ud800", "\\ud800")
    )  # half a pair can only be written as an escape
    return path


FILES = {
    "binary": (bytes(random.Random(0).randbytes(5000)), "binary file"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 300, "binary file"),
    "utf-16": (json.dumps(GOOD).encode("utf-16"), "UTF-16"),
    "utf-16 without a mark": (json.dumps(GOOD).encode("utf-16-le"), "binary file"),
    "latin-1": ('{"problem": "Où?", "answer": "1"}\n'.encode("latin-1"), "not UTF-8: byte 0xf9"),
    "empty": (b"", "the file is empty"),
    "blank": (b"\n\n  \n", "no rows"),
    "truncated gzip": (gzip.compress(json.dumps(GOOD).encode() * 500)[:-20], "truncated"),
    "gzip of nothing": (gzip.compress(b""), "holds nothing"),
    "half a row": (b'{"problem": "x", "ans', "not valid JSON"),
    "array of numbers": (b"[1, 2]", "not an object"),
    "broken array": (b'[{"problem": "x"}, ', "not valid JSON"),
    "empty array": (b"[]", "array is empty"),
    "not Parquet": (b"PAR1 and then something else", "Parquet"),
    "deep nesting": (b'{"problem": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_one_message(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = FILES[name]
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    assert message in (error := fails(tmp_path, capsys, "--input", path))
    assert str(path) in error


def test_a_missing_file_a_folder_and_a_false_gz_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in fails(tmp_path, capsys, "--input", tmp_path / "nowhere.jsonl")
    assert "directory" in fails(tmp_path, capsys, "--input", tmp_path)
    false_gz = tmp_path / "x.jsonl.gz"
    false_gz.write_text(json.dumps(GOOD))
    assert "not gzip" in fails(tmp_path, capsys, "--input", false_gz)


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "missing answer": ({"id": "b", "problem": "x"}, "line 2: answer: is missing"),
    "missing problem": (
        {"id": "b", "answer": "1", "text": "x"},
        "line 2: question: none of the columns",
    ),
    "empty answer": ({"id": "b", "problem": "x", "answer": "  "}, "line 2: answer: is empty"),
    "empty problem": ({"id": "b", "problem": "", "answer": "1"}, "line 2: question: is empty"),
    "NUL": ({"id": "b", "problem": "x\0y", "answer": "1"}, "line 2: question: holds a NUL byte"),
    "half a surrogate pair": (
        {"id": "b", "problem": "x", "answer": "\\ud800"},
        "line 2: answer: holds half",
    ),
    "wrong type": (
        {"id": "b", "problem": ["x"], "answer": "1"},
        "line 2: question: is list, not text",
    ),
    "answer of a wrong type": (
        {"id": "b", "problem": "x", "answer": {"value": 1}},
        "line 2: answer: is dict",
    ),
    "truth value": ({"id": "b", "problem": "x", "answer": True}, "line 2: answer: is bool"),
    "duplicate id": (
        {"id": "a", "problem": "y", "answer": "1"},
        "line 2: id: duplicate id 'a', first used in",
    ),
    "two megabytes": (
        {"id": "b", "problem": "x" * 2_000_000, "answer": "1"},
        "line 2: row: longer than",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_named_by_line_field_and_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, message = ROWS[name]
    assert message in fails(tmp_path, capsys, "--input", rows(tmp_path, row))


def test_a_limit_of_bad_rows_makes_them_counted_skips(tmp_path: Path) -> None:
    path = rows(
        tmp_path,
        *(row for row, _ in ROWS.values()),
        {**GOOD, "id": "z", "problem": "What is 2 + 2?"},
    )
    assert prepare(tmp_path, "--input", path, "--max-bad-rows", str(len(ROWS))) == 0
    assert [row["id"] for row in read_jsonl(tmp_path / "clean.jsonl")] == ["a", "z"]
    skipped = [row for row in read_jsonl(tmp_path / "dropped.jsonl") if row["stage"] == "load"]
    assert [row["line"] for row in skipped] == list(range(2, 2 + len(ROWS)))
    assert len(json.loads((tmp_path / "report.json").read_text())["bad_rows"]) == len(ROWS)


def test_one_bad_row_more_than_allowed_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rows(tmp_path, *(row for row, _ in ROWS.values()))
    error = fails(tmp_path, capsys, "--input", path, "--max-bad-rows", "3")
    assert (
        "11 bad rows, 3 allowed" in error and "and 6 more" in error and "max_bad_rows=11" in error
    )


def test_a_wrong_mapping_says_what_it_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(
        tmp_path, capsys, "--input", rows(tmp_path), "--mapping", "gsm8k", "--max-bad-rows", "9"
    )
    assert "none of the 1 rows" in error and "'####'" in error
    error = fails(tmp_path, capsys, "--input", rows(tmp_path), "--question-column", "text")
    assert "text: no such column; the row has answer, id, problem, source" in error
    assert "did you mean 'gsm8k'?" in fails(
        tmp_path, capsys, "--input", rows(tmp_path), "--mapping", "gsm9k"
    )


def test_faults_of_an_evaluation_file_count_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = write_jsonl(tmp_path / "eval.jsonl", [{"id": "e", "prompt_text": "x"}])
    assert "eval.jsonl" in fails(tmp_path, capsys, "--input", rows(tmp_path), "--against", against)


def test_a_wrong_command_line_is_a_configuration_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "unrecognized arguments: --imput" in fails(tmp_path, capsys, "--imput", "x")
    assert "give --input" in fails(tmp_path, capsys)
    assert "workers=0" in fails(tmp_path, capsys, "--input", rows(tmp_path), "--workers", "0")
    assert "overrides go with --config-name" in fails(
        tmp_path, capsys, "--input", rows(tmp_path), "--workers", "1", "a=b"
    )


def test_a_tokenizer_that_is_not_there_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none: cannot be loaded" in fails(
        tmp_path, capsys, "--input", rows(tmp_path), "--tokenizer", tmp_path / "none"
    )


def test_the_input_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    path = write_jsonl(tmp_path / "out" / "clean.jsonl", [GOOD])
    assert prepare(tmp_path / "out", "--input", path) == 78
    assert "would be overwritten" in capsys.readouterr().err
    assert read_jsonl(path) == [GOOD]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot be written" in fails(tmp_path, capsys, "--input", rows(tmp_path))


def test_an_output_under_a_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert prepare(tmp_path / "file" / "deeper", "--input", rows(tmp_path)) == 78
    assert "cannot be written" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_found_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for flag, place, message in (
        ("--output", "file/deep/clean.jsonl", "file is no folder"),
        ("--report", "file/report.json", "file is no folder"),
        ("--dropped", "folder", "folder: is a folder, not a file"),
        ("--work-dir", "file/work", "file is no folder"),
    ):
        output = ["--output", str(tmp_path / "new" / "clean.jsonl")]
        # an input that is not there would be the first message of a run that reads before it checks
        arguments = ["--input", str(tmp_path / "none.jsonl"), *output, flag, str(tmp_path / place)]
        assert main(arguments) == 78
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
