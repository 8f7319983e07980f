import json

import pytest

from data.order import draw
from data.sources import DataError, load_jsonl
from data.templates import TEMPLATES
from grpo.types import sample_seed


def test_each_epoch_draws_every_problem_once_and_in_another_order():
    first, second = draw(50, seed=1, cursor=0, count=50), draw(50, seed=1, cursor=50, count=50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_draw_is_a_function_of_the_cursor_alone():
    whole = draw(7, seed=3, cursor=0, count=40)
    assert [i for cursor in range(0, 40, 4) for i in draw(7, 3, cursor, 4)] == whole
    assert draw(7, seed=4, cursor=0, count=40) != whole


def test_sample_seeds_differ_in_every_part_of_their_key():
    seeds = {
        sample_seed(run, step, problem, index)
        for run in (0, 1)
        for step in (1, 2)
        for problem in ("a", "b")
        for index in range(8)
    }
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no problem in it"),
        ('{"id": "1", "problem": "x", "answer": "2"}\nnot json\n', "line 2: not JSON"),
        ('{"id": "1", "problem": "x"}\n', "'answer' is missing"),
        ('{"id": "1", "problem": " ", "answer": "2"}\n', "'problem' is empty"),
        ('{"id": "1", "problem": "x", "answer": 2}\n', "'answer' is not text"),
        ('{"id": "1", "problem": "x\\u0000", "answer": "2"}\n', "NUL byte"),
        ('{"id": "1", "problem": "x", "answer": "2"}\n' * 2, "id '1' is also in line 1"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(tmp_path, content, message):
    file = tmp_path / "problems.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        load_jsonl(file)


def test_rows_become_problems(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"id": "7", "question": "1+1?", "answer": "2", "level": 3}) + "\n")
    (problem,) = load_jsonl(file)
    assert (problem.question, problem.answer, problem.source, problem.level) == ("1+1?", "2", "set", "3")


def test_templates_know_whether_they_open_the_thought():
    assert TEMPLATES["r1_zero_open_think"].opens_think
    assert not TEMPLATES["r1_zero"].opens_think
    assert TEMPLATES["dialogue"].render("1+1") == "User: 1+1\nAssistant:"
