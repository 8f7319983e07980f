"""Decontamination finds every overlap, and names what it overlaps with; other problems stay."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from data.cleaning import text
from data.cleaning.base import Context
from data.cleaning.decontaminate import Decontaminate, Index
from data.types import Problem
from tests.data.helpers import (
    EVALUATION_SETS,
    SHARED,
    needs_shared,
    prepare,
    problem,
    read_jsonl,
    write_jsonl,
)

EVAL = r"Let $f(x) = \frac{1}{2}x + 80000$ and $x \leq 5$. Find the greatest value of $f(x)$."

SAME = (
    EVAL,
    EVAL.upper(),
    EVAL.replace(" ", "  \n"),
    EVAL.replace("$", ""),
    EVAL.replace(r"\frac", r"\dfrac"),
    EVAL.replace(r"\frac{1}{2}", r"\frac12"),
    EVAL.replace(r"\leq", r"\le"),
    EVAL.replace("80000", "80,000"),
    EVAL.replace("80000", "80{,}000"),
    EVAL.replace("$f(x)$.", r"\(f(x)\)"),
    EVAL.replace("Let $f(x)", r"Let \( \displaystyle f\left(x\right)"),
    "  " + EVAL + "?",
)


@pytest.mark.parametrize("copy", SAME)
def test_the_same_text_in_another_dress_is_exact(copy: str) -> None:
    match = Index([problem("other"), problem(EVAL)], Decontaminate()).match(copy)
    assert match is not None
    assert (match.reason, match.position, match.similarity) == ("exact_text", 1, 1.0)


@pytest.mark.parametrize(
    ("question", "evaluation"),
    [("$23+4$", "$2(3+4)$"), ("It is 15 metres long.", "It is 1.5 metres long.")],
)
def test_digits_grouped_otherwise_are_another_problem(question: str, evaluation: str) -> None:
    assert match_of(question, evaluation) is None


def match_of(question: str, evaluation: str, any_ngram: bool = False) -> tuple[str, float] | None:
    match = Index([problem(evaluation)], Decontaminate(any_ngram=any_ngram)).match(question)
    return None if match is None else (match.reason, match.similarity)


def test_near_is_a_jaccard_similarity_of_at_least_the_threshold() -> None:
    evaluation = "alpha beta gamma delta epsilon zeta eta theta 7"
    # 9 tokens; one changed: 8 / 10, at the threshold; two changed: 7 / 11
    assert match_of(evaluation.replace("beta", "x"), evaluation) == ("near_duplicate", 0.8)
    assert match_of(evaluation.replace("beta", "x").replace("eta ", "y "), evaluation) is None


def test_other_numbers_make_another_problem() -> None:
    evaluation = (
        "A farmer has 12 cows and 7 goats and sells 3 of the cows; how many animals are "
        "left on the farm?"
    )
    assert match_of(evaluation.replace("12", "14"), evaluation) is None
    assert match_of(evaluation.replace("farmer", "peasant"), evaluation) is not None


def test_a_number_in_words_is_that_number() -> None:
    evaluation = (
        "A farmer has 12 cows and 7 goats and sells two of the cows; how many animals "
        "are left on the farm?"
    )
    for copy in (
        evaluation.replace("7", "seven"),
        evaluation.replace("two", "2"),
        evaluation.replace("12", "Twelve").replace("two", "2"),
    ):
        assert match_of(copy, evaluation) == ("near_duplicate", 1.0)
    assert match_of(evaluation.replace("7", "eight"), evaluation) is None
    assert match_of(evaluation.replace("two", "3"), evaluation) is None


def test_an_evaluation_problem_inside_a_longer_text_is_found() -> None:
    evaluation = (
        "Find the number of ways to seat 5 guests around a table when two of them refuse "
        "to sit together."
    )
    before, after = "You tutor a class of 30. One exercise is this.", "Explain your 4 steps."
    longer = f"{before} {evaluation} {after}"
    assert match_of(longer, evaluation) == ("ngram_overlap", 1.0)
    assert match_of(longer.replace("5 guests", "6 guests"), evaluation) is None


def test_a_long_overlap_with_another_number_is_another_problem() -> None:
    words = "a baker fills every tray of his oven with the same loaves and sells all of them on"
    evaluation = f"{words} the market before noon so how many trays are left of 6"
    # 30 words, 23 n-grams of 8 words: another last word changes one of them, 22 are shared
    before, after = "You tutor a class. One exercise is this.", "Explain all of your steps."
    assert match_of(f"{before} {evaluation} {after}", evaluation) == ("ngram_overlap", 1.0)
    other = evaluation.replace("6", "9")
    assert match_of(f"{before} {other} {after}", evaluation) is None
    assert match_of(f"{before} {other} 6 {after}", evaluation) == ("ngram_overlap", 22 / 23)


def test_a_common_opening_is_no_overlap() -> None:
    opening = "Find the number of ordered pairs of positive integers (m, n) such that"
    assert (
        match_of(
            f"{opening} m divides the sum of all digits of n squared.",
            f"{opening} mn is a perfect cube.",
        )
        is None
    )


def test_one_common_ngram_is_an_overlap_when_the_recipe_says_so() -> None:
    opening = "Find the number of ordered pairs of positive integers such that"
    texts = f"{opening} their sum is 12.", f"{opening} their product divides 30."
    assert match_of(*texts) is None
    assert match_of(*texts, any_ngram=True) == ("ngram_overlap", 5 / 8)  # 12 words in common
    assert match_of("Find the number of ordered pairs of digits.", texts[1], any_ngram=True) is None


def test_texts_without_words_are_compared_by_their_symbols() -> None:
    assert match_of("$+$ ?", "$*$ ?") is None
    assert match_of("$+$ ?", "$ + $?") == ("exact_text", 1.0)


def test_the_report_names_the_most_similar_evaluation_problem(tmp_path: Path) -> None:
    rows = [
        {
            "id": "t1",
            "problem": "one two three four five six seven eight nine TEN",
            "answer": "3",
            "level": "2",
        }
    ]
    near = "one two three four five six seven eight nine eleven"
    against = [
        {"id": "e1", "problem": near.replace("one", "zero"), "source": "x"},
        {"id": "e2", "problem": near, "source": "y"},
    ]
    paths = write_jsonl(tmp_path / "in.jsonl", rows), write_jsonl(tmp_path / "eval.jsonl", against)
    assert prepare(tmp_path, "--input", paths[0], "--against", paths[1]) == 78  # nothing left
    (row,) = read_jsonl(tmp_path / "dropped.jsonl")
    assert (
        row["similarity"] == round(9 / 11, 4)
        and row["matched_id"] == "e2"
        and row["matched_source"] == "y"
    )
    assert (row["stage"], row["reason"]) == ("decontaminate", "near_duplicate")
    assert (row["id"], row["problem"], row["answer"], row["level"]) == (
        "t1",
        rows[0]["problem"],
        "3",
        "2",
    )
    (stage,) = (
        s
        for s in json.loads((tmp_path / "report.json").read_text())["stages"]
        if s["stage"] == "decontaminate"
    )
    assert stage["reasons"] == {"near_duplicate": 1} and stage["notes"]["by_evaluation_set"] == {
        "y": 1
    }


def test_evaluation_sets_may_share_ids(tmp_path: Path) -> None:
    rows = [
        {"id": "0", "problem": "What is 1 + 1?", "answer": "2"},
        {"id": "1", "problem": "Why 7?", "answer": "3"},
    ]
    files = [
        write_jsonl(tmp_path / f"{i}.jsonl", [{**row, "id": "0"}]) for i, row in enumerate(rows)
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert prepare(tmp_path, "--input", source, "--against", *files) == 78  # nothing is left
    matches = [
        (row["id"], row["matched_id"], row["matched_source"])
        for row in read_jsonl(tmp_path / "dropped.jsonl")
    ]
    assert matches == [("0", "0", "0"), ("1", "0", "1")]


def test_nothing_to_keep_out_keeps_everything() -> None:
    assert len(Decontaminate().run([problem("x"), problem("y")], Context()).kept) == 2


def _near_copy(rng: random.Random, question: str) -> str | None:
    """Words swapped for new ones while the token-set similarity stays at 0.8 or more; numbers
    stay.
    """
    tokens = question.split(" ")
    for _ in range(50):
        i = rng.randrange(len(tokens))
        changed = [*tokens[:i], "qwv" + "xyz"[rng.randrange(3)] * 2, *tokens[i + 1 :]]
        if not re.search(r"\d", tokens[i]) and _similarity(" ".join(changed), question) >= 0.8:
            tokens = changed
    copy = " ".join(tokens)
    return copy if copy != question else None


def _similarity(a: str, b: str) -> float:
    sets = [frozenset(re.findall(r"\w+", x.lower())) for x in (a, b)]
    return text.jaccard(*sets)


@needs_shared
def test_every_planted_overlap_of_the_real_sets_is_found_and_the_rest_stays() -> None:
    rng = random.Random(0)
    evaluation = [
        Problem(id=row["id"], question=row["problem"], answer=row["answer"], source=row["source"])
        for name in EVALUATION_SETS
        for row in read_jsonl(SHARED / f"{name}.jsonl")
    ]
    rows = read_jsonl(SHARED / "deepscaler_train.jsonl")[::40]
    train = [problem(row["problem"], id=row["id"]) for row in rows]
    planted = []
    for original in rng.sample(evaluation, 150):
        near = _near_copy(rng, original.question)
        planted.append(
            problem(original.question.replace(" ", "  ").upper(), id=f"exact {original.id}")
        )
        if near is not None:
            planted.append(problem(near, id=f"near {original.id}"))
    result = Decontaminate().run(train + planted, Context(evaluation))
    dropped = {drop.problem.id: drop for drop in result.dropped}
    assert [p.id for p in planted if p.id not in dropped] == []
    assert all((dropped[p.id].similarity or 0) >= 0.8 for p in planted)
    assert sum(p.id in dropped for p in train) < 0.01 * len(train)
