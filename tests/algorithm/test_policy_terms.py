"""Every objective against numbers worked out by hand, its own gradient, and a bandit."""

from __future__ import annotations

import math

import pytest
import torch

from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.importance import Correction
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, LossInputs, PolicyTerm

NAMES = [name for name in OBJECTIVES if isinstance(OBJECTIVES[name], PolicyTerm)]
LENGTHS = (3, 1, 4, 2)


def case(seed: int = 0, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """Four responses of ten tokens together, with everything that an objective may look at."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(sum(LENGTHS), generator=generator, dtype=dtype)

    old = -1 - draw().abs()
    lengths = torch.tensor(LENGTHS)
    rows = torch.arange(len(LENGTHS)).repeat_interleave(lengths)
    return dict(
        logp_N=old + 0.3 * draw(),
        old_logp_N=old,
        behaviour_logp_N=old + 0.1 * draw(),
        reference_logp_N=old + 0.2 * draw(),
        entropy_N=draw().abs(),
        advantage_N=torch.tensor([1.0, -1.0, -0.5, 2.0], dtype=dtype)[rows],
        weight_N=token_weights(lengths, "seq-sum-constant", 8).to(dtype)[rows],
        row_N=rows,
    )


def loss_of(name: str, values: dict[str, torch.Tensor], **coefficients) -> torch.Tensor:
    inputs = LossInputs(**values, num_rows=int(values["row_N"].max()) + 1)
    return OBJECTIVES[name](inputs, Coefficients(**coefficients)).loss


def gradient(name, values, **coefficients):
    logp = values["logp_N"].clone().requires_grad_()
    loss_of(name, values | {"logp_N": logp}, **coefficients).backward()
    return logp.grad


WHOLE = {"kl_coef": 0.1, "entropy_coef": 0.01, "correction": Correction(kind="truncate", high=1.05)}


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name):
    values = case()
    analytic = gradient(name, values, **WHOLE)
    ratio = (values["logp_N"] - values["old_logp_N"]).exp()
    for i in range(len(ratio)):
        nudge = torch.zeros_like(ratio)
        nudge[i] = 1e-6
        up, down = (
            loss_of(name, values | {"logp_N": values["logp_N"] + sign * nudge}, **WHOLE).item()
            for sign in (1, -1)
        )
        numeric = (up - down) / 2e-6
        if name == "cispo":
            # Its weight is held fixed, so only log pi moves.
            kl = 0.1 * (1 - (values["reference_logp_N"] - values["logp_N"]).exp())[i]
            w = (values["old_logp_N"] - values["behaviour_logp_N"]).exp().clamp(max=1.05)[i]
            term = -ratio[i].clamp(max=1.2) * values["advantage_N"][i] * w
            numeric = ((term + kl) * values["weight_N"][i]).item()
        assert analytic[i].item() == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_neither_micro_batches_nor_order_change_the_gradient(name):
    values = case()
    whole = gradient(name, values, **WHOLE)
    parts = torch.zeros_like(whole)
    for rows in ((2, 0), (3,), (1,)):
        places = torch.cat([(values["row_N"] == row).nonzero()[:, 0] for row in rows])
        part = {key: value[places] for key, value in values.items()}
        part["row_N"] = torch.cat([torch.full((LENGTHS[row],), i) for i, row in enumerate(rows)])
        parts[places] = gradient(name, part, **WHOLE)
    assert ((whole - parts).norm() / whole.norm()).item() < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_on_policy_every_objective_is_the_policy_gradient(name):
    """ratio 1: -w A at each token; for GSPO spread evenly over the response."""
    values = case()
    values["logp_N"] = values["old_logp_N"].clone()
    wanted = -values["weight_N"] * values["advantage_N"]
    assert gradient(name, values).tolist() == pytest.approx(wanted.tolist(), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["truncate", "mask"])
@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
def test_a_correction_of_equal_log_probs_changes_no_bit(name, kind, level):
    values = case(dtype=torch.float32)
    values["behaviour_logp_N"] = values["old_logp_N"].clone()
    correction = Correction(kind=kind, level=level, low=0.5, high=2.0)
    assert torch.equal(
        gradient(name, values, correction=correction), gradient(name, values, correction=None)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_ratio_beyond_all_measure_stays_finite(name):
    values = case(dtype=torch.float32)
    values["logp_N"] = values["logp_N"] + torch.tensor([500.0] * 5 + [-500.0] * 5)
    assert loss_of(name, values).isfinite()
    assert gradient(name, values).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_dummy_tokens_has_no_loss_and_no_gradient(name):
    values = case() | {"weight_N": torch.zeros(10, dtype=torch.float64)}
    assert loss_of(name, values, **WHOLE).item() == 0
    assert gradient(name, values, **WHOLE).tolist() == [0.0] * 10


@pytest.mark.parametrize("name", NAMES)
def test_a_bandit_learns_its_good_arm(name):
    generator = torch.Generator().manual_seed(1)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=2.0)
    clip = {"clip_low": 3e-4, "clip_high": 4e-4} if name == "gspo" else {}
    for _ in range(60):
        old = logits.detach().log_softmax(0)
        arms = torch.multinomial(old.exp(), 32, replacement=True, generator=generator)
        reward = (arms == 2).float()
        values = dict(
            logp_N=logits.log_softmax(0)[arms],
            old_logp_N=old[arms],
            behaviour_logp_N=old[arms],
            reference_logp_N=None,
            entropy_N=torch.zeros(32),
            advantage_N=reward - reward.mean(),
            weight_N=torch.full((32,), 1 / 32),
            row_N=torch.arange(32),
        )
        optimizer.zero_grad()
        loss_of(name, values, **clip).backward()
        optimizer.step()
    assert logits.softmax(0)[2].item() > 0.9


def one(name: str, logp, old, advantage, rows, **coefficients) -> float:
    """The loss of some tokens that weigh 1 each."""
    tensors = [torch.tensor(x, dtype=torch.float64) for x in (logp, old, advantage)]
    values = dict(
        logp_N=tensors[0],
        old_logp_N=tensors[1],
        behaviour_logp_N=tensors[1],
        reference_logp_N=None,
        entropy_N=torch.zeros_like(tensors[0]),
        advantage_N=tensors[2],
        weight_N=torch.ones_like(tensors[0]),
        row_N=torch.tensor(rows),
    )
    return loss_of(name, values, **coefficients).item()


def test_dual_clip_bounds_the_loss_of_a_bad_token_that_became_likelier():
    log4, log2 = math.log(4), math.log(2)
    # ratio 4, A = -1: loss 4, or 3 with c = 3; ratio 2 stays below; A = +1 is clipped at 1.2
    assert one("grpo", [log4, log2, log4], [0, 0, 0], [-1, -1, 1], [0, 0, 0]) == pytest.approx(
        4 + 2 - 1.2
    )
    assert one(
        "grpo", [log4, log2, log4], [0, 0, 0], [-1, -1, 1], [0, 0, 0], dual_clip=3.0
    ) == pytest.approx(3 + 2 - 1.2)


def test_gspo_clips_a_response_by_the_geometric_mean_of_its_ratios():
    # ratios 4 and 1/4: the mean is 1, and nothing is clipped. Ratios 2 and 2: clipped at 1.2.
    logs = [math.log(4), -math.log(4), math.log(2), math.log(2)]
    assert one("gspo", logs, [0] * 4, [1] * 4, [0, 0, 1, 1]) == pytest.approx(-1 - 1 - 1.2 - 1.2)
    assert one("grpo", logs, [0] * 4, [1] * 4, [0, 0, 1, 1]) == pytest.approx(-1.2 - 0.25 - 2.4)


def test_cispo_cuts_the_weight_and_keeps_the_gradient():
    values = case()
    values["logp_N"] = values["old_logp_N"] + math.log(3)  # ratio 3
    values["advantage_N"] = torch.ones(10, dtype=torch.float64)
    found = gradient("cispo", values, clip_high=1.0)
    assert found.tolist() == pytest.approx((-2.0 * values["weight_N"]).tolist())
    assert gradient("grpo", values, clip_high=1.0).tolist() == [0.0] * 10  # clipped: no gradient


def test_kimi_pulls_a_whole_response_back_by_the_square_of_its_log_ratio():
    # two tokens with log ratios 0.3 and 0.1: tau / 2 * 0.4^2, whatever the length; A = 0
    assert one("kimi", [0.3, 0.1], [0, 0], [0, 0], [0, 0], mirror_tau=0.5) == pytest.approx(0.04)
    # and -A log pi(y) beside it
    assert one("kimi", [-0.7, -0.9], [-1, -1], [2, 2], [0, 0], mirror_tau=0.5) == pytest.approx(
        2 * 1.6 + 0.04
    )


def test_reinforce_has_no_ratio():
    assert one("reinforce", [-1.0, -2.0], [-5, -5], [1, -1], [0, 0]) == pytest.approx(1.0 - 2.0)
