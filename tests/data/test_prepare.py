"""The whole run: same bytes for any number of workers, resumable, and every recipe loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from data.cleaning import STAGES, Decontaminate, ExactDuplicates, make_stage
from data.cleaning.base import Context, Result
from data.prepare.pipeline import run_pipeline
from data.prepare.recipe import RECIPES, from_dict, from_recipe
from data.types import Problem
from grpo.common.errors import UserError
from grpo.common.recipes import compose
from tests.data.helpers import generate, prepare, problem, read_jsonl, write_jsonl


def rows(count: int) -> list[dict[str, object]]:
    """Word problems, with repeats, conflicts and wrappers among them."""
    made = [p.to_row() for p in generate("symbolic", seed=5, count=count)]
    made[3] = {**made[3], "problem": made[2]["problem"], "answer": made[2]["answer"]}
    made[4] = {**made[4], "answer": "$" + str(made[4]["answer"]) + "$"}
    made[6] = {**made[6], "problem": made[5]["problem"], "answer": "-1"}
    return made


def test_the_files_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    made = rows(1300)  # more than two chunks
    source = write_jsonl(tmp_path / "in.jsonl", made)
    against = write_jsonl(
        tmp_path / "eval.jsonl", [{**row, "id": f"e{i}"} for i, row in enumerate(made[50:60])]
    )
    for workers in (1, 2, 3):
        assert (
            prepare(
                tmp_path / str(workers),
                "--input",
                source,
                "--against",
                against,
                "--workers",
                str(workers),
            )
            == 0
        )
    for name in ("clean.jsonl", "dropped.jsonl", "report.json"):
        assert len({(tmp_path / str(workers) / name).read_bytes() for workers in (1, 2, 3)}) == 1, (
            name
        )
    clean, dropped = (
        read_jsonl(tmp_path / "1" / name) for name in ("clean.jsonl", "dropped.jsonl")
    )
    assert sorted(row["id"] for row in clean + dropped) == sorted(str(row["id"]) for row in made)
    assert {row["stage"] for row in dropped} >= {
        "decontaminate",
        "conflicting_answers",
        "exact_duplicates",
    }
    assert clean[3]["original_answer"].startswith("$")


def test_the_report_adds_up(tmp_path: Path) -> None:
    assert prepare(tmp_path, "--input", write_jsonl(tmp_path / "in.jsonl", rows(100))) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    remaining = report["rows_in"]
    for stage in report["stages"]:
        assert (stage["in"], stage["kept"] + stage["dropped"]) == (remaining, remaining)
        assert sum(stage["reasons"].values()) == stage["dropped"]
        remaining = stage["kept"]
    assert report["rows_out"] == remaining == len(read_jsonl(tmp_path / "clean.jsonl"))


class _Counting(ExactDuplicates):
    """Counts its runs; the name is that of the real stage, so that saved results match."""

    runs: ClassVar[int] = 0

    def run(self, problems: list[Problem], context: Context) -> Result:
        type(self).runs += 1
        return ExactDuplicates.run(self, problems, context)


def test_finished_stages_are_not_run_again_and_changes_are_noticed(tmp_path: Path) -> None:
    problems = [problem("x", extra={"k": [1]}), problem("X", id="2"), problem("y", level="3")]
    _Counting.runs = 0

    def run(
        problems: list[Problem], threshold: float = 0.8, against: tuple[Problem, ...] = ()
    ) -> list[Result]:
        stages = [Decontaminate(threshold=threshold), _Counting()]
        return [
            report.result for report in run_pipeline(problems, stages, Context(against), tmp_path)
        ]

    first = run(problems)
    again = run(problems)
    assert _Counting.runs == 1
    assert again == first and [p.to_row() for p in again[-1].kept] == [
        p.to_row() for p in first[-1].kept
    ]
    run(problems, threshold=0.9)  # an option of an earlier stage
    assert _Counting.runs == 2
    run(problems[:2], threshold=0.9)
    assert _Counting.runs == 3
    run(problems[:2], threshold=0.9, against=(problem("z"),))
    assert _Counting.runs == 4
    (tmp_path / "02-exact_duplicates" / "done.json").unlink()  # killed before it was done
    run(problems[:2], threshold=0.9, against=(problem("z"),))
    assert _Counting.runs == 5


def test_rates_filter_too_easy_too_hard_and_guessable(tmp_path: Path) -> None:
    rates = write_jsonl(
        tmp_path / "rates.jsonl",
        [{"id": i, "pass_rate": r} for i, r in zip("abc", (0, 0.5, 1.0), strict=True)],
    )
    problems = [problem(name) for name in "abc"]
    stage = make_stage("pass_rate", {"path": str(rates)})
    result = stage.run(problems, Context())
    assert [(p.id, p.extra["pass_rate"]) for p in result.kept] == [("b", 0.5)]
    assert [(d.problem.id, d.reason) for d in result.dropped] == [
        ("a", "too_hard"),
        ("c", "too_easy"),
    ]
    guess = make_stage("guess_rate", {"path": str(rates), "at_most": 0.5}).run(problems, Context())
    assert [p.id for p in guess.kept] == ["a", "b"] and guess.dropped[0].reason == "guessable"


def test_a_problem_without_a_rate_stops_stays_or_goes(tmp_path: Path) -> None:
    rates = write_jsonl(tmp_path / "rates.jsonl", [{"id": "a", "pass_rate": 0.5}])
    problems = [problem("a"), problem("b")]
    with pytest.raises(UserError, match="no pass_rate for 1 of 2 problems, the first 'b'"):
        make_stage("pass_rate", {"path": str(rates)}).run(problems, Context())
    kept = [
        len(
            make_stage("pass_rate", {"path": str(rates), "missing": missing})
            .run(problems, Context())
            .kept
        )
        for missing in ("keep", "drop")
    ]
    assert kept == [2, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a"}, "line 1: pass_rate: None"),
        ({"id": "a", "pass_rate": 1.5}, "1.5 is not a number from 0 to 1"),
        ({"pass_rate": 0.5}, "line 1: id: needs a text"),
    ],
)
def test_a_bad_file_of_rates_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rates.jsonl", [row])
    with pytest.raises(UserError, match=message):
        make_stage("pass_rate", {"path": str(path)}).run([problem("a")], Context())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_becomes_a_run_once_its_blanks_are_filled(path: Path, tmp_path: Path) -> None:
    assert yaml.safe_load(path.read_text())
    raw = compose(path.stem, [], RECIPES)
    filled = json.loads(json.dumps(raw).replace('"???"', '"0123abc"'))
    config = from_dict(filled | {"output": str(tmp_path / "out.jsonl")})
    assert config.sources and config.stages
    with pytest.raises(UserError, match=r"must be set: .*output"):
        from_dict(raw)


def test_a_recipe_takes_flags_and_overrides(tmp_path: Path) -> None:
    config = from_recipe(
        "deepscaler",
        ["stages.near_duplicates.threshold=0.9", "stages.near_duplicates.same_answer=false"],
        None,
        {"output": "o.jsonl", "against": ["e.jsonl"]},
        ["a.jsonl"],
    )
    assert [(name, s.path) for name, s in config.sources.items()] == [("deepscaler", "a.jsonl")]
    assert [s.path for s in config.against.values()] == ["e.jsonl"]
    assert {s.name: s.options() for s in config.stages}["near_duplicates"] == {
        "threshold": 0.9,
        "same_answer": False,
    }
    for override, message in (
        ("stages.x.y=1", "stages.x: unknown key"),
        ("foo=1", "foo: unknown"),
        ("a==", "recipe"),
    ):
        with pytest.raises(UserError, match=message):
            from_recipe("deepscaler", [override], None, {"output": "o.jsonl"}, ["a.jsonl"])
    assert str(config.dropped) == "o.dropped.jsonl"


def test_a_recipe_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("sources:\n  a: {path: [x\noutput: y\n")
    with pytest.raises(UserError, match=r"recipe 'broken' .*[\s\S]*line 2"):
        from_recipe("broken", [], tmp_path, {}, [])


def test_overrides_may_follow_files_and_a_file_may_look_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source, against = (
        write_jsonl(tmp_path / "a=1.jsonl", rows(8)),
        write_jsonl(tmp_path / "eval.jsonl", rows(8)[:1]),
    )
    threshold, no_choices = "stages.near_duplicates.threshold=0.9", "~stages.gradable"
    for line in (
        ["--input", source.name, threshold, no_choices, "--against", against],
        ["--input", source.name, "--against", against, threshold, no_choices],
        ["--input", source.name, no_choices, "--against", against, threshold],
        [threshold, no_choices, "--input", source.name, "--against", against],
    ):
        assert (
            prepare(tmp_path / "out", "--config-name", "deepscaler", *line, "--workers", "1") == 0
        ), line
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        options = {stage["stage"]: stage["options"] for stage in report["stages"]}
        assert options["near_duplicates"]["threshold"] == 0.9 and "gradable" not in options
        assert report["rows_in"] == 8
    capsys.readouterr()
    assert prepare(tmp_path / "out", "--input", source.name, threshold) == 78
    assert "overrides go with --config-name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"stages": {"near_duplicate": {}}}, "unknown key; did you mean 'near_duplicates'"),
        (
            {"stages": {"near_duplicates": {"treshold": 1}}},
            "unknown key; did you mean 'threshold'",
        ),
        ({"stages": {"near_duplicates": {"threshold": "high"}}}, "expected a number"),
        ({"stages": {"pass_rate": {}}}, "stages.pass_rate.path: missing"),
        ({"stages": {"near_duplicates": {"threshold": 8}}}, "must be in \\(0, 1\\]"),
        ({"stages": {"decontaminate": {"ngram": 0}}}, "ngram=0 at least 1"),
        ({"stages": {"decontaminate": {"ngram": 7.5}}}, "ngram: expected a whole number"),
        ({"stages": {"conflicting_answers": {"resolve": "vote"}}}, "is not one of majority, drop"),
        ({"stages": {"select_s1": {"seed_sources": "aime"}}}, "expected a list"),
        (
            {"sources": {"s": {"path": "x", "weight": "much"}}},
            "sources.s.weight: expected a number",
        ),
        ({"sources": {"s": {"path": 5}}}, "sources.s.path: expected text"),
        ({"sources": {"s": "x.jsonl"}}, "expected a mapping"),
        ({"sources": {}}, "sources"),
        ({"worker": 2}, "worker: unknown"),
        ({"workers": "two"}, "expected a whole number"),
        ({"report": "o.jsonl"}, "must be three files"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_read(
    raw: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_dict({"sources": {"s": {"path": "nowhere.jsonl"}}, "output": "o.jsonl"} | raw)


def test_the_generated_recipe_runs(tmp_path: Path) -> None:
    counts = [
        f"sources.{name}.num_problems=8" for name in compose("generated", [], RECIPES)["sources"]
    ]
    assert prepare(tmp_path, "--config-name", "generated", *counts) == 0
    assert len({row["source"] for row in read_jsonl(tmp_path / "clean.jsonl")}) == 7


def test_every_stage_says_what_it_is() -> None:
    assert all(stage.name == name and stage.__doc__ for name, stage in STAGES.items())
