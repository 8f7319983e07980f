"""Recipes are refused early, whole, and with the fix."""

import os
import subprocess
import sys

import pytest

from grpo.common.errors import RecipeError, UserError
from grpo.config import RECIPES, load_config, load_sft_config
from grpo.config.algorithm import algorithm_problems
from grpo.config.document import PAGE, render

ALL_NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
SFT_NAMES = [name for name in ALL_NAMES if "sft_" in name]
PIPELINE_NAMES = [name for name in ALL_NAMES if "_pipeline_" in name]
RECIPE_NAMES = [name for name in ALL_NAMES if name not in SFT_NAMES + PIPELINE_NAMES]
MINIATURES = {"tiny", "tiny_staged", "bilingual_tiny"}
FILES = ["model.path=folder", "data.train.path=train.jsonl", "data.held_out.path=test.jsonl"]


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_every_recipe_loads(recipe):
    given = FILES[:1] if recipe == "tinyzero_countdown_3b" else FILES
    config = load_config(recipe, [] if recipe in MINIATURES else given)
    assert config.trainer.max_steps > 0
    assert algorithm_problems(config) == []


@pytest.mark.parametrize("recipe", SFT_NAMES)
def test_every_recipe_of_supervised_fine_tuning_loads(recipe):
    given = {"sft_tiny": [], "bilingual_sft_tiny": []}.get(
        recipe, ["model.path=folder", "data.train=train.jsonl"]
    )
    config = load_sft_config(recipe, given)
    assert (config.trainer.max_steps or config.trainer.epochs) > 0


@pytest.mark.parametrize("recipe", sorted({*RECIPE_NAMES} - MINIATURES))
def test_a_published_recipe_shrinks_to_a_laptop_and_keeps_its_algorithm(recipe):
    given = FILES[:1] if recipe == "tinyzero_countdown_3b" else FILES
    whole, small = load_config(recipe, given), load_config(recipe, ["+shrink=tiny"])
    assert small.algorithm == whole.algorithm
    assert small.batch.num_updates == whole.batch.num_updates
    assert small.batch.zero_variance == whole.batch.zero_variance
    assert small.rewards == whole.rewards
    assert (small.model.base, small.runtime, small.batch.num_prompts) == (
        "miniature",
        "in_process",
        16,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_stepz=5", "trainer.max_stepz: unknown key; did you mean 'max_steps'?"),
        ("bach.num_prompts=5", "bach: unknown key; did you mean 'batch'?"),
        ("data.curriculum.kind=easy", "data.curriculum.kind: 'easy' is not one of"),
        (
            "data.curriculum={kind: easy_to_hard, sigma: 0}",
            "data.curriculum.sigma=0: must be greater than 0",
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
        ("sampling.temperature=0", "sampling.temperature=0: must be greater than 0"),
        ("optimizer.lr=-1", "optimizer.lr=-1: must be greater than 0"),
        ("rollout.cpus_per_engine=0", "must be greater than 0"),
        ("learner.cpus_per_rank=nan", "must be a finite number"),
        ("evaluation.max_response_tokens=0", "must be at least 1"),
        ("cluster.start_timeout_seconds=-1", "must be at least 1"),
        (
            "data.train={path: x, max_bad_rows: -1}",
            "data.train.max_bad_rows=-1: must be at least 0",
        ),
        ("data.train.num_problems=0", "data.train.num_problems=0: must be at least 1"),
        ("data.train.arithmetic.lengths=[]", "data.train.arithmetic.lengths=[]: "),
        (
            "data.train.arithmetic.max_factor=1",
            "data.train.arithmetic.max_factor=1: must be at least 2",
        ),
        ("optimizer.eps=0", "optimizer.eps=0: must be greater than 0"),
        ("optimizer.lr=nan", "must be a finite number"),
        ("algorithm.clip_low=1.5", "algorithm.clip_low=1.5: must be at most 1"),
        ("algorithm.kl_coef=-0.1", "algorithm.kl_coef=-0.1: must be at least 0"),
        ("optimizer.betas=[0.9]", "needs at least 2 items"),
        ("model.path=/somewhere", "set exactly one of model.path"),
        ("data.template=r2", "data.template=r2: no such name; "),
        ("data.train={source: file}", "data.train.path: missing"),
        ("data.train={source: arithmetic}", "data.train.num_problems: missing"),
        ("rewards.components.acuracy={weight: 1}", "no such reward; did you mean 'accuracy'?"),
        ("rewards.components.format.rul=strict", "did you mean 'rule'?"),
        ("rewards.components.format={}", "needs a numeric weight"),
        ("rewards.modules=[no_such_module]", "No module named 'no_such_module'"),
        ("rollout.max_model_len=10", "leaves no room for a prompt"),
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
        "heavy = {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.device=gpu", "rollout.gpus_per_engine=0.5"], "NCCL takes one rank a GPU; use 1"),
        (["runtime=torchrun", "supervise=true"], "torchrun --max-restarts"),
        (["trainer.device=gpu", "rollout.gpus_per_engine=1.5"], "use a whole number"),
        (["trainer.device=gpu", "learner.gpus_per_rank=2"], "NCCL takes one rank a GPU; use 1"),
        (
            ["runtime=in_process", "learner.num_ranks=1"],
            "rollout.num_engines=2: runtime=in_process",
        ),
        (
            ["runtime=in_process", "rollout.num_engines=1"],
            "learner.num_ranks=2: runtime=in_process",
        ),
        (["data.system_prompt=Hi"], "data.system_prompt=Hi: only chat templates have one"),
        (["data.enable_thinking=true"], "data.enable_thinking=True: only chat templates"),
        (["model.base=null", "model.path=x", "model.base_options={a: 1}"], "only model.base looks"),
        (
            ["rollout.max_model_len=50", "evaluation.max_response_tokens=50"],
            "beside evaluation.max_response_tokens=50",
        ),
        (["rewards.components={}"], "rewards.components: empty"),
        (["modules=[no_such]"], "modules: cannot import 'no_such'"),
    ],
)
def test_what_cannot_work_together_is_refused_with_the_fix(overrides, message):
    with pytest.raises(RecipeError) as caught:
        load_config("tiny", overrides)
    assert message in str(caught.value)


def test_a_wrong_required_setting_hides_no_conflict():
    with pytest.raises(RecipeError) as caught:
        load_config("tiny", ["trainer.max_steps=0", "batch.num_samples=1"])
    assert len(caught.value.problems) == 2


def test_a_wrong_setting_is_not_blamed_for_what_its_default_would_do():
    with pytest.raises(RecipeError) as caught:
        load_config("tiny", ["batch.num_prompts=many", "batch.num_updates=5"])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("template", ["chat", "chat:deepscaler_boxed"])
def test_chat_templates_are_accepted(template):
    config = load_config("tiny", [f"data.template={template}", "data.system_prompt=Be brief."])
    assert config.data.system_prompt == "Be brief."


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load_config("tiny", ["output_dir=~/run", "model.base=null", "model.path=~/m"])
    assert (config.output_dir, config.model.path) == ("/home/somebody/run", "/home/somebody/m")


def test_eager_depends_on_the_device_unless_it_is_said():
    rollout = load_config("tiny", []).rollout
    assert (rollout.is_eager("cpu"), rollout.is_eager("cuda")) == (True, False)
    assert load_config("tiny", ["rollout.enforce_eager=true"]).rollout.is_eager("cuda")


def test_the_page_on_configuration_is_current():
    text = PAGE.read_text(encoding="utf-8")
    assert text == render(text), "run python -m grpo.config.document"
