"""Steps of the real learner against plain torch on whole logits."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.closeness import close
from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.learner_cases import SMALL_LR, batch

pytestmark = pytest.mark.stack

TEMPERATURE = 0.8


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    rounded = tmp_path_factory.mktemp("bfloat16")
    model = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.bfloat16)
    model.save_pretrained(rounded)
    done = warm.run("tests.stack.learner_cases", SMALL_MODEL, rounded)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def distributions(model, sample):
    """[T, V] log-probs at the positions that predict trained tokens."""
    ids = torch.from_numpy(sample.token_ids_T).long()
    logits = model(input_ids=ids[None, :-1]).logits[0].float()
    return (logits / TEMPERATURE).log_softmax(-1)[torch.from_numpy(sample.loss_mask_T[1:])]


def token_logp(model, sample):
    targets = torch.from_numpy(sample.token_ids_T[sample.loss_mask_T]).long()
    return distributions(model, sample).gather(1, targets[:, None])[:, 0]


def reference_steps(num_steps, lr, kl_coef, entropy_coef, clip_low, clip_high, dropped=()):
    """What two updates a batch with KL, entropy and unequal clips do, written out with autograd."""
    model = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    frozen = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, eps=1.0, weight_decay=0.0)
    samples, advantages = batch()
    for _ in range(num_steps):
        with torch.no_grad():
            old = [token_logp(model, sample) for sample in samples]
        for first in (0, 4):
            loss = torch.zeros(())
            for i in set(range(first, first + 4)) - set(dropped):
                all_logp = distributions(model, samples[i])
                logp = token_logp(model, samples[i])
                with torch.no_grad():
                    reference = token_logp(frozen, samples[i])
                ratio = (logp - old[i]).exp()
                clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
                gain = torch.minimum(ratio * advantages[i], clipped * advantages[i])
                kl = (reference - logp).exp() - (reference - logp) - 1
                entropy = -(all_logp.exp() * all_logp).sum(-1)
                token_loss = -gain + kl_coef * kl - entropy_coef * entropy
                loss = loss + token_loss.mean() / 4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return [token_logp(model, sample).tolist() for sample in samples]


def distance(first, second):
    return max(
        abs(a - b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_two_updates_with_kl_entropy_and_unequal_clips_equal_autograd_on_whole_logits(found):
    wanted = reference_steps(
        2, lr=3e-3, kl_coef=0.3, entropy_coef=0.05, clip_low=0.02, clip_high=0.05
    )
    moved = distance(wanted, found["before"])
    assert moved > 0.1
    assert distance(found["full"], wanted) < 2e-3 * moved
    assert found["full_stats"][0]["clip_share"] > 0  # the second update of the batch was clipped


@pytest.mark.parametrize("tokens", [10_000, 40])
def test_three_updates_of_dpo_equal_autograd_on_whole_pairs_in_any_micro_batches(found, tokens):
    model = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, eps=1.0, weight_decay=0.0)
    samples, _ = batch()
    with torch.no_grad():
        reference_B = torch.stack([token_logp(model, sample).sum() for sample in samples])
    stats, after = found[f"dpo {tokens}"]
    for told in stats:
        way_B = torch.stack([token_logp(model, sample).sum() for sample in samples]) - reference_B
        margin_P = 0.5 * (way_B[::2] - way_B[1::2])
        loss = -torch.log(torch.sigmoid(margin_P)).mean()
        assert told["loss"] == pytest.approx(loss.item(), rel=1e-3)
        assert told["pair_accuracy"] == (margin_P > 0).float().mean().item()
        assert told["reward_margin"] == pytest.approx(margin_P.mean().item(), rel=1e-3, abs=1e-3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        wanted = [token_logp(model, sample).tolist() for sample in samples]
    moved = distance(wanted, found["before"])
    assert moved > 0.1
    assert distance(after, wanted) < 2e-3 * moved
    first, last = stats[0], stats[-1]
    assert first["loss"] == pytest.approx(math.log(2))  # the policy is the reference
    rewards = last["chosen_reward"] - last["rejected_reward"]
    assert last["reward_margin"] == pytest.approx(rewards)


def test_dropped_samples_stand_in_the_denominator_and_nowhere_else(found):
    """KL would act on them; their advantages are not 0. Neither reaches the weights."""
    stats, after = found["half dropped"]
    wanted = reference_steps(
        2, lr=3e-3, kl_coef=0.3, entropy_coef=0, clip_low=0.2, clip_high=0.2, dropped=(0, 3, 4, 6)
    )
    moved = distance(wanted, found["before"])
    assert moved > 0.05
    assert distance(after, wanted) < 2e-3 * moved
    assert stats[1]["kl"] > 0


def test_a_batch_of_dropped_samples_alone_is_finite_and_moves_nothing(found):
    stats, after = found["all dropped"]
    assert after == found["before"]
    assert all(math.isfinite(value) for step in stats for value in step.values())


def test_a_reference_measures_the_way_from_it_and_later_updates_are_off_policy(found):
    first, second = found["full_stats"]
    assert first["kl"] < second["kl"]
    assert first["ratio_max"] > 1.001


@pytest.mark.parametrize("case", ["still", "empty"])
def test_an_update_with_nothing_to_learn_leaves_weights_and_momentum_alone(found, case):
    """Half of the batch has no advantages, or no response tokens: what is left is as if the other
    half were all.
    """
    both, half = found[case], found["half"]
    for mine, reference in zip(both["logprobs"], half["logprobs"], strict=True):
        assert mine == close(reference)
    assert both["stats"][1]["grad_norm"] == pytest.approx(half["stats"][1]["grad_norm"], rel=1e-4)


def test_empty_responses_among_others_count_and_do_not_harm(found):
    for stats in found["partly"]["stats"]:
        assert 0 < stats["grad_norm"] < 1e3
        assert stats["ratio_max"] == 1.0


def test_measured_scalars_are_those_of_whole_logits(found):
    """KL is a sum over tokens, entropy and mismatch are means, all under the weights after both
    steps.
    """
    samples, _ = batch()
    for sample, before, after, (kl, _, mismatch) in zip(
        samples, found["before"], found["full"], found["measured"], strict=True
    ):
        assert kl == pytest.approx(sum(after) - sum(before), rel=1e-3, abs=1e-3)
        assert mismatch == pytest.approx(sum(after) / sample.num_trained + 1.0, rel=1e-4)


def test_without_a_learning_rate_nothing_moves_and_twice_the_rate_moves_twice_as_far(found):
    assert found["lr 0.0"] == found["before"]
    once, twice = (
        [
            [a - b for a, b in zip(x, y, strict=True)]
            for x, y in zip(now, found["before"], strict=True)
        ]
        for now in (found["lr 0.001"], found["lr 0.002"])
    )
    norm = sum(a * a for row in once for a in row)
    ratio = sum(a * b for x, y in zip(once, twice, strict=True) for a, b in zip(x, y, strict=True))
    assert ratio / norm == pytest.approx(2.0, rel=0.02)


def test_checkpointing_runs_each_layer_twice_and_changes_no_gradient(found):
    (plain, norm), (checkpointed, same) = (found[f"checkpointing {on}"] for on in (False, True))
    assert (plain, checkpointed) == (1, 2)
    assert same == pytest.approx(norm, rel=1e-5)


def test_in_bf16_many_micro_batches_give_the_gradient_of_one(found):
    # bf16 keeps 8 bits of a number. The norm of so small a model hides how sums were made, so
    # tests/learner/test_zero.py checks what DeepSpeed is told.
    assert found["bf16 40"] == pytest.approx(found["bf16 10000"], rel=2**-8)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_small_updates_of_a_bf16_checkpoint_add_up_in_float32(found, stage):
    """One step moves few bf16 weights, because the next number is too far. A hundred steps end
    where float32 does, up to the last rounding.
    """
    wanted, drift = found["drift float32"], found[f"drift bfloat16 {stage}"]
    for name, distance in wanted["moved"].items():
        assert distance > 40 * SMALL_LR
        assert drift["stayed"][name] > 0.8, name
        assert drift["moved"][name] == pytest.approx(distance, rel=0.15), name


def test_the_clipped_step_is_the_same_way_shortened_to_clip_over_norm(found):
    norm, far, some = found["unclipped"]
    assert far == pytest.approx(0.1 * norm, rel=1e-2)  # lr / eps times the gradient
    same_norm, shorter, some_shorter = found["clipped 0.25"]
    assert same_norm == pytest.approx(norm, rel=1e-4)  # the norm that is told is the unclipped one
    assert shorter == pytest.approx(0.25 * far, rel=1e-2)
    scale = max(map(abs, some))
    assert some_shorter == pytest.approx([0.25 * value for value in some], abs=0.01 * scale)


def test_a_gradient_below_the_clip_is_left_alone(found):
    assert found["clipped 2.0"][1] == pytest.approx(found["unclipped"][1], rel=1e-4)


def test_the_learner_tells_its_largest_weight_and_when_one_is_not_finite(found):
    before, broken = found["weight_max"]
    assert before == found["largest"]
    assert math.isnan(broken)  # one weight of all
