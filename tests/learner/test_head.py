import pytest
import torch

from grpo.learner import head
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


@pytest.mark.parametrize("with_entropy", [False, True])
def test_a_vocabulary_of_several_tiles_is_one_softmax(with_entropy):
    """The words of the largest logits lie in another tile than most targets."""
    torch.manual_seed(0)
    hidden = torch.randn(9, 6, requires_grad=True)
    weight = torch.randn(2500, 6)
    weight[2100:] *= 8
    weight.requires_grad_()
    targets = torch.tensor([0, 1023, 1024, 2047, 2048, 2499, 5, 2100, 1500])
    mix = torch.randn(2, 9)
    mix[1] *= with_entropy

    def gradients(function):
        logp, entropy = function()
        loss = (logp * mix[0] + entropy * mix[1]).sum()
        return (logp.detach(), entropy.detach(), *torch.autograd.grad(loss, (hidden, weight)))

    ours = gradients(lambda: ChunkedLogProb.apply(hidden, weight, targets, 0.9, 4))
    theirs = gradients(lambda: naive(hidden, weight, targets, 0.9))
    # Logits go up to 70, which float32 knows to 4e-6 only.
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=3e-5)


def test_logits_never_exceed_the_tile(monkeypatch):
    seen = []
    whole = head._softmax

    def watched(hidden, weight, *rest):
        seen.append((len(hidden), len(weight)))
        return whole(hidden, weight, *rest)

    monkeypatch.setattr(head, "_softmax", watched)
    weight = torch.nn.Parameter(torch.randn(1100, 4))
    layer = LogProbHead(weight, chunk_tokens=4)
    logp, _ = layer(torch.randn(33, 4, requires_grad=True), torch.zeros(33, dtype=torch.long), 1.0)
    logp.sum().backward()
    assert max(seen) == (4, 1024)
    # 1,024 + 76 words, ceil(33 / 4) chunks of tokens, forward and backward
    assert len(seen) == 2 * 9 * 2
