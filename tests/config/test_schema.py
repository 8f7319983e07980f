"""Every bound of the schema, from both sides; and recipes that are written and read again."""

import annotated_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo.common.recipes import read
from grpo.config import SftConfig, TrainConfig, load_config
from grpo.config.document import constraints
from grpo.config.schema import Settings

SIGNS = {
    annotated_types.Ge: ("ge", -1, True),
    annotated_types.Gt: ("gt", -1, False),
    annotated_types.Le: ("le", 1, True),
    annotated_types.Lt: ("lt", 1, False),
}


def bounds(block=TrainConfig):
    for name, field in block.model_fields.items():
        for item in constraints(field):
            if type(item) in SIGNS:
                key, outwards, included = SIGNS[type(item)]
                yield block, name, getattr(item, key), outwards, included
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from bounds(field.annotation)


BOUNDS = list(dict.fromkeys([*bounds(), *bounds(SftConfig)]))
TINY = load_config("tiny", [])


def accepts(block, name, value):
    if name == "betas":
        value = (value, 0.5)
    try:
        block.__pydantic_validator__.validate_assignment(block.model_construct(), name, value)
    except ValueError as error:
        return all(name not in fault["loc"] for fault in error.errors())
    return True


def test_there_are_as_many_bounds_as_settings_that_need_one():
    assert len(BOUNDS) > 40


@pytest.mark.parametrize(
    ("block", "name", "bound", "outwards", "included"),
    BOUNDS,
    ids=[f"{block.__name__}.{name}-{outwards}" for block, name, _, outwards, _ in BOUNDS],
)
def test_a_setting_is_accepted_up_to_its_bound(block, name, bound, outwards, included):
    unfrozen = type(block.__name__, (block,), {}, frozen=False)
    assert accepts(unfrozen, name, bound) is included
    assert not accepts(unfrozen, name, bound + outwards)
    is_whole = "int" in str(block.model_fields[name].annotation)
    assert accepts(unfrozen, name, bound - outwards * (1 if is_whole else 0.5))


@settings(max_examples=20, deadline=None)
@given(
    prompts=st.integers(1, 10_000),
    lr=st.floats(1e-12, 10),
    clip=st.floats(0, 1),
    tags=st.lists(st.text(min_size=1)),
    eager=st.sampled_from([None, True, False]),
)
def test_a_recipe_that_is_written_and_read_again_is_the_same(prompts, lr, clip, tags, eager):
    tree = TINY.as_tree()
    tree["batch"] |= {"num_prompts": prompts}
    tree["optimizer"] |= {"lr": lr}
    tree["algorithm"] |= {"clip_low": clip}
    tree["tracking"]["wandb"] |= {"tags": tags}
    tree["rollout"] |= {"enforce_eager": eager}
    config = read(TrainConfig, tree, "changed")
    assert config.batch.num_prompts == prompts
    assert config.optimizer.lr == lr
    assert read(TrainConfig, config.as_tree(), "again") == config
