"""s1's selection: quality, difficulty, and the length-weighted draw."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from data.cleaning.base import Context
from data.cleaning.select_s1 import SelectS1, draw_rank
from data.types import Problem
from tests.data.helpers import problem


def row(name: str, length: int, domain: str = "", source: str = "test", **extra: object) -> Problem:
    return problem(name, source=source, extra={"trace_tokens": length, "domain": domain, **extra})


def test_ranks_halve() -> None:
    rng = random.Random(0)
    counts = Counter(draw_rank(3, rng) for _ in range(20_000))
    assert [counts[rank] / 20_000 for rank in range(3)] == pytest.approx(
        [4 / 7, 2 / 7, 1 / 7], abs=0.01
    )


def test_the_longest_trace_is_drawn_most() -> None:
    rows = [row("short", 900), row("long", 5000), row("middle", 2000)]
    counts = Counter(
        SelectS1(size=1, seed=seed).run(rows, Context()).kept[0].id for seed in range(7000)
    )
    shares = [counts[name] / 7000 for name in ("short", "long", "middle")]
    assert shares == pytest.approx([0.1429, 0.5714, 0.2857], abs=0.02)


def test_domains_are_drawn_uniformly_whatever_their_sizes() -> None:
    rows = [row(f"big{i}", 10, "algebra") for i in range(90)] + [
        row(f"small{i}", 10, "sets") for i in range(40)
    ]
    kept = SelectS1(size=60, seed=1).run(rows, Context()).kept
    assert len(kept) == len({p.id for p in kept}) == 60
    assert 20 <= Counter(p.extra["domain"] for p in kept)["sets"] <= 40


def test_shares_take_over_after_the_uniform_part() -> None:
    rows = [row(f"a{i}", 10, "a") for i in range(100)] + [row(f"b{i}", 10, "b") for i in range(100)]
    stage = SelectS1(size=60, uniform_size=0, domain_shares=(("a", 1.0),))
    assert {p.extra["domain"] for p in stage.run(rows, Context()).kept} == {"a"}


def test_broken_and_solved_rows_go_out_with_their_reason() -> None:
    rows = [
        row("fine", 10, pass_rate=0.5),
        row("solved", 10, pass_rate=1.0),
        row("See ![figure](x.png)", 10),
        row("1. first\n3. third", 10),
        row("API error: rate limit", 10),
        row("+----------+\n", 10),
        row("1. first\n2. second", 10),
    ]
    result = SelectS1(size=10).run(rows, Context())
    assert [p.id for p in result.kept] == ["fine", "1. first\n2. second"]
    assert Counter(d.reason for d in result.dropped) == {"low_quality": 4, "solved": 1}


def test_seed_sources_come_first() -> None:
    rows = [row("aime", 9000, source="aime"), row("aime short", 100, source="aime")]
    rows += [row(f"x{i}", 20_000) for i in range(50)]
    stage = SelectS1(size=5, seed_sources=("aime",), seed_trace_over=5600)
    kept = {p.id for p in stage.run(rows, Context()).kept}
    assert "aime" in kept and len(kept) == 5
    everything = SelectS1(size=2, seed_sources=("aime",)).run(rows, Context())
    assert {p.id for p in everything.kept} == {"aime", "aime short"}
    assert Counter(d.reason for d in everything.dropped) == {"not_drawn": 50}


def test_the_draw_is_seeded() -> None:
    rows = [row(f"x{i}", i, f"d{i % 3}") for i in range(60)]
    picks = [
        [p.id for p in SelectS1(size=9, seed=seed).run(rows, Context()).kept] for seed in (1, 1, 2)
    ]
    assert picks[0] == picks[1] != picks[2]
