"""Formats, mappings and what becomes of a row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import sources
from data.sources.loading import load_into
from data.sources.mappings import MAPPINGS, RowFault, columns
from data.sources.records import read_records
from data.sources.rows import Validator
from data.sources.spec import read_source
from grpo.common.errors import UserError
from tests.data.helpers import read_jsonl, write_jsonl

ROWS = [
    {"id": "a", "problem": "1 + 1?", "answer": "2"},
    {"id": "b", "problem": "x? \u2028 é", "answer": 4},
]


def load(path: Path) -> list[tuple[str, str, str]]:
    return [(p.id, p.question, p.answer) for p in sources.load(read_source({"path": str(path)}))]


def test_all_formats_give_the_same_problems(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "x.jsonl", ROWS)
    (tmp_path / "x.json").write_text(json.dumps(ROWS, indent=2))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(jsonl.read_bytes()))
    (tmp_path / "crlf.jsonl").write_bytes(
        b"\xef\xbb\xbf" + jsonl.read_bytes().replace(b"\n", b"\r\n\r\n")
    )
    pq.write_table(
        pa.Table.from_pylist([{**row, "answer": str(row["answer"])} for row in ROWS]),
        tmp_path / "x.parquet",
    )
    expected = [("a", "1 + 1?", "2"), ("b", "x? \u2028 é", "4")]
    for name in ("x.jsonl", "x.json", "x.jsonl.gz", "crlf.jsonl", "x.parquet"):
        assert load(tmp_path / name) == expected, name


def test_the_line_number_counts_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n\nnot json\n')
    assert [(r.line, r.fault is None) for r in read_records(tmp_path / "x.jsonl")] == [
        (1, True),
        (4, False),
    ]


def test_rows_without_ids_are_numbered_by_line_and_other_columns_are_kept(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"question": "q", "answer": 36.0, "year": 2023}])
    (only,) = load_into(Validator(), read_source({"path": str(path)}), "amc")
    assert (only.id, only.answer, only.source, dict(only.extra)) == (
        "amc-0000001",
        "36",
        "amc",
        {"year": 2023},
    )
    assert only.to_row() == {
        "id": "amc-0000001",
        "problem": "q",
        "answer": "36",
        "source": "amc",
        "year": 2023,
    }


def test_ids_are_unique_across_sources(tmp_path: Path) -> None:
    validator = Validator()
    for name in ("x", "y"):
        path = write_jsonl(tmp_path / f"{name}.jsonl", [ROWS[0], {**ROWS[1], "id": name}])
        load_into(validator, read_source({"path": str(path)}), name)
    with pytest.raises(
        UserError, match=r"y\.jsonl, line 1: id: duplicate id 'a', first used in .*x\.jsonl, line 1"
    ):
        validator.check()


DAPO = {
    "prompt": [
        {
            "role": "user",
            "content": "Solve the following math problem step by step. The last line is "
            "the answer.\n\n"
            "Find $x$.\n\nGiven $x = 2$.\n\nRemember to put your answer on its own line.",
        }
    ],
    "reward_model": {"ground_truth": "2", "style": "rule"},
    "extra_info": {"index": "abc"},
    "ability": "MATH",
}


@pytest.mark.parametrize(
    ("mapping", "row", "question", "answer"),
    [
        ("gsm8k", {"question": "q", "answer": "so 1,000 + 72\n#### 1,072"}, "q", "1072"),
        (
            "math",
            {"problem": "p", "solution": r"\boxed{1} so \boxed{\frac{1}{2}}", "level": "Level 3"},
            "p",
            r"\frac{1}{2}",
        ),
        ("deepscaler", {"problem": "p", "answer": "$5$", "solution": "s"}, "p", "$5$"),
        ("dapo", DAPO, "Find $x$.\n\nGiven $x = 2$.", "2"),
        ("aime", {"ID": "2024-I-1", "Problem": "p", "Answer": 33}, "p", "33"),
        ("aime", {"problem": "p", "answer": "033"}, "p", "33"),
        ("amc", {"problem": "p", "answer": 27.0}, "p", "27"),
        ("minerva", {"question": "q", "answer": "1e-5"}, "q", "1e-5"),
        ("minerva", {"problem": "q", "solution": r"thus \boxed{4.5e33}"}, "q", "4.5e33"),
        ("olympiadbench", {"question": "q", "final_answer": ["$2$", "$-1$."]}, "q", "2, -1"),
    ],
)
def test_mappings_read_the_published_columns(
    mapping: str, row: dict[str, Any], question: str, answer: str
) -> None:
    fields = MAPPINGS[mapping](row)
    assert (fields.question, fields.answer) == (question, answer)


def test_math_levels_are_numbers_or_absent() -> None:
    levels = [
        MAPPINGS["math"]({"problem": "p", "answer": "1", "level": level}).level
        for level in ("Level 3", "Level ?", None)
    ]
    assert levels == ["3", None, None]


def test_countdown_rows_become_questions() -> None:
    fields = MAPPINGS["countdown"]({"nums": [44, 19, 35], "target": 98})
    assert "44, 19, 35" in fields.question and "98" in fields.question
    assert json.loads(fields.answer) == {"numbers": [44, 19, 35], "target": 98}


@pytest.mark.parametrize(
    ("mapping", "row", "field"),
    [
        ("gsm8k", {"question": "q", "answer": "72"}, "answer"),
        ("math", {"problem": "p", "solution": r"\boxed{1"}, "solution"),
        ("dapo", {"prompt": "text", "reward_model": {}}, "prompt"),
        ("dapo", {**DAPO, "reward_model": {}}, "ground_truth"),
        ("aime", {"problem": "p", "answer": "1000"}, "answer"),
        ("aime", {"problem": "p", "answer": "1/2"}, "answer"),
        ("olympiadbench", {"question": "q", "final_answer": []}, "final_answer"),
        ("countdown", {"nums": [1], "target": 2}, "nums"),
    ],
)
def test_a_row_that_does_not_fit_names_its_field(
    mapping: str, row: dict[str, Any], field: str
) -> None:
    with pytest.raises(RowFault) as fault:
        MAPPINGS[mapping](row)
    assert fault.value.field == field


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"q": "1?", "a": "2", "key": 7, "hard": 3}])
    named = {"question": "q", "answer": "a", "id": "key", "level": "hard"}
    (only,) = load_into(Validator(), read_source({"path": str(path), "columns": named}), "s")
    assert (only.id, only.question, only.answer, only.level, dict(only.extra)) == (
        "7",
        "1?",
        "2",
        "3",
        {},
    )
    with pytest.raises(RowFault, match="hard: no such column"):
        columns(level="hard")({"problem": "p", "answer": "1"})


def test_source_settings_are_checked() -> None:
    for options, message in (
        ({}, "path: missing"),
        ({"path": "x", "generator": "knights"}, "generator: unknown key"),
        ({"source": "knights"}, "num_problems: missing"),
        ({"source": "knigths", "num_problems": 1}, "did you mean 'knights'"),
        ({"source": "knights", "num_problems": 1, "level": 7}, "level=7: must be at most 6"),
        ({"path": "x", "mapping": "gsm"}, "'gsm' is no mapping"),
        ({"path": "x", "weight": -1.0}, "weight=-1.0: must be at least 0"),
        ({"path": "x", "pathh": "y"}, "pathh: unknown key; did you mean 'path'"),
        ({"path": "x", "columns": {"anwser": "y"}}, "did you mean 'answer'"),
        ({"path": "x", "mapping": "dapo", "columns": {"answer": "y"}}, "columns go with"),
    ):
        with pytest.raises(UserError, match=message):
            read_source(options)


def test_a_hugging_face_set_needs_a_commit_unless_it_is_a_folder(tmp_path: Path) -> None:
    hub = {"source": "huggingface", "dataset": "openai/gsm8k"}
    with pytest.raises(UserError, match="revision=main of openai/gsm8k is not a commit"):
        read_source({**hub, "revision": "main"})
    (tmp_path / "set").mkdir()
    write_jsonl(tmp_path / "set" / "train.jsonl", [{"question": "q", "answer": "x #### 3"}])
    local = {"source": "huggingface", "dataset": str(tmp_path / "set"), "mapping": "gsm8k"}
    assert [p.answer for p in sources.load(read_source(local))] == ["3"]
    with pytest.raises(UserError, match="cannot be loaded"):
        sources.load(read_source({**local, "split": "nosplit"}))


def test_an_uncached_set_fails_offline_with_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    hub = {"source": "huggingface", "dataset": "nobody/nothing", "revision": "0123abc"}
    with pytest.raises(UserError, match=r"data set nobody/nothing .* cannot be loaded"):
        sources.load(read_source(hub))


def test_weights_are_written_into_the_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    problems = load_into(Validator(), read_source({"path": str(path), "weight": 3.0}), "s")
    assert [p.extra["weight"] for p in problems] == [3.0, 3.0]


def test_rows_survive_writing_and_reading(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    again = write_jsonl(
        tmp_path / "y.jsonl",
        [p.to_row() for p in load_into(Validator(), read_source({"path": str(path)}), "s")],
    )
    assert load(path) == load(again)
    assert read_jsonl(again)[0] == {"id": "a", "problem": "1 + 1?", "answer": "2", "source": "s"}
