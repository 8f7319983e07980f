"""The summary of a problem file."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.stats import answer_kind, main
from tests.data.helpers import write_jsonl


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("-5", "integer"),
        ("1,000", "integer"),
        ("$0.5$", "decimal"),
        (r"\dfrac{1}{2}", "fraction"),
        (r"\frac12", "fraction"),
        (r"50\%", "percent or money"),
        (r"\text{(B)}", "choice letter"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "matrix"),
        (r"(-\infty, 2]", "interval or union"),
        ("(1, 2)", "tuple"),
        ("x = 5", "condition"),
        ("1, 2", "several values"),
        (r"2 \text{ or } 3", "several values"),
        (r"4 \text{ feet}", "number with unit"),
        ("90^\\circ", "number with unit"),
        (r"\text{even}", "words"),
        (r"2\sqrt{3}", "expression"),
    ],
)
def test_answers_are_told_apart_by_their_looks(answer: str, kind: str) -> None:
    assert answer_kind(answer) == kind


def test_a_file_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": "1", "problem": "x?", "answer": "5", "level": "2", "source": "a"},
        {"id": "2", "problem": "X ?", "answer": "1/2", "level": "2", "source": "a"},
        {"id": "3", "problem": "yyyy", "answer": "6", "source": "b"},
        {"id": "4", "problem": "z"},
    ]
    assert main([str(write_jsonl(tmp_path / "x.jsonl", rows))]) == 0
    printed = capsys.readouterr().out
    assert "3 problems, 2 different texts" in printed
    assert "question characters: min 2, median 3, 95% 4" in printed
    assert "a                           2  66.67%" in printed
    assert "integer                     2  66.67%" in printed
    assert "bad rows: 1" in printed and "line 4: answer: is missing" in printed


def test_a_file_that_cannot_be_read_is_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere.jsonl")]) == 78
    assert "No such file" in capsys.readouterr().err
