"""The gradient of a batch depends on nothing but the batch: not on micro-batches, ranks, the order
of samples or the ZeRO stage. What is not finite moves nothing.
"""

from __future__ import annotations

import json
import math
import socket

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from grpo.learner.packing import plan_microbatches
from tests.models import SMALL_MODEL
from tests.stack import gradient_cases, warm

pytestmark = pytest.mark.stack


def run_ranks(world_size, folder, module="tests.stack.gradient_cases"):
    """All cases of a world size, written into the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [(rank, world_size, port, SMALL_MODEL, folder) for rank in range(world_size)]
    for done in warm.run_together(module, ranks):
        assert done.returncode == 0, done.stderr[-3000:]


class Cases:
    """What `gradient_cases` wrote."""

    def __init__(self, folder):
        self.folder = folder

    def _tensors(self, case, kind):
        tensors = load_file(self.folder / f"{case}.safetensors")
        return {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}

    def gradients(self, case):
        return self._tensors(case, "grad ")

    def weights(self, case):
        return self._tensors(case, "weight ")

    def __getitem__(self, case):
        return json.loads((self.folder / f"{case}.json").read_text())


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for world_size in (1, 2):
        run_ranks(world_size, folder)
    return Cases(folder)


def assert_same(mine, reference, relative):
    """||a - b|| / ||b|| of every parameter."""
    assert mine.keys() == reference.keys()
    for name, wanted in reference.items():
        distance = float((mine[name] - wanted).norm() / wanted.norm())
        assert distance <= relative, (name, distance)


@pytest.mark.parametrize(
    "case", ["1 micro-batches", "1 everything", "1 shuffled", *(f"2 stage {i}" for i in range(4))]
)
def test_the_gradient_of_every_parameter_is_that_of_one_whole_batch(cases, case):
    """More than 10,000 tokens of unequal lengths; one third of the samples teaches."""
    assert sum(sample.num_tokens for sample in gradient_cases.batch()[0]) >= 10_000
    assert_same(cases.gradients(case), cases.gradients("1 whole"), relative=1e-5)
    mine, reference = cases[case]["stats"], cases["1 whole"]["stats"]
    assert mine.keys() == reference.keys()
    for key, value in reference.items():
        assert mine[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("stage", range(4))
def test_what_a_checkpoint_brings_back_goes_on_to_the_last_bit(cases, stage):
    """The second step has moments; without them it would be the first one again."""
    second, again = cases.weights(f"2 second {stage}"), cases.weights(f"2 again {stage}")
    first = cases.weights(f"2 stage {stage}")
    assert all(torch.equal(again[name], second[name]) for name in second)
    assert not any(torch.equal(second[name], first[name]) for name in second)
    assert cases[f"2 second {stage}"]["stats"] == cases[f"2 again {stage}"]["stats"]


@pytest.mark.parametrize("stage", range(4))
def test_two_ranks_go_on_from_the_checkpoint_of_one(cases, stage):
    mine, reference = cases.weights(f"2 from one rank {stage}"), cases.weights("1 second")
    assert_same(mine, reference, relative=1e-6)
    taken, written = cases.weights(f"2 weights of one rank {stage}"), cases.weights("1 whole")
    assert all(torch.equal(taken[name], written[name]) for name in written)


def test_a_disk_that_is_full_on_one_rank_is_told_by_all_and_the_next_save_is_whole(cases):
    assert cases["2 full disk"]["told"] == ["rank 1: File too large"] * 2
    saved, read = cases.weights("2 full disk"), cases.weights("2 full disk again")
    assert saved and all(torch.equal(read[name], saved[name]) for name in saved)


def test_a_rank_without_a_teaching_sample_takes_part_and_changes_nothing(cases):
    assert_same(cases.gradients("2 few"), cases.gradients("1 few"), relative=1e-5)


def padded(lengths, budget):
    """Tokens that one rank works on for samples of these lengths, padding included.

    The last token of a sample predicts nothing and is not computed.
    """
    plan = plan_microbatches(lengths, 1, budget)
    return sum(len(rows) * (max(lengths[i] for i in rows) - 1) for (rows,) in plan)


def test_only_samples_with_an_advantage_run_backward(cases):
    samples, advantages = gradient_cases.batch()
    lengths = [sample.num_tokens for sample in samples]
    teaching = [n for n, a in zip(lengths, advantages, strict=True) if a]
    silent = [n for n, a in zip(lengths, advantages, strict=True) if not a]
    for case, budget in (("1 whole", gradient_cases.NO_LIMIT), ("1 micro-batches", 1500)):
        assert cases[case]["backward"] == padded(teaching, budget), case
        assert cases[case]["forward"] == padded(silent, budget), case
    everything = cases["1 everything"]
    assert everything["forward"] == 0
    assert everything["backward"] == padded(lengths, 1500)


@pytest.mark.parametrize("case", ["stage 3", "few", "masked"])
def test_all_ranks_make_the_same_calls(cases, case):
    first, second = cases[f"2 {case}"]["calls"]
    assert first == second
    assert sum(first) > 0


def plain_step():
    """Loss, gradients and weights after one step: one process, whole logits, AdamW by hand."""
    model = AutoModelForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)
    samples, advantages = gradient_cases.batch()
    for sample, advantage in zip(samples, advantages, strict=True):
        if advantage:
            ids = torch.from_numpy(sample.token_ids_T).long()
            logits = model(input_ids=ids[None, :-1]).logits[0] / gradient_cases.SETTINGS.temperature
            logp = logits.log_softmax(-1).gather(1, ids[1:, None])[sample.loss_mask_T[1:], 0]
            (-advantage * logp.mean() / len(samples)).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
    optimizer = gradient_cases.OPTIMIZER
    weights = {}
    for name, p in model.named_parameters():
        gradient = gradients[name] * min(1.0, optimizer.max_grad_norm / norm)
        decay = optimizer.weight_decay if p.ndim >= 2 else 0.0
        # The first step of AdamW: both moments are unbiased estimates of one gradient.
        moved = p * (1 - optimizer.lr * decay) - optimizer.lr * gradient / (
            gradient.abs() + optimizer.eps
        )
        weights[name] = moved.detach()
    return norm, gradients, weights


def test_gradients_norm_and_step_equal_those_of_plain_torch_in_every_stage(cases):
    """Clipped to a fifth of its norm; matrices decay, norms and biases do not."""
    norm, gradients, weights = plain_step()
    assert norm > 2 * gradient_cases.OPTIMIZER.max_grad_norm
    assert {p.ndim for p in weights.values()} == {1, 2}
    for stage in range(4):
        case = f"2 stage {stage}"
        assert cases[case]["stats"]["grad_norm"] == pytest.approx(norm, rel=1e-5)
        assert_same(cases.gradients(case), gradients, relative=2e-5)
        found = cases.weights(case)
        assert torch.equal(found.pop("lm_head.weight"), found["model.embed_tokens.weight"])
        before = cases.weights(f"2 before {stage}")
        for name, wanted in weights.items():
            moved = (wanted - before[name]).norm()
            assert (found[name] - wanted).norm() <= 1e-3 * moved, name


@pytest.mark.parametrize("stage", (1, 2, 3))
def test_state_in_cpu_memory_takes_the_same_step(cases, stage):
    found, wanted = cases.weights(f"2 offload {stage}"), cases.weights(f"2 stage {stage}")
    before = cases.weights(f"2 before {stage}")
    for name in wanted:
        moved = (wanted[name] - before[name]).norm()
        assert (found[name] - wanted[name]).norm() <= 1e-3 * moved, name


@pytest.mark.parametrize("stage", range(4))
def test_a_gradient_that_is_not_finite_moves_nothing_and_is_told(cases, stage):
    before, after = cases.weights(f"2 before {stage}"), cases.weights(f"2 nan {stage}")
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert cases[f"2 nan {stage}"]["updates"] == 0
    assert cases[f"2 nan {stage}"]["stats"]["grad_norm"] == math.inf
    # The next step is as if the broken one had never been.
    assert cases[f"2 after nan {stage}"]["updates"] == 1
    assert_same(
        cases.weights(f"2 after nan {stage}"), cases.weights(f"2 stage {stage}"), relative=1e-6
    )


def test_a_batch_without_a_trained_token_is_finite_and_moves_nothing(cases):
    found, before = cases["2 masked"], cases.weights("2 before 3")
    assert all(math.isfinite(value) for value in found["stats"].values())
    assert (found["stats"]["grad_norm"], found["updates"]) == (0.0, 0)
    after = cases.weights("2 masked")
    assert all(torch.equal(after[name], before[name]) for name in before)
