"""`grpo eval` without an engine: the file of samples, scores, comparisons, settings."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from data.cleaning import make_stage
from data.cleaning.base import Context
from data.types import Problem
from grpo.commands.evaluate import main
from grpo.commands.evaluate_sets import output_folder
from grpo.common.errors import UserError
from grpo.config.evaluation import data_sources, engine_config, load_eval_config
from grpo.evaluation.compare import compare, read_result
from grpo.evaluation.report import pass_rate_rows, report
from grpo.evaluation.samples import SampleFile, sample_rows
from grpo.rollout.scoring import score
from grpo.types import Group, Prompt, Response, SamplingSettings, sample_seed
from rewards import Component, Scorer

SETTINGS = SamplingSettings(num_samples=4, temperature=1.0, max_tokens=50, seed=0)
IDENTITY = {"settings": {"n": 4, "seed": 0}, "data": {"s": {"sha256": "aa"}}}


def rows_of(problem_id, texts, *, gold="7", level=None, name="s"):
    """The rows of one problem: responses of (text, tokens), cut off at 50 tokens."""
    problem = Problem(id=problem_id, question="3+4?", answer=gold, source="s", level=level)
    responses = [
        Response(j, [5] * size, text, [0.0] * size, "length" if size == 50 else "stop", 0, j)
        for j, (text, size) in enumerate(texts)
    ]
    scorer = Scorer({"accuracy": Component(weight=1.0)})
    group = Group(Prompt(problem, "Q: 3+4?", [1, 2]), responses)
    return sample_rows(name, score([group], SETTINGS, scorer)[0], SETTINGS, scorer)


RIGHT, WRONG, OTHER = (r"\boxed{7}", 10), (r"\boxed{8}", 20), (r"\boxed{9}", 30)
CUT = (r"\boxed{7} and on and on", 50)


def groups():
    found = {
        "a": rows_of("a", [RIGHT, RIGHT, WRONG, CUT], level="1"),
        "b": rows_of("b", [RIGHT, WRONG, WRONG, OTHER], level="2"),
        "c": rows_of("c", [("", 1), CUT, CUT, OTHER], level="2"),
    }
    return {("s", key): rows for key, rows in found.items()}


def test_scores_worked_by_hand():
    found = report(groups(), 0.95)["sets"]["s"]
    assert found["accuracy"] == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)
    # c: C(4,2) = 6 pairs; a: all but C(2,2)=1, b: all but C(3,2)=3
    assert found["pass_at"] == pytest.approx({"1": 0.25, "2": (5 / 6 + 3 / 6 + 0) / 3, "4": 2 / 3})
    # votes of all four: a 7,7,8 wins; b 7,8,8,9 loses; c 9 alone loses
    assert found["majority_at"]["4"] == pytest.approx(1 / 3)
    # a pair of a: 7,7 and each 7 with the cut-off one win (1 + 2 of 6), 7 with 8 is a tie (2 of 6)
    # a pair of b: 7 with any other is a tie (3 of 6)
    assert found["majority_at"]["2"] == pytest.approx(((3 + 2 / 2) / 6 + 3 / 2 / 6 + 0) / 3)
    assert found["lengths"]["right"] == {"responses": 3, "mean_length": 10}
    # 8, 8, 8 of 20, 9, 9 of 30 tokens and the empty one
    assert found["lengths"]["wrong"] == {"responses": 6, "mean_length": (60 + 60 + 1) / 6}
    assert found["lengths"]["cut_off"] == {"responses": 3, "mean_length": 50}
    assert found["truncation_share"] == 3 / 12
    assert found["no_answer_share"] == 4 / 12
    assert found["by_level"]["1"]["accuracy"] == 0.5
    assert found["by_level"]["2"]["accuracy"] == 0.125
    assert found["by_level"]["2"]["num_problems"] == 2


def test_nothing_but_cut_off_and_empty_responses_is_a_score_of_zero():
    found = report({("s", "a"): rows_of("a", [CUT, CUT, ("", 0), CUT])}, 0.95)["sets"]["s"]
    assert (found["accuracy"], found["pass_at"]["4"], found["majority_at"]["4"]) == (0, 0, 0)
    assert found["lengths"]["right"] == {"responses": 0, "mean_length": None}
    assert found["no_answer_share"] == 1


def test_a_killed_evaluation_keeps_whole_problems_and_forgets_the_rest(tmp_path):
    done = groups()
    with SampleFile.opened(tmp_path, IDENTITY, 4) as file:
        file.add([done["s", "b"]])
        file.add([done["s", "a"]])
    with (tmp_path / "samples.jsonl").open("a") as half:  # two rows of c, and a part of a third
        for row in done["s", "c"][:2]:
            half.write(json.dumps(row) + "\n")
        half.write('{"set": "s", "problem_id": "c", "ind')
    with SampleFile.opened(tmp_path, IDENTITY, 4) as file:
        assert list(file.groups) == [("s", "b"), ("s", "a")]
        file.add([done["s", "c"]])
        file.rewrite(done)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [row["problem_id"] for row in rows] == list("aaaabbbbcccc")
    assert report(file.groups, 0.95) == report(done, 0.95)


def test_what_the_machine_could_not_grade_is_made_again(tmp_path):
    rows = rows_of("a", [RIGHT] * 4)
    rows[2]["graded"] = False
    with SampleFile.opened(tmp_path, IDENTITY, 4) as file:
        file.add([rows])
    with SampleFile.opened(tmp_path, IDENTITY, 4) as file:
        assert file.groups == {}


def test_a_folder_of_other_settings_is_refused_and_says_what_differs(tmp_path):
    with SampleFile.opened(tmp_path, IDENTITY, 4):
        pass
    other = {"settings": {"n": 8, "seed": 0}, "data": {"s": {"sha256": "bb"}}}
    with (
        pytest.raises(UserError, match=r"settings\.n: 4 there, 8 here; data\.s\.sha256"),
        SampleFile.opened(tmp_path, other, 8),
    ):
        pass


def test_a_folder_of_something_else_or_of_a_living_evaluation_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with (
        pytest.raises(UserError, match="holds something that is no evaluation"),
        SampleFile.opened(tmp_path / "mine", IDENTITY, 4),
    ):
        pass
    with (
        SampleFile.opened(tmp_path / "busy", IDENTITY, 4),
        pytest.raises(UserError, match="another evaluation works in it"),
        SampleFile.opened(tmp_path / "busy", IDENTITY, 4),
    ):
        pass


def test_the_seed_of_a_sample_depends_on_seed_problem_and_number_alone():
    seeds = {sample_seed(s, -1, p, i) for s in (0, 1) for p in ("a", "b") for i in range(8)}
    assert len(seeds) == 2 * 2 * 8


def test_each_evaluation_has_a_folder_of_its_own_by_default():
    config = SimpleNamespace(output_dir=None)
    first, same, other = (output_folder(config, "/models/policy", {"n": n}) for n in (8, 8, 16))
    assert first == same != other
    assert first.parent.name == "evals" and first.name.startswith("policy-")


def test_pass_rates_are_read_by_the_filter(tmp_path):
    file = tmp_path / "rates.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pass_rate_rows(groups().items())))
    problems = [Problem(id=i, question="q", answer="7", source="s") for i in "abc"]
    stage = make_stage("pass_rate", {"path": str(file), "below": 0.5})
    result = stage.run(problems, Context())
    assert [(p.id, p.extra["pass_rate"]) for p in result.kept] == [("b", 0.25)]
    assert [(d.problem.id, d.reason) for d in result.dropped] == [
        ("a", "too_easy"),
        ("c", "too_hard"),
    ]


def result_of(counts, n=4, sha="aa", name="s", **settings):
    return {
        "model": {"weights_sha256": sha},
        "settings": {"n": n, "confidence": 0.95, **settings},
        "versions": {"torch": "2"},
        "data": {name: {"sha256": "dd"}},
        "sets": {name: {"num_samples": n}},
        "problems": {name: counts},
    }


def test_two_results_are_paired_by_problem():
    first = result_of({"a": 0, "b": 2, "c": 4, "gone": 4})
    second = result_of({"c": 8, "b": 8, "a": 4, "new": 0}, n=8, sha="bb", temperature=1.0)
    found = compare(first, second)
    one = found["sets"]["s"]
    # differences a 1/2, b 1/2, c 0
    assert one["difference"] == pytest.approx(1 / 3)
    assert (one["num_problems"], one["unpaired"]) == (3, [1, 1])
    assert (one["better"], one["worse"], one["p_value"]) == (2, 0, 0.5)
    assert found["differing"] == ["n: 4 and 8", "temperature: null and 1.0"]
    assert not found["same_weights"]


def test_what_cannot_be_paired_is_refused(tmp_path):
    first = result_of({"a": 1})
    with pytest.raises(UserError, match="nothing to pair"):
        compare(first, result_of({"a": 1}, name="t"))
    other = result_of({"a": 1})
    other["data"]["s"]["sha256"] = "ee"
    with pytest.raises(UserError, match="different data"):
        compare(first, other)
    with pytest.raises(UserError, match="no problem in common"):
        compare(first, result_of({"z": 1}))
    with pytest.raises(UserError, match=r"result\.json: no such file"):
        read_result(tmp_path)


def test_a_comparison_on_the_command_line(tmp_path, capsys):
    for name, counts in (("one", {"a": 0, "b": 1}), ("two", {"a": 4, "b": 3})):
        (tmp_path / f"{name}.json").write_text(json.dumps(result_of(counts)))
    files = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    assert main(["compare", *files, "--output", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["sets"]["s"]["difference"] == 0.75
    assert "+0.750" in capsys.readouterr().out
    assert main(["compare", files[0]]) == 78


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=m", "data=[math500]", "temprature=1"], "did you mean 'temperature'"),
        (["model=m", "data=[math500]", "n=0", "top_p=2"], "n=0: must be at least 1"),
        (["model=m", "data=[math500]", "temperature=0"], "n=16: at temperature=0"),
        (["model=m"], "data=[]: nothing to evaluate on"),
        (["data=[math500]"], "add model=FOLDER"),
        (["recipe=tinny"], "recipe=tinny: no such recipe"),
        (["model=m", "data=[math500]", "template=boxd"], "template=boxd: no such name"),
        (
            ["model=m", "data=[math500]", "rewards.components={format: {weight: 1.0}}"],
            "none of them says whether an answer is right",
        ),
        (["--config-name", "tiny"], "recipe=RECIPE in place of --config-name"),
        ([], "grpo eval model=FOLDER data="),
    ],
)
def test_a_wrong_setting_is_named_with_its_fix(words, message, capsys):
    assert main(words) == 78
    assert message in capsys.readouterr().err


def test_a_recipe_gives_what_the_command_line_leaves_out():
    config = load_eval_config(["recipe=tiny", "n=4", "rollout.num_engines=1"])
    assert (config.base, config.template, config.max_response_tokens) == (
        "miniature",
        "dialogue",
        40,
    )
    assert (config.n, config.temperature, config.top_p) == (4, 1.0, 1.0)
    assert (config.rollout.num_engines, config.rollout.max_num_seqs) == (1, 256)
    assert [*data_sources(config)] == ["held_out"]
    assert set(config.rewards.components) == {"accuracy", "format"}
    named = load_eval_config(["recipe=tiny", "model=m", "data=[f.jsonl]"])
    assert (named.model, named.base, named.sources) == ("m", None, {})
    assert engine_config(config).rollout == config.rollout
    assert engine_config(named).model.path == "m"


def test_sets_are_found_by_name_and_by_path(tmp_path):
    for name in ("gsm8k_test", "aime24", "own"):
        (tmp_path / f"{name}.jsonl").write_text('{"problem": "3+4", "answer": "7"}\n')
    words = ["model=m", f"data_dir={tmp_path}"]
    config = load_eval_config([*words, f"data=[gsm8k,aime24,{tmp_path}/own.jsonl]"])
    assert {name: source.label.split("/")[-1] for name, source in data_sources(config).items()} == {
        "gsm8k": "gsm8k_test.jsonl",
        "aime24": "aime24.jsonl",
        "own": "own.jsonl",
    }
    for data, message in (
        ("[amc23]", r"has no amc23\.jsonl"),
        ("[amc24]", "did you mean 'amc23'"),
        ("[nowhere/own.jsonl]", "no such file and no known set; check the path"),
        (f"[aime24,{tmp_path}/aime24.jsonl]", "two sets are called 'aime24'"),
    ):
        with pytest.raises(UserError, match=message):
            data_sources(load_eval_config([*words, f"data={data}"]))
