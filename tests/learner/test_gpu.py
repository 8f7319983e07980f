"""What the output layer does on a GPU and nowhere else."""

from __future__ import annotations

import pytest
import torch

from grpo.learner.head import ChunkedLogProb

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def passed(device, dtype, float32):
    """Log-probs, entropies and gradients of 20,000 words, two tiles of a GPU, on a device."""
    torch.manual_seed(0)
    hidden = torch.randn(12, 64).to(device, dtype).requires_grad_()
    weight = (torch.randn(20_000, 64) / 8).to(device, dtype).requires_grad_()
    targets = torch.arange(12, device=device) * 1700
    logp, entropy = ChunkedLogProb.apply(hidden, weight, targets, 0.7, 5, float32)
    (logp * torch.linspace(-1, 1, 12, device=device) + 0.1 * entropy).sum().backward()
    return [x.detach().float().cpu() for x in (logp, entropy, hidden.grad, weight.grad)]


@pytest.mark.parametrize(
    ("dtype", "float32", "tolerance"),
    [(torch.float32, False, 1e-4), (torch.bfloat16, True, 1e-2)],
)
def test_a_gpu_computes_what_a_cpu_does(dtype, float32, tolerance):
    ours, theirs = passed("cuda", dtype, float32), passed("cpu", dtype, float32)
    for mine, reference in zip(ours, theirs, strict=True):
        assert float((mine - reference).norm() / reference.norm()) < tolerance


def test_log_probs_of_bfloat16_are_not_rounded_to_bfloat16():
    """Products are kept in float32: CUDA's own, against widened factors on the CPU."""
    (ours, *_), (theirs, *_) = (passed(device, torch.bfloat16, True) for device in ("cuda", "cpu"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
