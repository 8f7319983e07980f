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
        head, "_log_softmax", lambda h, w, *rest: seen.append(len(h) * len(w)) or whole(h, w, *rest)
    )
    weight = torch.nn.Parameter(torch.randn(50, 4))
    layer = LogProbHead(weight, chunk_tokens=4)
    logp, _ = layer(torch.randn(33, 4, requires_grad=True), torch.zeros(33, dtype=torch.long), 1.0)
    logp.sum().backward()
    assert max(seen) <= 200
    assert len(seen) == 2 * 9  # ceil(33 / 4) chunks, forward and backward
