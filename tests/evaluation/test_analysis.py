"""`grpo analyze` on small rows made by hand."""

from __future__ import annotations

import json

import pytest

from grpo.commands.analyze import main
from grpo.common.errors import UserError
from grpo.evaluation.analysis import (
    Recorded,
    analyze,
    measure,
    outcome_efficiency,
    process_efficiency,
    read_record,
    reflection_words,
    rounds,
    trend,
)


def row(text, *, right=True, tokens=None, gold="5", step=None, problem="p", reason="stop"):
    return Recorded(
        step=step,
        problem_id=problem,
        prompt="What is 2+3?",
        text=text,
        gold=gold,
        right=right,
        tokens=len(text) if tokens is None else tokens,  # one token a character
        finish_reason=reason,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Let me recheck. I reconsider.", ["recheck", "reconsider"]),
        ("Double-check this", ["double-check"]),
        ("`recheck(x)` and ```\nrethink = 1\n``` run", []),  # names in code
        ("```\nrecheck", []),  # a fence that was cut off
        ("I think, and check.", []),
        ("Please try again.", []),  # no longer in the list
    ],
)
def test_reflection_words(text, words):
    assert [word for _, word in reflection_words(text)] == words


def test_attempts_end_where_another_one_begins():
    text = "2+3 = 5. But wait, 3+2 = 5. Alternatively count: 3, 4, 5."
    assert [text[start:end].strip() for start, end, _ in rounds(text)] == [
        "2+3 = 5.",
        "But wait, 3+2 = 5.",
        "Alternatively count: 3, 4, 5.",
    ]
    assert [value for _, _, value in rounds(text)] == ["5", "5", "5"]


def test_waiting_inside_a_sentence_begins_nothing():
    assert len(rounds("They wait 5 minutes and let me verify 6.")) == 1
    assert rounds("Wait. Wait.") == []


def test_efficiency_of_worked_numbers():
    # tokens, first right solution, and distinct tokens of three responses
    outcome = outcome_efficiency([(900, 39), (300, None), (400, 400)])
    assert outcome == pytest.approx(0.3478, abs=5e-5)
    assert process_efficiency([(900, 148), (300, 300), (400, 400)]) == pytest.approx(
        0.7215, abs=5e-5
    )


def test_tokens_up_to_the_first_right_attempt_and_of_distinct_ones():
    first, again, other = "2+3 = 5.", " Wait, 2 + 3 = 5.", " Wait, 3+2 = 5."
    found = measure(row(first + again + other))
    assert found.rounds == 3
    assert found.first_right == len(first)
    assert found.distinct == len(first) + len(other)  # the second does the same operation
    late = measure(row("2*3 = 6. Wait, 2+3 = 5.", tokens=46))  # two tokens a character
    assert late.first_right == 46


def test_the_grader_has_the_last_word_on_the_last_attempt():
    assert measure(row("It is 5", right=False)).first_right is None  # no box, and none was taken
    assert measure(row("\\boxed{10/2}", right=True)).first_right == 12
    found_and_lost = measure(row("2+3 = 5. Wait, 2*3 = 6.", right=False))
    assert found_and_lost.first_right == len("2+3 = 5.")


@pytest.mark.parametrize(
    ("text", "right", "outcome"),
    [
        ("2+3 = 5. Wait, I recheck: 2+3 = 5.", True, "confirms"),
        ("2*3 = 6. Wait, I recheck: 2+3 = 5.", True, "fixes"),
        ("2+3 = 5. Wait, I recheck: 2*3 = 6.", False, "breaks"),
        ("2*3 = 6. Wait, I recheck: 2*3 = 6.", False, "stays_wrong"),
        ("It is 6. I recheck it, and it is 5.", True, "fixes"),  # within one attempt
        ("I recheck the question. 2+3 = 5.", True, "no_answer_before"),
        ("2+3 = 5.", True, None),
    ],
)
def test_what_the_first_reflection_came_to(text, right, outcome):
    assert measure(row(text, right=right)).outcome == outcome


def test_a_summary_worked_by_hand():
    rows = [
        row("2+3 = 5. Wait, I recheck: 5.", problem="a", tokens=30),
        row("2*3 = 6.", right=False, problem="a", tokens=10),
        row("It is 5 as you can see.", problem="b", tokens=20),
        row("again and again " * 20, right=False, problem="b", tokens=100, reason="length"),
        row("答案是五，因为二加三等于五。", right=False, problem="c", tokens=14),
    ]
    found = analyze([measure(one) for one in rows])
    assert found["reflection"]["response_share"] == 1 / 5
    assert found["reflection"]["problem_share"] == pytest.approx(1 / 3)
    table = {
        key: found["reflection"][key]
        for key in ("right_with", "wrong_with", "right_without", "wrong_without")
    }
    assert [*table.values()] == [1, 0, 1, 3]
    assert found["reflection"]["words"] == {"recheck": 1}
    assert found["lengths"] == pytest.approx(
        {"mean": 34.8, "right": 25, "wrong": 12, "cut_off": 100}
    )
    assert found["repetition"]["loop_share"] == 1 / 5
    assert found["repetition"]["loop_share_cut_off"] == 1
    assert found["repetition"]["finish_reasons"] == {"stop": 4, "length": 1}
    assert found["language"]["mixed_share"] == 1 / 5
    assert found["accuracy"] == 2 / 5


def test_empty_and_cut_off_responses_alone():
    found = analyze(
        [
            measure(one)
            for one in (
                row("", right=False, tokens=0),
                row("2+3 = 2+", right=False, reason="length"),
            )
        ]
    )
    assert found["efficiency"]["outcome"] == 0
    assert found["lengths"] == {"mean": 4, "right": None, "wrong": 0, "cut_off": 8}
    assert found["repetition"]["loop_share"] == 0


def test_code_that_repeats_a_line_twice_is_no_loop_and_a_short_one_neither():
    assert not measure(row("x = 1\ny = 2\nx = 1\ny = 2\n")).loops
    assert measure(row("abc" * 30)).loops


def test_steps_become_lines_of_a_trend():
    rows = [row("5", right=step > 25, step=step, tokens=step) for step in range(1, 51)]
    found = trend([measure(one) for one in rows])
    assert [part["steps"] for part in found][:2] == [[1, 3], [4, 6]]
    assert found[-1]["steps"] == [49, 50]
    assert (found[0]["accuracy"], found[-1]["accuracy"]) == (0, 1)
    assert trend([measure(row("5"))]) == []


def test_rows_of_training_and_of_evaluations_are_read(tmp_path, capsys):
    rollouts = tmp_path / "run" / "rollouts"
    rollouts.mkdir(parents=True)
    parts = [({"accuracy": 1.0, "format": 0.0}, {"accuracy": "correct"}),
             ({"accuracy": 0.0, "format": 0.0}, {"accuracy": "gated_by_format"}),
             ({"format": 1.0}, {"format": "ok"})]  # fmt: skip
    for step in (1, 2):
        rows = [
            {"step": step, "problem_id": "p", "prompt": "q", "response": "5", "gold": "5",
             "components": components, "reasons": reasons, "length": 3, "finish_reason": "stop"}
            for components, reasons in parts
        ]  # fmt: skip
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        (rollouts / f"step_{step:06d}.jsonl").write_text(lines)
    found = read_record(tmp_path / "run")
    assert [one.right for one in found] == [True, None, None] * 2
    assert main([str(rollouts), "--output", str(tmp_path / "a.json")]) == 0
    written = json.loads((tmp_path / "a.json").read_text())
    assert (written["responses"], written["judged"], written["accuracy"]) == (6, 2, 1)
    assert [part["steps"] for part in written["trend"]] == [[1, 1], [2, 2]]
    assert "attempts in a response" in capsys.readouterr().out


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "problems.jsonl").write_text('{"problem": "3+4", "answer": "7"}\n')
    with pytest.raises(UserError, match="line 1: has no text `response`"):
        read_record(tmp_path / "problems.jsonl")
    with pytest.raises(UserError, match="no responses there"):
        read_record(tmp_path)
    assert main([str(tmp_path / "none.jsonl")]) == 78
