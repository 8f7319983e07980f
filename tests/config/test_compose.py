"""How Hydra puts a recipe together from files and overrides."""

import pytest
import yaml

from grpo.common.errors import UserError
from grpo.common.recipes import compose
from grpo.config import RECIPES, load_config
from tests.models import pretended_reward_model


@pytest.fixture
def folder(tmp_path):
    files = {
        "base.yaml": {
            "defaults": [{"part": "small"}, "_self_"],
            "size": {"width": 2, "height": "${size.width}"},
            "names": ["a", "b"],
            "output": "???",
        },
        "child.yaml": {"defaults": ["base", "_self_"], "size": {"width": 5}},
        "part/small.yaml": {"count": 1, "unit": "m"},
        "part/large.yaml": {"count": 9},
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.dump(content))
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ([], "part", {"count": 1, "unit": "m"}),
        (["part=large"], "part", {"count": 9}),
        (["part.count=3", "part=large"], "part", {"count": 3}),
        (["part={count: 4}"], "part", {"count": 4}),
        (["~part"], "part", None),
        (["~part.unit"], "part", {"count": 1}),
        (["+new.deep=1"], "new", {"deep": 1}),
        (["++names=[c, {d: [1, 2]}]"], "names", ["c", {"d": [1, 2]}]),
        (["size.width=7"], "size", {"width": 7, "height": 7}),
        ([], "output", "???"),
        (["output=~/there"], "output", "~/there"),
        (["output='a, b=c'"], "output", "a, b=c"),
    ],
)
def test_overrides_do_what_they_say(folder, overrides, key, value):
    assert compose("base", overrides, folder).get(key) == value


def test_a_recipe_builds_on_another(folder):
    tree = compose("child", [], folder)
    assert (tree["size"], tree["part"]["count"]) == ({"width": 5, "height": 5}, 1)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("bsae", [], "did you mean 'base'?"),
        ("base", ["part=lrge"], "part=lrge: no such choice; did you mean 'large'?"),
        ("base", ["~size.widht"], "~size.widht: the recipe has no such key; did you mean 'width'?"),
        ("base", ["size.width=1,2"], "a run takes one"),
        ("base", ["size.height=${size.depth}"], "size.depth"),
        ("base", ["size.width=[1"], "size.width"),
    ],
)
def test_what_cannot_be_composed_is_named(folder, name, overrides, message):
    with pytest.raises(UserError) as caught:
        compose(name, overrides, folder)
    assert message in str(caught.value)


def test_a_recipe_in_another_folder_builds_on_tiny(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [tiny, _self_]\nbatch: {num_prompts: 32}\n")
    config = load_config("mine", [], tmp_path)
    assert (config.batch.num_prompts, config.batch.num_samples, config.optimizer.eps) == (32, 8, 1)


def test_a_value_that_must_be_given_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [tiny, _self_]\nseed: ???\n")
    with pytest.raises(UserError, match=r"seed: not set; add seed=VALUE"):
        load_config("mine", [], tmp_path)
    assert load_config("mine", ["seed=4"], tmp_path).seed == 4


@pytest.mark.parametrize("choice", sorted(p.stem for p in (RECIPES / "algorithm").glob("*.yaml")))
def test_every_algorithm_goes_with_tiny(choice):
    chosen = yaml.safe_load((RECIPES / "algorithm" / f"{choice}.yaml").read_text())
    algorithm = load_config("tiny", [f"algorithm={choice}"]).algorithm.model_dump()
    assert {key: algorithm[key] for key in chosen} == chosen


def test_the_reward_models_of_r1_go_beside_the_rewards_of_a_recipe(tmp_path):
    judge = pretended_reward_model(tmp_path / "judge")
    given = ["+shrink=tiny", "+preferences=r1", f"rewards.components.helpful.model={judge}"]
    with pytest.raises(UserError, match=r"rewards\.components\.harmless\.model: not set"):
        load_config("r1_zero_qwen2.5_7b", given)
    given.append(f"rewards.components.harmless.model={judge}")
    components = load_config("r1_zero_qwen2.5_7b", given).rewards.components
    assert [*components] == ["accuracy", "format", "helpful", "harmless"]
    assert components["harmless"] == {
        "kind": "preference", "model": str(judge), "reads": "everything", "rows": "unverifiable", "weight": 1.0,
    }  # fmt: skip
