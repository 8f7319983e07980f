import pytest
import torch

from grpo.learner.head import ChunkedLogProb, LogProbHead


def naive(hidden, weight, targets, temperature):
    logp = ((hidden @ weight.T).float() / temperature).log_softmax(1)
    return logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_values_and_gradients_equal_those_of_whole_logits(temperature, chunk):
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (7,))
    mix = torch.randn(2, 7)

    def gradients(function):
        logp, entropy = function()
        loss = (logp * mix[0] + entropy * mix[1]).sum()
        return (logp.detach(), entropy.detach(), *torch.autograd.grad(loss, (hidden, weight)))

    ours = gradients(lambda: ChunkedLogProb.apply(hidden, weight, targets, temperature, chunk))
    theirs = gradients(lambda: naive(hidden, weight, targets, temperature))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


def test_logits_never_exceed_the_chunk(monkeypatch):
    from grpo.learner import head

    seen = []
    whole = head._log_softmax
    monkeypatch.setattr(
        head,
        "_log_softmax",
        lambda h, w, *how: seen.append(len(h) * len(w)) or whole(h, w, *how),
    )
    weight = torch.nn.Parameter(torch.randn(50, 4))
    layer = LogProbHead(weight, chunk_tokens=4)
    logp, _ = layer(torch.randn(33, 4, requires_grad=True), torch.zeros(33, dtype=torch.long), 1.0)
    logp.sum().backward()
    assert max(seen) <= 200
    assert len(seen) == 2 * 9  # ceil(33 / 4) chunks, forward and backward


def test_a_float32_head_of_bfloat16_weights_rounds_no_logit():
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 64).bfloat16(), torch.randn(200, 64).bfloat16()
    targets = torch.randint(0, 200, (9,))
    exact, _ = naive(hidden.double(), weight.double(), targets, 0.7)
    rounded, _ = ChunkedLogProb.apply(hidden, weight, targets, 0.7, 4, False)
    kept, _ = ChunkedLogProb.apply(hidden, weight, targets, 0.7, 4, True)
    # A logit of size 8 to 16 in bfloat16 is off by up to 1/32, and is divided by 0.7.
    assert (rounded - exact).abs().max() > 5e-3
    assert (kept - exact).abs().max() < 1e-4


def test_gradients_of_a_float32_head_are_those_of_autograd_on_widened_weights():
    torch.manual_seed(0)
    hidden = torch.randn(9, 16).bfloat16().requires_grad_()
    weight = torch.randn(50, 16).bfloat16().requires_grad_()
    targets = torch.randint(0, 50, (9,))
    ours = ChunkedLogProb.apply(hidden, weight, targets, 1.0, 4, True)[0].sum()
    theirs = naive(hidden.float(), weight.float(), targets, 1.0)[0].sum()
    for mine, reference in zip(
        torch.autograd.grad(ours, (hidden, weight)),
        torch.autograd.grad(theirs, (hidden, weight)),
        strict=True,
    ):
        assert mine.dtype is torch.bfloat16
        # Both end in bfloat16, and gradients of logits are handed on in it.
        torch.testing.assert_close(mine.float(), reference.float(), rtol=2**-6, atol=2**-6)
