"""What the comparisons of benchmarks/ rest on."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks import overlap, staged_vs_fixed
from benchmarks.fixed_lengths import write_model
from grpo.config import load_config

SMALL_MODEL = Path(__file__).with_name("small_model")


@pytest.mark.parametrize("wanted", [0.0, 1 / 16])
def test_a_fixed_length_model_ends_with_the_same_probability_after_any_text(wanted, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_model(SMALL_MODEL, tmp_path, wanted, limit=64)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        p_BTV = model(torch.tensor([[5, 9, 30, 200, 7], [100, 1, 1, 250, 60]])).logits.softmax(-1)
    end_BT = p_BTV[..., tokenizer.eos_token_id]
    assert end_BT.flatten().tolist() == pytest.approx([wanted] * 10, rel=1e-3, abs=1e-9)
    words = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    share = (1 - wanted) / len(words)  # of each word; nothing is left for padding
    assert p_BTV[..., words].min().item() == pytest.approx(share, rel=1e-2)
    assert p_BTV[..., words].max().item() == pytest.approx(share, rel=1e-2)
    assert model.config.max_position_embeddings == 128


def test_benchmarks_import_only_names_that_exist():
    """They are run by hand, so a name that moved would be noticed much later."""
    missing = []
    for file in sorted(Path(benchmarks.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            place = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if place.split(".")[0] not in ("benchmarks", "grpo", "rewards", "data"):
                continue
            module = importlib.import_module(place)
            missing += [
                f"{file.name}: {place}.{name.name}"
                for name in node.names
                if not hasattr(module, name.name)
                and importlib.util.find_spec(f"{place}.{name.name}") is None
            ]
    assert not missing


CURVE = [(0.0, 0.2), (100.0, 0.4), (300.0, 0.8)]


def test_a_curve_is_read_between_evaluations_and_not_beyond():
    assert staged_vs_fixed.at(CURVE, 50) == pytest.approx(0.3)
    assert staged_vs_fixed.at(CURVE, 150) == pytest.approx(0.5)
    assert staged_vs_fixed.at(CURVE, 300) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="301 tokens: the curve goes from 0 to 300"):
        staged_vs_fixed.at(CURVE, 301)


def test_the_band_is_the_mean_and_the_ends_at_equal_tokens():
    other = [(0.0, 0.2), (200.0, 0.2)]
    assert staged_vs_fixed.band([CURVE, other], [0, 200]) == [
        pytest.approx((0.2, 0.2, 0.2)),
        pytest.approx((0.4, 0.2, 0.6)),
    ]


def test_the_mean_accuracy_of_a_run_weighs_tokens_and_not_evaluations():
    # 100 tokens at 0.3 on average, then 100 at 0.5
    assert staged_vs_fixed.area(CURVE, 200) == pytest.approx(0.4)
    assert staged_vs_fixed.area(CURVE, 300) == pytest.approx((100 * 0.3 + 200 * 0.6) / 300)


def test_seeds_are_paired_and_the_interval_is_students():
    mean, interval = staged_vs_fixed.difference_over_seeds([5.0, 7.0, 9.0], [4.0, 5.0, 6.0])
    # differences 1, 2, 3: deviation 1, and t = 4.303 with two degrees of freedom
    half = 4.3027 / 3**0.5
    assert mean == 2.0
    assert interval == pytest.approx((2 - half, 2 + half), rel=1e-4)
    assert staged_vs_fixed.difference_over_seeds([3.0], [1.0]) == (2.0, None)


def test_the_fixed_run_has_the_last_stages_settings_until_it_has_as_many_tokens():
    staged = load_config("tiny_staged", [])
    overrides = staged_vs_fixed.fixed_overrides(staged, 1_000_000)
    fixed = load_config("tiny_staged", overrides)
    (stage,) = fixed.stages
    assert stage.until == {"max_tokens": 1_000_000}
    assert fixed.sampling.max_response_tokens == staged.stages[-1].max_response_tokens
    # 512 responses a step of at least one token: the budget is spent before the steps are
    assert fixed.trainer.max_steps * 512 >= 1_000_000
    same = {"stages", "sampling", "trainer"}
    assert fixed.model_dump(exclude=same) == staged.model_dump(exclude=same)
    # a token weighs the same at every limit, in all stages and in the fixed run
    weights = [stage.lr and stage.lr / stage.max_response_tokens for stage in staged.stages[:-1]]
    assert weights == [pytest.approx(fixed.optimizer.lr / fixed.sampling.max_response_tokens)] * 2


def test_a_runs_record_becomes_a_curve_over_tokens():
    def evaluation(accuracy, worked):
        return {"eval/sampled/accuracy": accuracy, "eval/sampled/worked_accuracy": worked}

    rows = [
        {"step": 0, **evaluation(0.2, 0.3)},
        {"step": 1, "generated_tokens": 10, "seconds/sample": 1.0, "seconds/learn": 0.5},
        {
            **{"step": 2, "generated_tokens": 20, "seconds/sample": 2.0, **evaluation(0.4, 0.5)},
            **{"switch/from": "short", "switch/to": "long", "switch/reason": "2 of 2 steps"},
        },
        {"step": 3, "generated_tokens": 30, **evaluation(0.6, 0.7), "switch/to": "end"},
    ]
    summary = {
        **{"base": {"sampled": {"accuracy": 0.2}}, "final": {"sampled": {"accuracy": 0.6}}},
        **{"steps": 3, "wall_seconds": 9.0},
    }
    arm = staged_vs_fixed.read_arm(rows, summary)
    assert arm.tokens == 60
    assert arm.curve == [(0, 0.2), (30, 0.4), (60, 0.6)]
    assert (arm.seconds, arm.wall_seconds, arm.steps) == (3.5, 9.0, 3)
    assert arm.switches == [(2, "2 of 2 steps")]  # the end of the run is none
    assert arm.stage_ends == [{"accuracy": 0.4, "worked_accuracy": 0.5}]


def test_a_side_is_idle_when_neither_its_work_nor_the_sync_goes_on():
    keys = ("sample", "learn", "transfer", "idle", "generate")
    # Step 2 waited 1 s for the batch of step 3, which took 5 s; that of step 2 was made before.
    second = dict(zip([f"seconds/{key}" for key in keys], [1.0, 4.0, 0.5, 0.25, 3.0], strict=True))
    found = overlap.phases(second, {**second, "seconds/generate": 5.0})
    assert found["step"] == 5.75
    assert (found["engine idle"], found["learner idle"]) == (0.25, 1.25)
    assert (found["longer side"], found["both sides"]) == (5.5, 9.5)
