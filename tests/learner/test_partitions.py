"""What a rank writes of the learner's state, and what it says of a disk that does not take it."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from grpo.learner.export import save_pretrained
from grpo.learner.partitions import disk_errors, frozen, save
from grpo.learner.policy import Policy, load_model
from tests.models import SMALL_MODEL


@contextmanager
def files_end_at(num_bytes: int):
    """No file of this process can grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_shard_that_the_disk_does_not_take_is_an_os_error_in_plain_words(tmp_path):
    module, file = torch.nn.Linear(100, 100), tmp_path / "rank_000.safetensors"
    with files_end_at(4096), pytest.raises(OSError, match="File too large") as caught:
        save(frozen(module, 0), None, file, 0)
    assert caught.value.strerror == "File too large"
    save(frozen(module, 0), None, file, 0)
    assert torch.equal(load_file(file)["weight weight"].view(100, 100), module.weight)


def test_a_mistake_of_our_own_is_not_taken_for_a_full_disk():
    with pytest.raises(RuntimeError, match="no error of a disk"), disk_errors():
        raise RuntimeError("no error of a disk (nor of the system)")


# Configurations fit into the first limit and weights do not; the tokenizer's file into neither.
@pytest.mark.parametrize("num_bytes", [100_000, 0])
def test_a_policy_that_the_disk_does_not_take_leaves_the_one_before_and_no_remains(
    tmp_path, num_bytes
):
    policy = Policy(load_model(SMALL_MODEL, torch.float32, False), head_chunk_tokens=8)
    weights = [(name, p.detach()) for name, p in policy.model.named_parameters()]
    folder = tmp_path / "policy"
    told = save_pretrained(policy, weights, folder, SMALL_MODEL, 0)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with files_end_at(num_bytes), pytest.raises(OSError, match="File too large"), disk_errors():
        save_pretrained(policy, weights, folder, SMALL_MODEL, 0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert save_pretrained(policy, weights, folder, SMALL_MODEL, 0) == told
