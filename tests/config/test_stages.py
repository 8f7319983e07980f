"""Stages as recipes write them: what holds in each, and what is refused before anything starts."""

import pytest

from data.types import Problem
from grpo.common.errors import RecipeError
from grpo.config import RECIPES, load_config
from grpo.config.algorithm import algorithm_problems
from grpo.config.stages import (
    FIXED,
    Subset,
    effective_config,
    needs_new_processes,
    stage_plan,
)
from grpo.stages import Restart, StageMachine

FILES = ["model.path=folder", "data.train.path=train.jsonl", "data.held_out.path=test.jsonl"]


def load(stages, *overrides):
    return load_config("deepscaler_1.5b_8k", [*FILES, f"stages={stages}", *overrides])


def refused(stages, *overrides):
    with pytest.raises(RecipeError) as caught:
        load(stages, *overrides)
    return str(caught.value)


def test_a_stage_replaces_what_it_names_and_nothing_else():
    config = load(
        "[{name: a, until: {max_steps: 9}}, {name: b, max_response_tokens: 16384, num_samples: 16,"
        " lr: 2e-6, set: {learner.num_ranks: 16, algorithm.mismatch.high: 3.0}}]"
    )
    first, second = (effective_config(config, index) for index in range(2))
    assert first == config.model_copy(update={"stages": ()})
    assert (second.sampling.max_response_tokens, second.batch.num_samples) == (16384, 16)
    assert second.rollout.max_model_len == 16384 + (9216 - 8192)  # the prompt keeps its room
    assert (second.optimizer.lr, second.learner.num_ranks) == (2e-6, 16)
    assert second.algorithm.mismatch.high == 3.0
    for block in ("model", "data", "rewards", "trainer", "evaluation", "tracking"):
        assert getattr(second, block) == getattr(config, block)


@pytest.mark.parametrize(
    ("single", "index"),
    [("deepscaler_1.5b_8k", 0), *((f"fastcurl_1.5b_stage{n}", n - 1) for n in range(1, 6))],
)
def test_the_recipes_in_one_run_are_the_recipes_stage_by_stage(single, index):
    whole = "deepscaler_1.5b" if "deepscaler" in single else "fastcurl_1.5b"
    config = effective_config(load_config(whole, FILES), index)
    alone = load_config(single, FILES)
    assert config.model_copy(update={"trainer": alone.trainer}) == alone


@pytest.mark.parametrize("recipe", ["deepscaler_1.5b", "fastcurl_1.5b"])
def test_the_algorithm_of_every_stage_can_work(recipe):
    config = load_config(recipe, FILES)
    StageMachine(stage_plan(config))
    for index in range(len(config.stages)):
        assert algorithm_problems(effective_config(config, index)) == []


def test_fastcurl_takes_the_steps_it_is_published_with():
    config = load_config("fastcurl_1.5b", FILES)
    bounds = [stage.until.latest() for stage in stage_plan(config) if stage.until]
    assert [*bounds, config.trainer.max_steps - sum(bounds)] == [160, 590, 230, 580, 150]
    lengths = [effective_config(config, n).sampling.max_response_tokens for n in range(5)]
    assert lengths == [8192, 16384, 24576, 16384, 16384]


def test_a_plan_knows_what_it_restarts_from():
    config = load(
        "[{name: a, until: {max_steps: 9}}, {name: b, until: {max_steps: 9}, restart_from: 40},"
        " {name: c, restart_from: best, best: {metric: kl, mode: min, window: 5, stage: a}}]"
    )
    assert [stage.restart for stage in stage_plan(config)] == [
        Restart(),
        Restart(kind="step", step=40),
        Restart(kind="best", metric="kl", mode="min", window=5, stage="a"),
    ]


def test_all_mistakes_of_all_stages_come_at_once():
    text = refused(
        "[{name: a, num_samples: 0, until: {any: [{max_step: 3}, {rising: {window: 9}}]}},"
        " {name: b, restart_from: bset, set: {seed: 3, batch.num_prompt: 2}},"
        " {name: a, temperature: 0}]"
    )
    for part in (
        "stages.0.until: any: no trigger is called 'max_step'; did you mean 'max_steps'?",
        "any: rising: metric: missing",
        "stages.a: batch.num_samples=0: must be at least 1",
        "stages.1.restart_from: 'bset' is none; write last, best or the number of a step",
        "stages.1.until: missing; only the last stage",
        "stages.b: seed=3: seed cannot change in a run, it makes the samples",
        "stages.b: batch.num_prompt: unknown key; did you mean 'batch.num_prompts'?",
        "stages.2.name=a: the name is taken",
        "stages.a: sampling.temperature=0.0: must be greater than 0",
    ):
        assert part in text
    assert "stages.0.until: missing" not in text  # its own mistake is told instead


@pytest.mark.parametrize("key", FIXED)
def test_what_cannot_change_is_refused_with_the_reason(key):
    assert f"{key} cannot change in a run, {FIXED[key]}" in refused(
        f"[{{name: a, set: {{{key}: 1}}}}]"
    )
    below = refused(f"[{{name: a, set: {{{key}.some.thing: 1}}}}]")
    assert f"{key} cannot change in a run" in below


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[{name: a, num_samples: 1}]", "stages.a: batch.num_samples=1: a group of one"),
        ("[{name: a b}]", "stages.0.name='a b'"),
        ("[{name: a, best: {metric: kl}}]", "best: restart_from=last does not look at it"),
        ("[{name: a, lr: 1e-6, set: {optimizer.lr: 1e-5}}]", "set.optimizer.lr=1e-05: lr says it"),
        ("[{name: a, optimizer: reset}]", "optimizer=reset: the first stage begins the run anyway"),
        (
            "[{name: a, until: {rising: respons_length}}]",
            "metric 'respons_length': no run records it; did you mean 'response_length'?",
        ),
        (
            "[{name: a, until: {plateau: reward/acuracy}}]",
            "no such reward; did you mean 'accuracy'",
        ),
        (
            "[{name: a, until: {plateau: eval/aime/reward}}]",
            "write eval/sampled/... or eval/greedy",
        ),
        (
            "[{name: a, until: {max_steps: 9}}, {name: b, restart_from: 1040}]",
            "restart_from=1040: the run ends at trainer.max_steps=1040, so the stage never begins",
        ),
        (
            "[{name: a, until: {max_steps: 9}}, {name: b, kl_coef: 0, refresh_reference: true}]",
            "refresh_reference=true: algorithm.kl_coef=0 keeps no reference",
        ),
        (
            "[{name: a, set: {sampling.seeded: false}}]",
            "stages.a: sampling.seeded=False: sampling.seeded cannot change in a run",
        ),
        ("[{name: a, set: {supervise: true}}]", "supervise=True: supervise cannot change in a run"),
        (
            "[{name: a, set: {health.max_restarts: 9}}]",
            "health.max_restarts=9: health.max_restarts cannot change in a run",
        ),
        ("[{name: a, subset: {pass_rate: [0.8, 0.2]}}]", "pass_rate=[0.8, 0.2]: no value lies"),
    ],
)
def test_a_stage_that_cannot_work_is_refused_with_the_fix(stages, message):
    assert message in refused(stages)


def test_a_deadline_that_engines_are_started_with_needs_new_ones():
    changed = "{rollout.stall_timeout_seconds: 900, health.max_bad_steps: 3}"
    config = load(f"[{{name: a, until: {{max_steps: 9}}}}, {{name: b, set: {changed}}}]")
    recipes = [effective_config(config, index) for index in range(2)]
    assert needs_new_processes(*recipes) == ["rollout.stall_timeout_seconds"]


def test_the_best_by_an_evaluation_needs_evaluations():
    stages = "[{name: a, until: {max_steps: 9}}, {name: b, restart_from: best}]"
    assert load(stages).stages[1].restart_from == "best"
    assert "evaluation.every=0 measures it only" in refused(stages, "evaluation.every=0")


def test_a_problem_of_the_whole_recipe_is_told_once():
    text = refused("[{name: a}]", "batch.num_samples=1")
    assert text.count("a group of one has no baseline") == 1


def problem(level=None, source="file", **extra):
    return Problem(id="1", question="?", answer="1", source=source, level=level, extra=extra)


@pytest.mark.parametrize(
    ("subset", "kept", "left_out"),
    [
        ({"levels": ("1", "2")}, problem("2"), problem("3")),
        ({"levels": ("1",)}, problem("1"), problem()),
        ({"pass_rate": (0.2, 0.8)}, problem(pass_rate=0.8), problem(pass_rate=0.81)),
        ({"pass_rate": (0.0, 1.0)}, problem(pass_rate=0), problem()),
        ({"sources": ("L1",)}, problem(source="L1"), problem(source="L2")),
        ({"sources": ("L1",)}, problem(mix_source="L1"), problem(mix_source="L2")),
    ],
)
def test_a_subset_keeps_what_passes_its_filters(subset, kept, left_out):
    assert Subset(**subset).keeps(kept, 10)
    assert not Subset(**subset).keeps(left_out, 10)


def test_a_subset_by_the_length_of_the_prompt():
    lengths = [99, 100, 200, 201]
    assert [Subset(prompt_tokens=(100, 200)).keeps(problem(), n) for n in lengths] == [
        False, True, True, False,
    ]  # fmt: skip


def test_the_miniature_of_a_staged_recipe_has_no_stages():
    assert load_config("fastcurl_1.5b", ["+shrink=tiny"], RECIPES).stages == ()
