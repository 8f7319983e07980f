"""Conflicting answers, exact and near duplicates; the embedding stage with a stand-in for the
model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from data.cleaning.answers import NormaliseAnswers, answer_key, normalise, same_answer
from data.cleaning.base import Context, Result
from data.cleaning.duplicates import ConflictingAnswers, ExactDuplicates, NearDuplicates
from data.cleaning.embeddings import EmbeddingDuplicates, repeats
from data.cleaning.neighbours import first_similar
from data.cleaning.text import jaccard, key
from grpo.common.errors import UserError
from tests.data.helpers import problem


def ids(result: Result) -> tuple[list[str], list[tuple[str, str, str | None]]]:
    """(kept ids, dropped (id, reason, matched id))."""
    return [p.id for p in result.kept], [
        (d.problem.id, d.reason, d.matched_id) for d in result.dropped
    ]


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("  5 ", "5"),
        ("$5$", "5"),
        ("$$5$$.", "5"),
        (r"\(\boxed{337}\)", "337"),
        ("\\[\n\\boxed{2, 3, 7}\n\\]", "2, 3, 7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("The answer is $7$.", "7"),
        (r"\sqrt2 \approx 1 + \frac{41}{99} = \boxed{\frac{140}{99}}", r"\frac{140}{99}"),
        ("Answer: 7", "7"),
        (r"$y = x$, $y = x-2$", r"$y = x$, $y = x-2$"),
        (r"\boxed{1}\boxed{2}", r"\boxed{1}\boxed{2}"),
        (r"5\$", r"5\$"),
        (r"5:30\text{ p.m.}", r"5:30\text{ p.m.}"),
        ("5 p.m.", "5 p.m."),
        (r"\frac{1}{2} \text{ or } \frac{2}{4}", r"\frac{1}{2}"),
        (r"0 \text{ or } 5", r"0 \text{ or } 5"),
    ],
)
def test_normalising_takes_wrappers_off_and_leaves_values_alone(answer: str, normal: str) -> None:
    assert normalise(answer) == normal
    assert normalise(normal) == normal


def test_the_original_answer_is_kept_beside_the_normal_one() -> None:
    result = NormaliseAnswers().run(
        [problem("x", "$5$"), problem("y", "6"), problem("z", r"\boxed{}")], Context()
    )
    assert [(p.answer, p.extra.get("original_answer")) for p in result.kept] == [
        ("5", "$5$"),
        ("6", None),
    ]
    assert ids(result)[1] == [("z", "empty_answer", None)]
    assert result.notes == {"changed": 1}


def test_answers_are_compared_by_value() -> None:
    assert answer_key("0.50") == answer_key(r"\dfrac{2}{4}") == answer_key("1/2") == "1/2"
    assert answer_key("-1/2") == answer_key(r"-\frac12") != answer_key("1/2")
    assert answer_key("1,000") == answer_key("1000")
    assert same_answer(r"\left(1, 2\right)", "(1,2)")
    assert answer_key("5²") == answer_key("5^{2}") != answer_key("52")
    assert not same_answer("1", "2") and answer_key("1/0") == "1/0"


def test_an_outvoted_answer_goes_and_a_tie_takes_all() -> None:
    rows = [
        problem("How many?", "5", id="a"),
        problem("how  many?", "5.0", id="b"),
        problem("How many", "6", id="c"),
        problem("Which?", "1", id="d"),
        problem("Which?", "2", id="e"),
        problem("Why?", "1", id="f"),
    ]
    kept, dropped = ids(ConflictingAnswers().run(rows, Context()))
    assert kept == ["a", "b", "f"]
    assert dropped == [
        ("c", "conflicting_answer_outvoted", "a"),
        ("d", "conflicting_answers", "e"),
        ("e", "conflicting_answers", "d"),
    ]
    assert ids(ConflictingAnswers(resolve="drop").run(rows, Context()))[0] == ["f"]


def test_exact_duplicates_keep_the_first_and_signs_count() -> None:
    rows = [
        problem(q, id=str(i))
        for i, q in enumerate(["$x + 1$?", r"\(x+1\)", "$x - 1$?", "X + 1", "$x+1=$"])
    ]
    kept, dropped = ids(ExactDuplicates().run(rows, Context()))
    assert kept == ["0", "2"]
    assert dropped == [(i, "exact_duplicate", "0") for i in "134"]


DIFFERENT = [
    ("What is 1.25 + 3?", "What is 12.5 + 3?"),
    ("Compute (2 + 3) * 4.", "Compute 2 + (3 * 4)."),
    ("Evaluate $5!$", "Evaluate $5$"),
    ("Evaluate $(n+1)!$.", "Evaluate $(n+1)$."),
    ("Find the gcd of (12, 3).", "Find the gcd of (1, 23)."),
    ("Find $23+4$.", "Find $2(3+4)$."),
    ("It is 15 metres long.", "It is 1.5 metres long."),
    (r"Find $\frac{12}{3}$.", r"Find $\frac{1}{23}$."),
    (r"Find $\frac{xy}{z}$.", r"Find $\frac{x}{yz}$."),
    ("Find $2^{n+1}$.", "Find $2^n+1$."),
    ("Find $x^{2}3$.", "Find $x^{23}$."),
    ("Find $f'(2)$.", "Find $f(2)$."),
    ("Find $f(x, y)$.", "Find $f(xy)$."),
    ("Share it in the ratio 3:4.", "Share it in the ratio 34."),
    ("Find 3 × 4.", "Find 3 ÷ 4."),
    ("Find 5².", "Find 52."),
    ("Find 3½ + 1.", "Find 31/2 + 1."),
    (r"Find $1, 2, \ldots, 10$.", "Find $1, 2, 10$."),
]

SAME = [
    ("Find $x y$.", "find $xy$"),
    ("Evaluate $5!$.", r"Evaluate \(5 !\)"),
    ("Find the largest one!", "Find the largest one."),
    ("Find $x$, if it exists.", "Find $x$ if it exists"),
    ("Find $x^{2}$.", "Find $x^2$"),
    ("Find x² + x¹².", "Find $x^2+x^{12}$"),
    (r"Find \(\sqrt{2}\).", r"Find $\sqrt2$"),
    (r"What is \dfrac12 of 1,000?", r"What is $\frac{1}{2}$ of 1000"),
    ("Find 3 − 2.", "Find 3 - 2"),
    ("Take 50% of 8.", r"Take $50\%$ of $8$"),
    (r"How many $\text{cm}$?", "How many cm"),
    ("Let $m_{}$ and $n{}$ be odd.", "Let $m$ and $n$ be odd"),
    ("Points $A$, $B$.", "Points $A,B$"),
    ("Compute $3+4=$", "Compute $3 + 4$."),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_a_formula_says_is_part_of_the_text(one: str, other: str) -> None:
    assert key(one) != key(other)
    rows = [problem(one, "1", id="one"), problem(other, "2", id="other")]
    assert ids(ConflictingAnswers().run(rows, Context())) == (["one", "other"], [])
    assert ids(ExactDuplicates().run(rows, Context())) == (["one", "other"], [])


@pytest.mark.parametrize(("one", "other"), SAME)
def test_how_a_formula_looks_is_not(one: str, other: str) -> None:
    assert key(one) == key(other)


def test_near_duplicates_need_the_same_numbers_and_the_same_answer() -> None:
    base = (
        "A garden of 12 by 7 metres is fenced on all of its sides; how many metres of "
        "fence are used?"
    )
    rows = [
        problem(base, "38", id="0"),
        problem(base.replace("garden", "park"), "38", id="near"),
        problem(base.replace("12", "13"), "38", id="numbers"),
        problem(base.replace("how many", "which share of"), "37", id="answer"),
    ]
    assert ids(NearDuplicates().run(rows, Context())) == (
        ["0", "numbers", "answer"],
        [("near", "near_duplicate", "0")],
    )
    assert ids(NearDuplicates(same_answer=False).run(rows, Context()))[0] == ["0", "numbers"]
    assert ids(NearDuplicates(threshold=0.95).run(rows, Context()))[0] == [
        "0",
        "near",
        "numbers",
        "answer",
    ]


def _token_sets(count: int, seed: int) -> list[frozenset[str]]:
    """Random sets, every third one a copy of an earlier one with a tenth of it changed."""
    rng = random.Random(seed)
    sets: list[frozenset[str]] = []
    for n in range(count):
        if n % 3 == 2:
            old = sorted(rng.choice(sets))
            sets.append(frozenset([*old[3:], *(f"new{n}{k}" for k in range(2))]))
        else:
            sets.append(frozenset(f"w{rng.randrange(500)}" for _ in range(30)))
    return sets


def test_minhash_finds_what_all_pairs_find() -> None:
    sets = _token_sets(700, seed=1)
    exact = first_similar(sets, 0.8, all_pairs=len(sets))
    hashed = first_similar(sets, 0.8, all_pairs=0)
    assert len(exact) > 150 and hashed == exact
    assert all(
        similarity == jaccard(sets[i], sets[j]) >= 0.8 for i, (j, similarity) in hashed.items()
    )


def test_embedding_duplicates_compare_with_what_is_kept() -> None:
    angles = {"a": 0.0, "b": 0.1, "c": 0.2, "d": 2.0}

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.array([[np.cos(angles[text]), np.sin(angles[text])] for text in texts])

    # b repeats a; c is close to b, which is gone, and not close enough to a
    found = repeats([problem(name) for name in angles], embed, threshold=0.99)
    assert {i: j for i, (j, _) in found.items()} == {1: 0}
    assert repeats([problem("a", "1"), problem("b", "2")], embed, 0.99) == {}


def test_the_embedding_stage_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(UserError, match="pip install sentence-transformers"):
        EmbeddingDuplicates().run([problem("a")], Context())
