import math

import pytest
import torch

from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.kl import k3
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, LossInputs

grpo = OBJECTIVES["grpo"]


def inputs(logp, old, advantage, weight, **changes):
    """Inputs of an objective for one response."""
    values = dict(
        logp_N=logp,
        old_logp_N=old,
        behaviour_logp_N=old,
        reference_logp_N=None,
        entropy_N=torch.zeros_like(logp),
        advantage_N=advantage,
        weight_N=weight,
        row_N=torch.zeros(len(logp), dtype=torch.long),
        num_rows=1,
    )
    return LossInputs(**{**values, **changes})


def policy_loss(logp, old, advantage, weight, clip_low, clip_high):
    return grpo(
        inputs(logp, old, advantage, weight), Coefficients(clip_low=clip_low, clip_high=clip_high)
    )


MODES = ["seq-mean-token-mean", "token-mean", "seq-sum-constant"]


@pytest.mark.parametrize(("d", "expected"), [(0.2, 0.021403), (-0.2, 0.018731), (0.0, 0.0)])
def test_k3_matches_the_worked_numbers(d, expected):
    assert k3(torch.tensor([-1.0]), torch.tensor([-1.0 + d])).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_clipping_bounds_gains_and_keeps_penalties():
    ratio = torch.tensor([2.0, 1.0, 0.5, 2.0])
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    weight = torch.full((4,), 0.25)
    out = policy_loss(ratio.log(), torch.zeros(4), advantage, weight, clip_low=0.2, clip_high=0.28)
    # gain capped at 1.28, untouched 1.0, penalty held at 0.8, penalty of a grown ratio in full
    assert out.loss.item() == pytest.approx((-1.28 - 1.0 + 0.8 + 2.0) / 4)
    assert [value.item() for value in out.means["clip_share"]] == [2, 4]
    assert out.maxima["ratio_max"].item() == pytest.approx(2.0)


def test_a_token_of_weight_zero_neither_counts_nor_clips():
    out = policy_loss(
        torch.tensor([5.0]),
        torch.zeros(1),
        torch.ones(1),
        torch.zeros(1),
        clip_low=0.2,
        clip_high=0.2,
    )
    clipped, tokens = out.means["clip_share"]
    assert (out.loss.item(), clipped.item(), tokens.item()) == (0.0, 0, 0)
    assert out.maxima["ratio_max"].item() == 0.0


def test_weights_of_wrong_answers_of_length_10_and_100_under_each_aggregation():
    lengths = torch.tensor([10, 100])
    # GRPO punishes the tokens of the long answer ten times less; Dr. GRPO (constant 100) and DAPO
    # alike.
    assert token_weights(lengths, "seq-mean-token-mean", 100).tolist() == pytest.approx(
        [0.1 / 2, 0.01 / 2]
    )
    assert token_weights(lengths, "seq-sum-constant", 100).tolist() == pytest.approx(
        [0.01 / 2, 0.01 / 2]
    )
    assert token_weights(lengths, "token-mean", 100).tolist() == pytest.approx([1 / 110, 1 / 110])


@pytest.mark.parametrize("mode", MODES)
def test_gradient_on_policy_is_minus_weight_times_advantage_times_grad_log_prob(mode):
    torch.manual_seed(0)
    logits = torch.randn(5, 5, dtype=torch.float64)  # five tokens over a vocabulary of five
    tokens = torch.tensor([0, 3, 2, 4, 1])
    lengths, advantages = torch.tensor([2, 3]), torch.tensor([1.5, -0.5], dtype=torch.float64)
    weight = token_weights(lengths, mode, 7).double().repeat_interleave(lengths)
    advantage = advantages.repeat_interleave(lengths)

    def logp(at):
        return at.log_softmax(1).gather(1, tokens[:, None])[:, 0]

    old = logp(logits)

    def loss(at):
        return policy_loss(logp(at), old, advantage, weight, clip_low=0.2, clip_high=0.2).loss

    step = 1e-6
    for i in range(5):
        for j in range(5):
            nudge = torch.zeros_like(logits)
            nudge[i, j] = step
            numeric = (loss(logits + nudge) - loss(logits - nudge)).item() / (2 * step)
            grad_logp = (1.0 if tokens[i] == j else 0.0) - logits[i].softmax(0)[j].item()
            assert numeric == pytest.approx(
                -weight[i].item() * advantage[i].item() * grad_logp, abs=1e-8
            )


def test_all_zero_advantages_give_a_zero_gradient_and_not_nan():
    logp = torch.randn(6, requires_grad=True)
    policy_loss(
        logp, logp.detach(), torch.zeros(6), torch.full((6,), 1 / 6), clip_low=0.2, clip_high=0.2
    ).loss.backward()
    assert logp.grad.tolist() == [0.0] * 6


def test_a_small_policy_learns_to_emit_a_token_within_200_steps():
    from grpo.algorithm.advantages import group_advantages

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Embedding(8, 32), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    wanted, start = 5, torch.zeros(64, dtype=torch.long)
    for _ in range(200):
        logp = model(start).log_softmax(1)
        tokens = torch.multinomial(logp.exp().detach(), 1)[:, 0]
        advantages = group_advantages((tokens == wanted).float().view(8, 8)).flatten()
        token_logp = logp.gather(1, tokens[:, None])[:, 0]
        weights = token_weights(torch.ones(64), "seq-mean-token-mean", 1)
        loss = policy_loss(
            token_logp, token_logp.detach(), advantages, weights, clip_low=0.2, clip_high=0.2
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.exp(model(start[:1]).log_softmax(1)[0, wanted].item()) >= 0.95


def test_kl_and_entropy_enter_the_loss_with_their_signs_and_weights():
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    reference = torch.tensor([-0.8, -2.2], dtype=torch.float64)
    entropy = torch.tensor([0.5, 0.7], dtype=torch.float64)
    weight = torch.tensor([0.25, 0.75], dtype=torch.float64)
    out = grpo(
        inputs(
            logp,
            logp,
            torch.zeros(2, dtype=torch.float64),
            weight,
            reference_logp_N=reference,
            entropy_N=entropy,
        ),
        Coefficients(kl_coef=0.1, entropy_coef=0.01),
    )
    kl = 0.25 * 0.0214027582 + 0.75 * 0.0187307531  # k3 of d = 0.2 and of d = -0.2
    bonus = 0.25 * 0.5 + 0.75 * 0.7
    assert out.loss.item() == pytest.approx(0.1 * kl - 0.01 * bonus, abs=1e-9)
    assert out.means["kl"][0].item() == pytest.approx(0.0214027582 + 0.0187307531, abs=1e-9)


def test_the_gradient_of_kl_pulls_towards_the_reference():
    logp = torch.tensor([-1.0], requires_grad=True)
    weight, nothing = torch.ones(1), torch.zeros(1)
    values = inputs(logp, logp.detach(), nothing, weight, reference_logp_N=torch.tensor([-0.5]))
    grpo(values, Coefficients(kl_coef=1.0)).loss.backward()
    # d k3 / d logp = 1 - exp(reference - logp): negative, so that a step down the gradient raises
    # logp
    assert logp.grad.item() == pytest.approx(1 - math.exp(0.5))


def test_clip_widths_are_not_interchangeable():
    ratio, advantage = torch.tensor([1.25, 0.75]), torch.tensor([1.0, -1.0])
    # With equal weights the two differences would cancel: -1.25 + 0.9 = -1.1 + 0.75.
    weight = torch.tensor([1.0, 2.0])
    out = policy_loss(ratio.log(), torch.zeros(2), advantage, weight, clip_low=0.1, clip_high=0.3)
    # 1.25 lies below 1.3 and stays; 0.75 lies below 0.9 and is held there
    assert out.loss.item() == pytest.approx(-1.25 + 2 * 0.9)


def test_an_unknown_objective_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'grpo'"):
        OBJECTIVES["grp0"]
