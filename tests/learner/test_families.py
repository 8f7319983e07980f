"""Architectures: the policy's log-probs and gradients are those of the plain model."""

from __future__ import annotations

import pytest
import torch

from grpo.common.errors import UserError
from grpo.learner.model_folder import check_model
from grpo.learner.packing import collate
from grpo.learner.policy import Policy, load_model
from grpo.types import TrainSample
from tests.closeness import close
from tests.families import FAMILIES, tiny_model

TEMPERATURE = 0.7
CASES = [(family, tied) for family in FAMILIES for tied in (True, False)]


def samples():
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(2, 260, (n,), generator=generator).tolist() for n in (60, 41, 7)]
    return [TrainSample.from_tokens(row[:3], row[3:], [0.0] * (len(row) - 3)) for row in ids]


@pytest.mark.parametrize(("family", "tied"), CASES)
def test_log_probs_and_gradients_are_those_of_the_plain_model(family, tied, tmp_path):
    """Padded rows, chunks of 16 tokens and recomputed activations against one text at a time."""
    plain = tiny_model(tmp_path, family, tied=tied)
    batch = samples()
    wanted = []
    for sample in batch:
        ids = torch.from_numpy(sample.token_ids_T).long()
        logits = plain(input_ids=ids[None, :-1]).logits[0] / TEMPERATURE
        logp = logits.log_softmax(-1).gather(1, ids[1:, None])[sample.loss_mask_T[1:], 0]
        (logp * torch.linspace(-1, 1, len(logp))).sum().backward()
        wanted.append(logp.detach())
    policy = Policy(load_model(tmp_path, torch.float32, gradient_checkpointing=True), 16)
    assert policy.tied == tied
    mb = collate(batch, [0, 1, 2], [1.0] * 3, pad_token_id=268)
    logp_N, _ = policy(mb.input_ids_BT, mb.predicts_BT, mb.targets_N, TEMPERATURE)
    assert logp_N.tolist() == close(torch.cat(wanted).tolist(), units=256)
    (logp_N * torch.cat([torch.linspace(-1, 1, len(row)) for row in wanted])).sum().backward()
    found = {name: p.grad for name, p in policy.model.named_parameters()}
    for name, p in plain.named_parameters():
        assert float((found[name] - p.grad).norm() / p.grad.norm()) < 1e-4, name


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_runs_every_layer_twice(family, tmp_path):
    tiny_model(tmp_path, family, tied=True)
    policy = Policy(load_model(tmp_path, torch.float32, gradient_checkpointing=True), 16)
    calls = []
    for layer in policy.model.get_decoder().layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    mb = collate(samples(), [0], [1.0] * 3, pad_token_id=268)
    policy(mb.input_ids_BT, mb.predicts_BT, mb.targets_N, 1.0)[0].sum().backward()
    assert len(calls) == 2 * 2


@pytest.mark.parametrize(("family", "tied"), CASES)
def test_the_model_is_accepted(family, tied, tmp_path):
    tiny_model(tmp_path, family, tied=tied)
    assert check_model(tmp_path) == 256


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("gemma2", {"final_logit_softcapping": 30.0}, "model_type=gemma2 is not supported"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("cohere", {"logit_scale": 0.0625}, "model_type=cohere is not supported"),
        ("granite", {"logits_scaling": 8.0}, "model_type=granite is not supported"),
        ("phi", {}, "model_type=phi is not supported"),
    ],
)
def test_logits_that_are_more_than_a_product_are_refused(family, changes, named, tmp_path):
    tiny_model(tmp_path, family, tied=False, **changes)
    with pytest.raises(UserError, match=named):
        check_model(tmp_path)
