"""Mixes and curricula: the published numbers, and exact continuation."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from data.curricula import (
    Bucketed,
    Curriculum,
    CurriculumSpec,
    Prioritised,
    by_level,
    classic,
    cosine,
    easy_to_hard,
    gaussian,
    levels_by_rate,
    make_curriculum,
    uniform,
    weighted,
)
from data.types import Problem
from tests.data.helpers import problem


def problems(count: int, levels: int = 4) -> list[Problem]:
    return [problem(f"q{i}", level=str(i % levels), source=f"s{i % 2}") for i in range(count)]


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (0.0, (0.4, 0.3, 0.2, 0.1)),
        (0.25, (0.3561, 0.2854, 0.2146, 0.1439)),
        (0.5, (0.25, 0.25, 0.25, 0.25)),
        (1.0, (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_cosine_schedule(u: float, expected: tuple[float, ...]) -> None:
    assert cosine(u, 4) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("u", "floor", "expected"),
    [
        (0.0, True, (0.6283, 0.1715, 0.1002, 0.1000)),
        (0.25, True, (0.1054, 0.3946, 0.3946, 0.1054)),
        (0.5, True, (0.1001, 0.1383, 0.5604, 0.2012)),
        (1.0, True, (0.1000, 0.1002, 0.1715, 0.6283)),
        (0.25, False, (0.0090, 0.4910, 0.4910, 0.0090)),
    ],
)
def test_gaussian_schedule(u: float, floor: bool, expected: tuple[float, ...]) -> None:
    assert gaussian(u, 4, floor=floor) == pytest.approx(expected, abs=1e-4)
    assert sum(gaussian(u, 4, floor=floor)) == pytest.approx(1.0)


def test_classic_takes_one_level_after_the_other() -> None:
    assert [classic(u, 4).index(1.0) for u in (0.0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [
        0,
        0,
        1,
        2,
        3,
        3,
    ]


def test_level_slots_follow_the_schedule() -> None:
    curriculum = easy_to_hard(by_level(problems(400)), "cosine", seed=1, num_steps=4)
    for step, u in enumerate((0.0, 0.25, 0.5, 0.75)):
        assert curriculum.step == step
        counts = Counter(p.level for p in curriculum.draw(20_000))
        shares = [counts[str(level)] / 20_000 for level in range(4)]
        assert shares == pytest.approx(cosine(u, 4), abs=0.015)


def test_a_draw_is_decided_by_seed_and_step() -> None:
    first, second = (
        easy_to_hard(by_level(problems(40)), "gaussian", seed=7, num_steps=10) for _ in range(2)
    )
    assert [first.draw(8) for _ in range(5)] == [second.draw(8) for _ in range(5)]
    assert easy_to_hard(by_level(problems(40)), "gaussian", seed=8, num_steps=10).draw(
        8
    ) != second.draw(8)


def _make(kind: str) -> Curriculum:
    rows = problems(37)
    if kind == "prioritised":
        return Prioritised(rows, seed=3)
    if kind == "uniform":
        return uniform(rows, seed=3)
    if kind == "weighted":
        return weighted(rows, seed=3, weights={"s0": 3.0, "s1": 1.0})
    return easy_to_hard(by_level(rows), kind, seed=3, num_steps=12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", ["uniform", "weighted", "classic", "balanced", "cosine", "gaussian", "prioritised"]
)
def test_a_saved_cursor_goes_on_exactly(kind: str) -> None:
    whole = _make(kind)
    drawn = [whole.draw(9) for _ in range(12)]
    for stop in (0, 1, 7):
        before = _make(kind)
        for _ in range(stop):
            before.draw(9)
        after = _make(kind)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert [after.draw(9) for _ in range(12 - stop)] == drawn[stop:]


def test_a_cursor_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"buckets of \[37\] problems, these have \[36\]"):
        uniform(problems(36), seed=0).load_state_dict(uniform(problems(37), seed=0).state_dict())


def test_an_epoch_shows_everything_once_and_the_next_is_shuffled_anew() -> None:
    curriculum = uniform(problems(30), seed=0)
    first, second = ([p.id for _ in range(6) for p in curriculum.draw(5)] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(p.id for p in problems(30))
    assert first != second


def test_weights_are_shares_of_draws_whatever_the_sizes() -> None:
    rows = [problem(f"a{i}", source="a") for i in range(900)] + [
        problem(f"b{i}", source="b") for i in range(10)
    ]
    counts = Counter(p.source for p in weighted(rows, seed=0, weights={"a": 1, "b": 3}).draw(8000))
    assert counts["b"] / 8000 == pytest.approx(0.75, abs=0.02)
    own = [
        problem("x", source="x", extra={"weight": 0.0}),
        problem("y", source="y", extra={"weight": 2.0}),
    ]
    assert {p.id for p in weighted(own, seed=0).draw(50)} == {"y"}
    with pytest.raises(ValueError, match="do not match in 'b'"):
        weighted(rows, seed=0, weights={"a": 1})


def test_priorities_are_failure_rates() -> None:
    rows = [problem(f"q{i}", extra={"pass_rate": s}) for i, s in enumerate((0.9, 0.5, 0.1))]
    curriculum = Prioritised(rows, seed=0)
    counts = Counter(curriculum.draw(1)[0].id for _ in range(20_000))
    assert [counts[f"q{i}"] / 20_000 for i in range(3)] == pytest.approx(
        [0.0667, 0.3333, 0.6], abs=0.02
    )


def test_what_is_always_solved_is_not_lost_and_rates_can_change() -> None:
    curriculum = Prioritised([problem("a"), problem("b")], seed=0, floor=0.25)
    curriculum.update({"a": 1.0, "b": 0.0})
    share = sum(curriculum.draw(1)[0].id == "a" for _ in range(5000)) / 5000
    assert share == pytest.approx(0.2, abs=0.03)


def test_a_step_repeats_nothing_until_it_must() -> None:
    curriculum = Prioritised(problems(10), seed=0)
    assert len({p.id for p in curriculum.draw(10)}) == 10
    assert sorted(Counter(p.id for p in curriculum.draw(25)).values())[:5] == [2] * 5


def test_levels_can_be_made_from_pass_rates() -> None:
    rows = [problem(f"q{i}", extra={"pass_rate": i / 9}) for i in range(10)]
    levels = levels_by_rate(rows, 3)
    assert [len(level) for level in levels] == [3, 4, 3]
    assert [p.id for p in levels[0]] == ["q9", "q8", "q7"]
    assert Bucketed(levels, lambda u: classic(u, 3), seed=0, num_steps=3).draw(3)[0].id in {
        "q9",
        "q8",
        "q7",
    }
    with pytest.raises(ValueError, match="have no pass_rate"):
        levels_by_rate([problem("x")], 1)


def test_levels_are_ordered_as_numbers() -> None:
    rows = [problem(level, level=level) for level in ("10", "9", "hard")]
    curriculum = easy_to_hard(by_level(rows), "classic", seed=0, num_steps=3)
    assert [curriculum.draw(1)[0].level for _ in range(3)] == ["9", "10", "hard"]
    with pytest.raises(ValueError, match="problem x has no level"):
        by_level([problem("x")])


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_draw_that_spans_epochs_goes_on_where_the_last_one_stopped(size: int) -> None:
    whole = uniform(problems(7), seed=3).draw(100)
    parts = uniform(problems(7), seed=3)
    assert [p for _ in range(100 // size) for p in parts.draw(size)] == whole[: 100 // size * size]
    assert uniform(problems(7), seed=4).draw(100) != whole


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"kind": "weighted", "weights": {"s0": 0.0, "s1": 1.0}}, {"q1", "q3", "q5", "q7"}),
        ({"kind": "easy_to_hard", "schedule": "classic"}, {"q0", "q4"}),
        (
            {"kind": "easy_to_hard", "schedule": "classic", "num_levels": 2},
            {"q4", "q5", "q6", "q7"},
        ),
        ({"kind": "prioritised", "min_weight": 1e-9}, {f"q{i}" for i in range(7)}),
    ],
)
def test_a_recipe_names_its_curriculum(settings: dict[str, object], first: set[str]) -> None:
    rows = [
        problem(f"q{i}", level=str(i % 4), source=f"s{i % 2}", extra={"pass_rate": i / 7})
        for i in range(8)
    ]
    curriculum = make_curriculum(CurriculumSpec(**settings), rows, seed=0, num_steps=100)  # type: ignore[arg-type]
    assert {p.id for _ in range(12) for p in curriculum.draw(3)} == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"a": 1.0}}, "kind=uniform"),
        ({"kind": "weighted", "weights": {"a": -1.0}}, "not negative"),
        (
            {"kind": "prioritised", "schedule": "cosine"},
            "schedule=cosine: kind=prioritised does not look at it",
        ),
        ({"kind": "easy_to_hard", "num_levels": 0}, "num_levels\n.*greater than or equal to 1"),
        ({"kind": "easy_to_hard", "sigma": 0.0}, "sigma\n.*greater than 0"),
        ({"kind": "prioritised", "min_weight": float("nan")}, "min_weight\n.*finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CurriculumSpec(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [{"pass_rate": "high"}, {"pass_rate": 1.5}, {"pass_rate": True}])
def test_a_pass_rate_that_is_no_share_is_named(column: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="problem x has pass_rate"):
        Prioritised([problem("x", extra=column)], seed=0)
    with pytest.raises(ValueError, match="problem x has pass_rate"):
        levels_by_rate([problem("x", extra=column)], 1)


@pytest.mark.parametrize("weight", ["2", -1.0, float("inf")])
def test_a_weight_that_is_no_number_is_named(weight: object) -> None:
    with pytest.raises(ValueError, match="problem x has weight"):
        weighted([problem("x", extra={"weight": weight})], seed=0)
