"""The scorer: weights, gates, rewards that look at others, faults in recipes."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Mapping, Sequence

import pytest

from rewards import Component, Reward, Sample, Scorer, register
from rewards.registry import names


@register("shout")
def shout(sample: Sample, share: float = 1.0) -> Reward:
    return Reward(share * float(sample.response.isupper()), "ok")


@register("rank", group=True)
def rank(samples: list[Sample]) -> list[Reward]:
    order = sorted(range(len(samples)), key=lambda k: len(samples[k].response))
    return [Reward(float(order.index(k)), "ok") for k in range(len(samples))]


def good(answer: int = 42, tokens: int = 10) -> Sample:
    response = f"<think>6*7</think><answer>{answer}</answer>"
    return Sample(response=response, gold="42", num_tokens=tokens, max_tokens=100)


def test_the_total_is_the_weighted_sum_and_components_are_kept():
    scorer = Scorer({"accuracy": Component(weight=1.0), "format": Component(weight=0.1)})
    scores = scorer.score_group([good(), good(41), Sample(response="42", gold="42")])
    assert [score.total for score in scores] == pytest.approx([1.1, 0.1, 0])
    assert list(scores[0].components) == ["accuracy", "format"]
    assert scores[1].components["accuracy"] == Reward(0.0, "wrong", {"extracted": "41"})


def test_accuracy_can_require_the_format():
    components = {
        "accuracy": Component(weight=1.0, requires=["format"]),
        "format": Component(weight=0.0),
    }
    [score] = Scorer(components).score_group([Sample(response=r"\boxed{42}", gold="42")])
    assert (score.total, score.components["accuracy"].reason) == (0.0, "gated_by_format")
    assert score.components["accuracy"].details["ungated_score"] == 1.0


def test_length_rewards_look_at_accuracy_wherever_it_stands():
    components = {"length_kimi": Component(weight=1.0), "accuracy": Component(weight=1.0)}
    scores = Scorer(components).score_group([good(42, 100), good(41, 200), good(42, 300)])
    assert [score.total for score in scores] == [1.5, 0, 0.5]
    cosine = {"accuracy": Component(weight=0.0), "length_cosine": Component(weight=1.0)}
    [[score]] = Scorer(cosine).score_groups([[good(42, 50)]])
    assert score.total == pytest.approx(1.5)


@register("brief")
def brief(sample: Sample, earlier: Mapping[str, Reward], correct: str = "accuracy") -> Reward:
    return Reward(float(earlier[correct].score > 0 and sample.num_tokens < 100), "ok")


@register("seen")
def seen(sample: Sample, earlier: Mapping[str, Reward]) -> Reward:
    return Reward(float(len(earlier)), "ok")


def test_a_reward_that_looks_at_others_can_be_looked_at_wherever_it_stands():
    cosine = Component(weight=1.0, options={"correct": "brief"})
    components = {
        "length_cosine": cosine,
        "brief": Component(weight=0.0),
        "accuracy": Component(weight=0.0),
    }
    for names_in_order in itertools.permutations(components):
        [score] = Scorer({name: components[name] for name in names_in_order}).score_group(
            [good(42, 50)]
        )
        assert score.total == pytest.approx(1.5)
        assert list(score.components) == list(names_in_order)


def test_a_reward_that_looks_at_others_needs_accuracy_only_if_it_says_so():
    [score] = Scorer({"seen": Component(weight=1.0), "format": Component(weight=0.0)}).score_group(
        [good()]
    )
    assert score.total == 1.0


def test_rewards_that_look_at_each_other_are_refused():
    components = {
        "length_cosine": Component(weight=1.0, options={"correct": "brief"}),
        "brief": Component(weight=1.0, options={"correct": "length_cosine"}),
    }
    with pytest.raises(ValueError, match=r"length_cosine, brief look at each other"):
        Scorer(components)


def test_registered_rewards_of_samples_and_groups():
    components = {
        "shout": Component(weight=2.0, options={"share": 0.5}),
        "rank": Component(weight=1.0),
    }
    scores = Scorer(components).score_group(
        [Sample(response=text, gold="") for text in ("AAA", "b")]
    )
    assert [score.total for score in scores] == [2.0, 0.0]


def test_all_faults_of_a_recipe_come_at_once():
    components = {
        "acuracy": Component(weight=1.0),
        "format": Component(weight=1.0, options={"rul": "strict"}),
        "length_kimi": Component(weight=1.0),
        "loop": Component(weight=1.0, requires=["numeric"]),
    }
    with pytest.raises(ValueError, match="acuracy") as error:
        Scorer(components)
    lines = str(error.value).splitlines()
    assert len(lines) == 4 and "'accuracy'" in lines[0] and "'rule'" in lines[1]
    assert "needs the component 'accuracy'" in lines[2] and "'numeric'" in lines[3]


@register("needy")
def needy(
    sample: Sample, path: str, share: float | None = None, names: Sequence[str] = ()
) -> Reward:
    return Reward(1.0, path)


@pytest.mark.parametrize(
    ("name", "component", "message"),
    [
        (
            "accuracy",
            {"options": {"source": "bogus"}},
            "accuracy.source='bogus': must be 'any', 'boxed', ",
        ),
        ("accuracy", {"options": {"rel_tol": "1%"}}, "accuracy.rel_tol='1%': must be a number"),
        (
            "accuracy",
            {"options": {"rel_tol": math.nan}},
            "accuracy.rel_tol=nan: must be a finite number",
        ),
        (
            "accuracy",
            {"options": {"per_data_source": {"minerva": {"rel_tol": "high"}}}},
            "accuracy.per_data_source.minerva.rel_tol='high': must be a number",
        ),
        (
            "accuracy",
            {"options": {"per_data_source": {"minerva": 0.01}}},
            "accuracy.per_data_source.minerva=0.01: must be a block of keys and values",
        ),
        (
            "accuracy",
            {"options": {"programming": 1}},
            "accuracy.programming=1: must be true or false",
        ),
        (
            "format",
            {"options": {"rule": "bogus"}},
            "format.rule='bogus': must be 'strict', 'lenient', 'tag_count'",
        ),
        ("repetition", {"options": {"ngram": 2.5}}, "repetition.ngram=2.5: must be a whole number"),
        (
            "needy",
            {"options": {"path": "x", "share": True}},
            "needy.share=True: must be a number or null",
        ),
        ("needy", {}, "needy.path: must be set"),
        ("format", {"weight": math.nan}, "format.weight=nan: must be a finite number"),
        ("format", {"weight": -math.inf}, "format.weight=-inf: must be a finite number"),
    ],
)
def test_a_value_that_cannot_be_is_refused_at_start(name: str, component: dict, message: str):
    with pytest.raises(ValueError, match=re.escape(f"rewards.components.{message}")):
        Scorer({name: Component(**{"weight": 1.0} | component)})


def test_values_that_fit_are_accepted():
    options = {"path": "x", "share": 1, "names": ["a"]}
    [score] = Scorer({"needy": Component(weight=1, options=options)}).score_group([good()])
    assert score.total == 1.0


def test_a_name_is_taken_once():
    assert {"accuracy", "format", "length_kimi", "language_consistency"} <= set(names())
    with pytest.raises(ValueError, match="already registered"):
        register("accuracy")(lambda sample: Reward(1.0, "mine"))
    with pytest.raises(ImportError):
        Scorer({"format": Component(weight=1.0)}, modules=["no_such_module_of_rewards"])


def test_a_step_of_512_plain_answers_costs_milliseconds():
    scorer = Scorer({"accuracy": Component(weight=1.0), "format": Component(weight=0.1)})
    groups = [[good(k % 50) for k in range(8)] for _ in range(64)]
    scorer.score_groups(groups[:1])
    best = min(_seconds(scorer, groups) for _ in range(3))
    assert best < 0.5  # seconds of a core, about 0.01; a slow path would cost more
    assert scorer.pool is None


def _seconds(scorer: Scorer, groups: list[list[Sample]]) -> float:
    started = time.process_time()
    scorer.score_groups(groups)
    return time.process_time() - started


def test_installed_packages_offer_rewards_by_entry_points(monkeypatch: pytest.MonkeyPatch):
    class EntryPoint:
        def load(self) -> None:
            register("offered")(lambda sample: Reward(3.0, "ok"))

    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda *, group: [EntryPoint()] if group == "grpo.rewards" else [],
    )
    [score] = Scorer({"offered": Component(weight=1.0)}).score_group([Sample(response="", gold="")])
    assert score.total == 3.0
