"""Recipes are refused early, whole, and with the fix."""

import os
import subprocess
import sys

import pytest

from grpo.common.errors import RecipeError, UserError
from grpo.config import RECIPES, load_config


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_loads(recipe):
    assert load_config(recipe, []).trainer.max_steps > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_stepz=5", "trainer.max_stepz: unknown key; did you mean 'max_steps'?"),
        ("bach.num_prompts=5", "bach: unknown key; did you mean 'batch'?"),
        ("data.curriculum.kind=easy", "data.curriculum.kind: 'easy' is not one of"),
        (
            "data.curriculum={kind: easy_to_hard, sigma: 0}",
            "data.curriculum: sigma=0.0: must be greater than 0",
        ),
        (
            "data.curriculum.weights={a: 1}",
            "data.curriculum: weights={'a': 1.0}: kind=uniform does not look at it",
        ),
        (
            "data.curriculum={kind: weighted, weights: {a: many}}",
            "data.curriculum.weights.a: expected a number",
        ),
        ("optimizer.lr=fast", "optimizer.lr: expected a number, got 'fast'"),
        ("batch.num_samples=2.5", "batch.num_samples: expected a whole number, got 2.5"),
        ("sampling.seeded=1", "sampling.seeded: expected true or false, got 1"),
        ("algorithm.advantage_std=populaton", "did you mean 'population'?"),
        ("batch.num_samples=1", "a group of one has no baseline"),
        ("batch.num_updates=3", "does not divide batch.num_prompts=64"),
        ("learner.num_ranks=1000", "use fewer ranks or a larger batch"),
        ("sampling.temperature=0", "sampling.temperature=0.0: must be greater than 0"),
        ("optimizer.lr=-1", "optimizer.lr=-1.0: must be greater than 0"),
        ("rollout.cpus_per_engine=0", "must be greater than 0"),
        ("rollout.gpus_per_engine=1.5", "a whole number"),
        ("learner.cpus_per_rank=nan", "must be a finite number"),
        ("evaluation.max_response_tokens=0", "must be at least 1"),
        ("cluster.start_timeout_seconds=-1", "must be at least 1"),
        ("data.train.max_bad_rows=-1", "must not be negative"),
        ("model.base.num_heads=0", "num_heads=0 must be at least 1"),
        ("data.train.arithmetic.lengths=[]", "name at least one"),
        ("data.train.arithmetic.max_factor=1", "max_factor=1: at least 1 and 2"),
        ("optimizer.eps=0", "optimizer.eps=0.0: must be greater than 0"),
        ("optimizer.lr=nan", "must be a finite number"),
        ("algorithm.clip_low=1.5", "a ratio cannot fall below 0"),
        ("algorithm.kl_coef=-0.1", "algorithm.kl_coef=-0.1: must not be negative"),
        ("optimizer.betas=[0.9]", "expected two numbers in [0, 1)"),
        ("model.path=/somewhere", "set exactly one of model.path"),
        ("data.template=r2", "data.template=r2: known templates are"),
        ("data.train.source=file", "data.train.path: missing; source file needs one"),
        ("data.train.num_problems=null", "a generator needs to know how many"),
        ("rewards.components.acuracy={weight: 1}", "no such reward; did you mean 'accuracy'?"),
        ("rewards.components.format.rul=strict", "did you mean 'rule'?"),
        ("rewards.components.format={}", "needs a numeric weight"),
        ("rewards.modules=[no_such_module]", "No module named 'no_such_module'"),
        ("rollout.max_model_len=10", "leaves no room for a prompt"),
        ("model.base.vocab_size=300", "must be a multiple of 64"),
        ("tracking.wandb.mode=ofline", "did you mean 'offline'?"),
    ],
)
def test_a_mistake_is_refused_with_its_name_and_the_fix(override, message):
    with pytest.raises(RecipeError) as caught:
        load_config("tiny", [override])
    assert message in str(caught.value)


def test_all_mistakes_come_at_once():
    with pytest.raises(RecipeError) as caught:
        load_config(
            "tiny", ["trainer.max_stepz=5", "optimizer.lr=fast", "batch.num_samples=1", "seed=-1"]
        )
    assert len(caught.value.problems) == 4


def test_an_unknown_recipe_lists_those_that_exist():
    with pytest.raises(UserError, match="tiny"):
        load_config("tinny", [])


def test_an_override_that_hydra_cannot_read_is_named():
    with pytest.raises(UserError, match=r"trainer\.max_steps"):
        load_config("tiny", ["trainer.max_steps=[1"])


def test_overrides_can_add_change_and_delete():
    config = load_config("tiny", ["trainer.max_steps=7", "+seed=3", "~rewards.components.format"])
    assert (config.trainer.max_steps, config.seed, list(config.rewards.components)) == (
        7,
        3,
        ["accuracy"],
    )


def test_the_command_refuses_a_typo_in_two_seconds_without_importing_torch():
    code = (
        "import sys; from grpo.train import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules), 'heavy import'; sys.exit(code)"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, "--config-name", "tiny", "trainer.max_stepz=5"],
        capture_output=True,
        text=True,
    )
    after = os.times()
    spent = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    assert spent < 2.0  # CPU seconds: the machine may be busy
    assert done.returncode == 78
    assert "did you mean 'max_steps'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_that_is_no_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "broken.yaml").write_text("trainer: {max_steps: [5\nseed: 1\n")
    with pytest.raises(UserError, match=r"(?s)cannot read recipe 'broken'.*line 2"):
        load_config("broken", [], tmp_path)


def test_failure_rates_need_the_reward_that_measures_them():
    overrides = [
        "data.curriculum.kind=prioritised",
        "rewards={components: {format: {weight: 1.0}}}",
    ]
    with pytest.raises(RecipeError, match="failure rates come from the reward accuracy"):
        load_config("tiny", overrides)
