"""The command line: order, ids, reasons, bad lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rewards.grade import main


def run(tmp_path: Path, lines: list[str], *options: str) -> tuple[int, list[dict]]:
    source, output = tmp_path / "cases.jsonl", tmp_path / "scores.jsonl"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    status = main(["--input", str(source), "--output", str(output), *options])
    written = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    return status, [json.loads(line) for line in written]


def case(response: str, gold: str = "42", **more: object) -> str:
    return json.dumps({"response": response, "gold": gold} | more)


def test_scores_come_in_order_with_ids(tmp_path: Path):
    lines = [
        case(r"\boxed{42}", id="a"),
        case(r"\boxed{9^{9^9}}", id=2),
        case("hm"),
        case("<answer>41</answer>", id=None),
    ]
    status, scores = run(tmp_path, lines, "--workers", "2")
    assert status == 0
    assert scores == [
        {"id": "a", "score": 1.0, "reason": "correct", "extracted": "42"},
        {"id": 2, "score": 0.0, "reason": "limit", "extracted": "9^{9^9}"},
        {"score": 0.0, "reason": "no_answer", "extracted": None},
        {"id": None, "score": 0.0, "reason": "wrong", "extracted": "41"},
    ]


def test_the_source_is_a_setting(tmp_path: Path):
    lines = [case(r"\boxed{42}"), case("<answer>42</answer>")]
    scores = {
        s: [r["score"] for r in run(tmp_path, lines, "--source", s)[1]]
        for s in ("boxed", "answer_tag", "any")
    }
    assert scores == {"boxed": [1, 0], "answer_tag": [0, 1], "any": [1, 1]}


@pytest.mark.parametrize(
    "bad", ["{", "[]", '{"response": "a"}', '{"response": 1, "gold": "2"}', "nonsense"]
)
def test_a_bad_line_stops_the_run_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture, bad: str
):
    lines = [case(r"\boxed{42}"), bad, case(r"\boxed{42}", id="last")]
    assert run(tmp_path, lines)[0] == 78
    assert "line 2" in capsys.readouterr().err
    status, scores = run(tmp_path, lines, "--skip-bad")
    assert (status, len(scores), scores[-1]["id"]) == (0, 2, "last")
    assert "line 2" in capsys.readouterr().err


def test_a_missing_file_and_a_bad_number_of_workers_are_faults_of_the_call(tmp_path: Path):
    missing = ["--input", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main(missing) == 78
    assert main([*missing, "--workers", "0"]) == 78


def test_a_fault_leaves_an_earlier_output_alone_and_no_part_of_a_new_one(tmp_path: Path):
    assert run(tmp_path, [case(r"\boxed{42}", id="good")])[0] == 0
    lines = [*[case(r"\boxed{42}")] * 600, "{"]  # the fault comes after the first lines are graded
    status, scores = run(tmp_path, lines)
    assert (status, [score["id"] for score in scores]) == (78, ["good"])
    (tmp_path / "scores.jsonl").unlink()
    assert run(tmp_path, lines) == (78, [])
    assert [path.name for path in tmp_path.iterdir()] == ["cases.jsonl"]


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_input_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture, link: str | None
):
    source = output = tmp_path / "cases.jsonl"
    source.write_text(case(r"\boxed{42}") + "\n")
    if link is not None:
        output = tmp_path / "other.jsonl"
        getattr(output, link)(source)
    assert main(["--input", str(source), "--output", str(output)]) == 78
    assert "is the input" in capsys.readouterr().err
    assert source.read_text() == case(r"\boxed{42}") + "\n"


def test_an_output_that_is_a_link_stays_one(tmp_path: Path):
    (tmp_path / "real.jsonl").write_text("")
    (tmp_path / "scores.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert run(tmp_path, [case(r"\boxed{42}")])[0] == 0
    assert (tmp_path / "scores.jsonl").is_symlink() and (tmp_path / "real.jsonl").read_text()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = tmp_path / "cases.jsonl"
    source.write_text(case(r"\boxed{42}") + "\n")
    for output in (tmp_path, source / "scores.jsonl"):
        assert main(["--input", str(source), "--output", str(output)]) == 78
        assert str(output.name) in capsys.readouterr().err


def test_a_pipe_can_be_the_output(tmp_path: Path):
    source = tmp_path / "cases.jsonl"
    source.write_text(case(r"\boxed{42}") + "\n")
    reader, writer = os.pipe()
    try:
        assert main(["--input", str(source), "--output", f"/dev/fd/{writer}"]) == 0
        assert json.loads(os.read(reader, 10_000))["score"] == 1.0
    finally:
        os.close(reader)
        os.close(writer)
