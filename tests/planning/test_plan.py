"""Memory and time of a plan, by numbers worked out by hand, and what it says to change."""

import json

import pytest

from grpo.commands.main import main
from grpo.commands.plan import lengths_of, read
from grpo.planning import memory, seconds
from grpo.planning.hardware import DEVICES, GIB, device
from grpo.planning.plan import Lengths, changed, fits, make_plan, microbatch_tokens, most_steps
from grpo.planning.shapes import PUBLISHED, Shape, from_config, model_shape

SMALL = Shape(
    layers=2, hidden=4, intermediate=8, heads=2, kv_heads=1, head_dim=2, vocabulary=10, tied=True
)


def planned(name, hardware, *overrides, response=None):
    config = read(name, overrides, None)
    shape = model_shape(config.model)
    lengths = lengths_of(config, None, response)
    return make_plan(config, shape, device(hardware), lengths)


def test_parameters_of_a_small_model_are_counted_one_by_one():
    # q and o 4x4, k and v 4x2, gate, up and down 4x8: 32 + 16 + 96; biases 4 + 2 + 2; norms 8
    assert SMALL.matrices == 144
    assert SMALL.layer == 144 + 8 + 8
    assert SMALL.parameters == 2 * 160 + 40 + 4


# Billions of parameters on the model cards.
CARDS = {
    "Qwen2.5-0.5B": 0.49, "Qwen2.5-1.5B": 1.54, "Qwen2.5-3B": 3.09, "Qwen2.5-7B": 7.62,
    "Qwen2.5-14B": 14.77, "Qwen2.5-32B": 32.76, "DeepSeek-R1-Distill-Qwen-1.5B": 1.78,
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_published_shapes_have_the_parameters_of_their_cards(name):
    assert PUBLISHED[name].parameters / 1e9 == pytest.approx(CARDS[name], abs=0.006)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (3, {"weights": 2, "float32 weights": 4, "moments": 8, "gradients": 4}),
        (2, {"weights": 16, "float32 weights": 4, "moments": 8, "gradients": 4}),
        (1, {"weights": 16, "float32 weights": 4, "moments": 8, "gradients": 32}),
    ],
)
def test_zero_shares_what_its_stage_says(stage, expected):
    # 8 parameters on 8 ranks in bfloat16: 2 + 4 + 8 + 4 bytes where all is shared
    assert memory.state_bytes(total=8, trained=8, ranks=8, stage=stage, width=2) == expected


def test_float32_weights_have_no_copy_in_stage_3_and_adapters_alone_are_trained():
    found = memory.state_bytes(total=110, trained=10, ranks=1, stage=3, width=4)
    assert found == {"weights": 440, "float32 weights": 0, "moments": 80, "gradients": 40}


def test_activations_of_a_token_are_what_waits_for_the_backward_pass():
    # two norms (4 + 2x2) x 4; q, result 4 each, k, v 2 each, 2 heads in float32; MLP 4 x 8
    layer = 2 * 8 * 4 + 2 * 12 + 4 * 2 + 2 * 32
    assert memory.layer_activation_bytes(SMALL, 2) == layer == 160
    assert memory.activation_bytes(SMALL, 2, checkpointing=False) == 2 * 160 + 2 * 7 * 4
    assert memory.activation_bytes(SMALL, 2, checkpointing=True) == 2 * 4 * 2 + 160 + 2 * (16 + 8)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_torch_holds(small_model, checkpointing):
    import torch
    from torch.profiler import ProfilerActivity, profile

    from grpo.learner.policy import Policy, load_model

    policy = Policy(load_model(small_model, torch.float32, checkpointing), 1024)
    ids_BT = torch.ones(64, 40, dtype=torch.long)
    predicts_BT = torch.ones_like(ids_BT, dtype=torch.bool)

    def step():
        logp_N, _ = policy(ids_BT, predicts_BT, ids_BT.flatten(), 1.0)
        logp_N.mean().backward()
        policy.zero_grad(set_to_none=False)

    step()  # gradients are there from here on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    config = json.loads((small_model / "config.json").read_text())
    token = memory.activation_bytes(from_config(config, ""), 4, checkpointing=checkpointing)
    assert peak / ids_BT.numel() == pytest.approx(token, rel=0.15)


def test_a_cache_token_of_qwen_7b_is_56_kib():
    # 28 layers x 2 x 4 heads x 128 x 2 bytes
    assert memory.kv_bytes_per_token(PUBLISHED["Qwen2.5-7B"], 2) == 57_344


def test_a_token_of_learning_is_six_flops_a_weight_and_eight_with_checkpointing():
    weights = 2 * 144 + 40
    attention = 2 * 2 * 10 * 4  # causal: half of the pairs, two products, two FLOPs each
    assert seconds.forward_flops(SMALL, 10) == 2 * weights + attention
    plain = seconds.learn_flops(SMALL, 0, checkpointing=False, forward_passes=0)
    again = seconds.learn_flops(SMALL, 0, checkpointing=True, forward_passes=1)
    assert (plain, again) == (6 * weights, 10 * weights)


def test_waiting_responses_add_steps_by_how_many_run_at_once():
    assert seconds.decode_steps(100, 100, 50, 80) == 80
    assert seconds.decode_steps(300, 100, 50, 80) == 80 + 2 * 50


def test_decoding_reads_all_weights_and_all_caches_each_step():
    one = device("h100")
    eff = seconds.Efficiency(
        learning=1, prefill=1, bandwidth=0.5, link=1, step_seconds=0.001, sequence_seconds=0,
        microbatch_seconds=0, score_seconds=0,
    )  # fmt: skip
    shape = PUBLISHED["Qwen2.5-7B"]
    found = seconds.decode_step_seconds(
        shape, one, eff, sequences=100, length=1000, width=2, devices=2
    )
    read_bytes = 2 * shape.parameters + 100 * 1000 * 57_344
    assert found == pytest.approx(read_bytes / 3.35e12 + 0.001)


def test_the_base_model_has_a_shape_before_it_is_built():
    config = read("tiny", [], None)
    shape = model_shape(config.model)
    assert (shape.layers, shape.hidden, shape.heads, shape.vocabulary) == (3, 128, 4, 320)


def test_the_shape_of_a_base_model_is_that_of_the_folder(small_model):
    from grpo.miniature.shape import shape

    options = json.loads((small_model / "base_model_spec.json").read_text())
    built = json.loads((small_model / "config.json").read_text())
    assert from_config(shape(options), "options") == from_config(built, "folder")


def test_a_micro_batch_is_never_smaller_than_the_longest_sequence():
    config = read("r1_zero_qwen2.5_7b", ["model.path=Qwen2.5-7B"], None)
    lengths = Lengths(prompt=100, longest_prompt=1024)
    assert microbatch_tokens(config, lengths, 4)[0] == 16_384
    small = changed(config, "learner.tokens_per_microbatch", 1024)
    assert microbatch_tokens(small, lengths, 4)[0] == 9215


def test_conditions_bound_the_steps_of_a_stage():
    assert most_steps({"any": [{"max_steps": 9}, {"plateau": "reward"}]}) == 9
    assert most_steps({"all": [{"max_steps": 9}, {"plateau": "reward"}]}) is None


def test_the_named_setting_makes_it_fit_and_the_next_gentler_value_does_not():
    path = "model.path=Qwen2.5-Math-7B"
    (stage,) = planned("dr_grpo_qwen2.5_math_7b", "h100", path)
    assert not stage.fits
    (advice,) = stage.advice
    assert advice.startswith("learner rank: set learner.gradient_checkpointing=true or ")
    setting = next(word for word in advice.split() if "tokens_per_microbatch" in word)
    tokens = int(setting.partition("=")[2])
    for value, expected in ((tokens, True), (tokens + 512, False)):
        key = setting.partition("=")[0]
        (found,) = planned("dr_grpo_qwen2.5_math_7b", "h100", path, f"{key}={value}")
        assert found.fits is expected


def test_settings_are_named_together_where_none_is_enough_alone():
    (stage,) = planned(
        "dr_grpo_qwen2.5_math_7b", "a100-40", "model.path=Qwen2.5-Math-7B", "learner.num_ranks=1"
    )
    learner = next(text for text in stage.advice if text.startswith("learner rank: set "))
    assert " and " in learner
    settings = learner.removeprefix("learner rank: set ").split(" and ")
    config = read("dr_grpo_qwen2.5_math_7b", ["model.path=Qwen2.5-Math-7B", *settings], None)
    (after,) = make_plan(
        config, PUBLISHED["Qwen2.5-Math-7B"], DEVICES["a100-40"], lengths_of(config)
    )
    assert after.actors[1].fits


@pytest.mark.parametrize("card", ["l4", "rtx4090", "a100-80", "h100"])
def test_the_first_recipe_for_a_gpu_fits_cards_of_24_and_80_gb(card):
    (stage,) = planned("gsm8k_qwen2.5_0.5b", card, "model.path=Qwen2.5-0.5B-Instruct")
    assert [actor.fits for actor in stage.actors] == [True, True]


def test_colocated_actors_count_what_the_other_one_keeps():
    path = "model.path=Qwen2.5-0.5B-Instruct"
    (apart,) = planned("gsm8k_qwen2.5_0.5b", "l4", path, "cluster.colocate=false")
    (shared,) = planned("gsm8k_qwen2.5_0.5b", "l4", path)
    engine, rank = shared.actors
    # 2 + 4 + 8 + 4 bytes a parameter, a bucket of 50e6 float32 gradients and a context
    state = 18 * PUBLISHED["Qwen2.5-0.5B"].parameters + 4 * 50e6 + GIB
    assert engine.parts["state of the rank"] == pytest.approx(state)
    messages = apart.actors[0].parts["weight messages"]
    assert engine.total == pytest.approx(apart.actors[0].total - messages + state)
    # CUDA graphs and a context
    assert rank.total == pytest.approx(apart.actors[1].total + 2.5 * GIB)


def test_a_colocated_engine_is_advised_settings_that_the_recipe_may_have():
    path = "model.path=Qwen2.5-0.5B-Instruct"
    (stage,) = planned("gsm8k_qwen2.5_0.5b", "l4", path, "rollout.gpu_memory_share=0.5")
    assert stage.advice == [
        "engine: set rollout.gpu_memory_share=0.45 or learner.offload_optimizer=true"
    ]
    (stage,) = planned("gsm8k_qwen2.5_0.5b", "l4", path, "learner.tokens_per_microbatch=16384")
    (advice,) = stage.advice
    assert "num_ranks" not in advice


def test_offloaded_state_counts_as_cpu_memory():
    path = "model.path=Qwen2.5-7B"
    (there,) = planned("r1_zero_qwen2.5_7b", "h100", path)
    (moved,) = planned("r1_zero_qwen2.5_7b", "h100", path, "learner.offload_optimizer=true")
    # float32 weights, moments and gradients: 16 bytes a parameter over 4 ranks
    size = 16 * PUBLISHED["Qwen2.5-7B"].parameters / 4
    assert moved.actors[1].host - there.actors[1].host == pytest.approx(size)
    # the copy that a checkpoint makes, and the policy that rank 0 saves
    assert there.actors[1].host == (12 / 4 + 2) * PUBLISHED["Qwen2.5-7B"].parameters
    assert there.actors[1].total - moved.actors[1].total == pytest.approx(size)


def test_a_staged_recipe_has_a_plan_for_each_stage():
    stages = planned("deepscaler_1.5b", "h100", "model.path=DeepSeek-R1-Distill-Qwen-1.5B")
    assert [stage.name for stage in stages] == ["8k", "16k", "24k"]
    assert [stage.steps for stage in stages] == [2000, 1000, 500]
    assert stages[2].seconds["sample"] > 2 * stages[0].seconds["sample"]


def test_processes_of_a_cpu_share_its_memory():
    (stage,) = planned("tiny", "cpu")
    engine = stage.actors[0]
    assert engine.parts["KV cache"] == GIB / 2
    assert fits(stage.actors)
    assert not fits([*stage.actors, *[engine] * 1000])


def test_the_command_says_yes_with_0_and_no_with_78(tmp_path, capsys):
    output = tmp_path / "plan.json"
    plan = ["plan", "--config-name", "r1_zero_qwen2.5_7b", "model.path=Qwen/Qwen2.5-7B"]
    assert main([*plan, "--hardware", "h100", "--json", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["parameters"] == PUBLISHED["Qwen2.5-7B"].parameters
    assert [actor["fits"] for actor in found["stages"][0]["actors"]] == [True, True]
    capsys.readouterr()
    assert main([*plan, "--hardware", "rtx4090"]) == 78
    assert "does not fit: engine needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "--hardware", "h1000"], "no such device; did you mean 'h100'?"),
        (["r1_zero_qwen2.5_7b"], "model.path: not set"),
        (["r1_zero_qwen2.5_7b", "model.path=Qwen2.5-8B"], "did you mean 'Qwen2.5-"),
        (["sft_tiny"], "grpo plan reads recipes of grpo train"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments, message, capsys):
    assert main(["plan", "--config-name", *arguments]) == 78
    assert message in capsys.readouterr().err
