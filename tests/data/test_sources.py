"""What training and preparation load: mixes, splits, rows that are refused, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.curricula import weighted
from data.generators import LEVELLED
from data.sources import load, read_source
from data.types import Problem
from grpo.common.errors import UserError
from tests.data.helpers import prepare, read_jsonl, write_jsonl


def answers(tmp_path: Path, *golds: Any, **options: Any) -> list[str]:
    rows = [{"problem": f"question {i}", "answer": gold} for i, gold in enumerate(golds)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return [problem.answer for problem in load(read_source({"path": str(path), **options}))]


def test_a_list_of_one_gold_is_that_gold_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    assert answers(tmp_path, '["7"]', ["8"], "[1, 2]") == ["7", "8", "[1, 2]"]
    assert answers(tmp_path, "['9']", '[ "5" ]', "['no list") == ["9", "5", "['no list"]
    with pytest.raises(UserError, match="line 1: answer: is a list of 2"):
        answers(tmp_path, '["7", "8"]')


def test_small_floats_are_written_without_an_exponent(tmp_path: Path) -> None:
    assert answers(tmp_path, 1e-05, 1e-07, 0.25, 4.0) == ["0.00001", "0.0000001", "0.25", "4"]


def test_a_worked_solution_of_gsm8k_is_refused_with_its_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="read it with mapping: gsm8k"):
        answers(tmp_path, "Work it out.\n<<1+1=2>>\n#### 7")


def test_a_missing_answer_names_the_columns_that_are_there(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"problem": "x", "expected_answer": "7"}])
    with pytest.raises(UserError, match=r"the row has expected_answer, problem.*--answer-column"):
        load(read_source({"path": str(path)}))


def test_only_rows_that_no_checker_scores_may_have_no_answer(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"problem": "Write a line.", "reward": "helpful"},
        {"problem": "Write a poem.", "reward": ["helpful", "harmless"], "answer": ""},
        {"problem": "Add 2 and 2.", "reward": ["accuracy", "helpful"], "answer": "4"},
    ]
    problems = load(read_source({"path": str(write_jsonl(tmp_path / "rows.jsonl", rows))}))
    assert [(p.answer, p.reward) for p in problems] == [
        ("", "helpful"),
        ("", ("helpful", "harmless")),
        ("4", ("accuracy", "helpful")),
    ]
    assert [Problem.from_row(json.loads(json.dumps(p.to_row()))) for p in problems] == problems
    # preparing them keeps them, and what it writes is read again
    assert prepare(tmp_path, "--input", tmp_path / "rows.jsonl") == 0
    clean = load(read_source({"path": str(tmp_path / "clean.jsonl")}))
    assert [(p.answer, p.reward) for p in clean] == [(p.answer, p.reward) for p in problems]
    for reward in (None, "accuracy", ["helpful", "accuracy"]):
        row = {"problem": "x", "reward": reward}
        with pytest.raises(UserError, match="answer: is missing"):
            load(read_source({"path": str(write_jsonl(tmp_path / "bad.jsonl", [row]))}))


@pytest.mark.parametrize(
    "told",
    [
        'Let\'s think step by step and output the final answer after "####".',
        "Let's think step by step and output the final answer within \\boxed{}.",
        "Please reason step by step, and put your final answer within \\boxed{}.",
        "Give the final answer after ####",
    ],
)
def test_the_instruction_behind_a_question_is_taken_off(tmp_path: Path, told: str) -> None:
    row = {
        "prompt": [{"role": "user", "content": f"What is 3+4? {told}"}],
        "reward_model": {"ground_truth": '["7"]'},
    }
    path = write_jsonl(tmp_path / "x.jsonl", [row])
    (only,) = load(read_source({"path": str(path), "mapping": "dapo"}))
    assert (only.question, only.answer) == ("What is 3+4?", "7")


def mix(tmp_path: Path) -> list[Problem]:
    rows = [{"problem": "1 + 1?", "answer": "2", "source": name} for name in ("a", "b")]
    path = write_jsonl(tmp_path / "maths.jsonl", rows)
    parts = {
        "maths": {"path": str(path), "weight": 3},
        "games": {"source": "countdown", "num_problems": 4, "level": 1},
    }
    return load(read_source({"source": "mix", "sources": parts}), seed=5, split="train")


def test_a_mix_keeps_the_reward_of_each_row_and_draws_by_weight(tmp_path: Path) -> None:
    problems = mix(tmp_path)
    assert [problem.reward for problem in problems] == [None, None, *["countdown"] * 4]
    assert problems[2].id == "countdown-s5-l1-0"
    curriculum = weighted(problems, seed=0)
    # two sets of origin are one source of the mix
    assert [len(bucket) for bucket in curriculum.buckets] == [4, 2]
    assert curriculum.probabilities(0.0) == [1.0, 3.0]


@pytest.mark.parametrize("name", LEVELLED)
def test_training_and_held_out_problems_share_no_question(name: str) -> None:
    source = read_source({"source": name, "num_problems": 30})
    train, held_out = load(source, seed=0, split="train"), load(source, split="held_out")
    assert not {p.question for p in train} & {p.question for p in held_out}
    assert len({p.id for p in [*train, *held_out]}) == 60


def test_a_row_keeps_its_reward_when_it_is_written_and_read() -> None:
    problem = Problem(id="1", question="q", answer="a", source="s", reward="knights")
    assert problem.to_row()["reward"] == "knights"
    assert Problem.from_row(json.loads(json.dumps(problem.to_row()))) == problem


def test_the_same_id_in_two_generators_is_named() -> None:
    part = {"source": "knights", "num_problems": 2}
    with pytest.raises(UserError, match=r"duplicate id 'knights-s0-l1-0'.*another seed"):
        load(read_source({"source": "mix", "sources": {"a": part, "b": part}}))


def test_a_repeated_flag_adds_up(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "problem": f"What is {i} + {i}?", "answer": str(2 * i)} for i in (1, 2, 3)
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    first, second = (write_jsonl(tmp_path / f"e{i}.jsonl", [rows[i]]) for i in (0, 1))
    assert prepare(tmp_path, "--input", source, f"--against={first}", "--against", second) == 0
    assert [row["id"] for row in read_jsonl(tmp_path / "clean.jsonl")] == ["3"]


def test_keeping_nothing_exits_with_the_likely_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"problem": "Why?", "answer": "Because the proof in the book shows that it is so."}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert prepare(tmp_path, "--input", source) == 78
    message = capsys.readouterr().err
    assert "no problem is left" in message and "--answer-column" in message
    assert not (tmp_path / "clean.jsonl").exists()
    assert len(read_jsonl(tmp_path / "dropped.jsonl")) == 1


def test_the_schema_imports_nothing_heavy() -> None:
    heavy = ("torch", "datasets", "hydra", "transformers", "pyarrow")
    code = f"import sys, data.sources.spec; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
