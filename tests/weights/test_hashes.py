"""Content hashes of tensors and their comparison, without an engine."""

from __future__ import annotations

import struct

import pytest
import torch

from grpo.weights import hashes
from grpo.weights.hashes import MASK, HashedSource, View, compare, content_hash
from grpo.weights.wire import ParamMeta


def value(tensor, view=None):
    return int(content_hash(tensor, view)) & MASK


def splitmix(key):
    """The finaliser in whole numbers."""
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB & MASK
    return key ^ (key >> 31)


def test_the_hash_is_a_sum_over_index_and_bits():
    numbers = [1.5, -2.0, 3e38]
    bits = [struct.unpack("<I", struct.pack("<f", number))[0] for number in numbers]
    wanted = sum(splitmix((i << 32) | b) for i, b in enumerate(bits)) & MASK
    assert value(torch.tensor(numbers)) == wanted


def test_parts_add_up_to_the_whole_wherever_they_lie():
    torch.manual_seed(0)
    whole = torch.randn(6, 10)
    left, right = whole[:, :3].clone(), whole[:, 3:].clone()  # as two workers hold columns
    total = value(left, View(0, (6, 3), (10, 1))) + value(right, View(3, (6, 7), (10, 1)))
    assert total & MASK == value(whole)
    turned = whole.T.contiguous()
    assert value(turned, View(0, (10, 6), (1, 10))) == value(whole)


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
def test_the_hash_does_not_depend_on_how_much_is_hashed_at_a_time(chunk, monkeypatch):
    torch.manual_seed(0)
    tensors = [torch.randn(3, 4, 5), torch.randn(17), torch.randn(()), torch.empty(0)]
    wanted = [value(tensor) for tensor in tensors]
    monkeypatch.setattr(hashes, "CHUNK", chunk)
    assert [value(tensor) for tensor in tensors] == wanted


@pytest.mark.parametrize("bit", range(32))
def test_one_flipped_bit_changes_the_hash(bit):
    tensor = torch.linspace(1.0, 2.0, 50)
    before = value(tensor)
    tensor.view(torch.int32)[13] ^= 1 << bit if bit < 31 else -(2**31)
    assert value(tensor) != before


def test_two_exchanged_numbers_change_the_hash():
    assert value(torch.tensor([1.0, 2.0])) != value(torch.tensor([2.0, 1.0]))


def test_the_same_numbers_in_another_type_have_the_same_hash():
    tensor = torch.randn(100).bfloat16()
    assert value(tensor) == value(tensor.float())


def test_what_a_kernel_computes_as_nought_is_nought():
    assert value(torch.tensor([-0.0, 1e-40, -1e-45])) == value(torch.zeros(3))
    assert value(torch.tensor([1.2e-38, 0.0, 0.0])) != value(torch.zeros(3))


META = [ParamMeta("a", torch.float32, (4,)), ParamMeta("b", torch.float32, (2,))]
HASHES = {"a": 100, "b": 7}


def worker(*parts, unmapped=()):
    return {"parts": [list(part) for part in parts], "unmapped": list(unmapped)}


def part(name, start, size, found, where="layer.weight"):
    return name, [start, [size], [1]], found, where


WHOLE = worker(part("a", 0, 4, 100), part("b", 0, 2, 7))


def test_equal_hashes_pass_and_unlike_ones_name_tensor_engine_and_version():
    assert compare(3, META, HASHES, [[WHOLE], [WHOLE]], {}).differing == []
    damaged = worker(part("a", 0, 4, 100), part("b", 0, 2, 8, "fused.weight"))
    report = compare(3, META, HASHES, [[WHOLE], [damaged]], {})
    assert report.differing == ["b at version 3 in engine 1, fused.weight"]
    assert report.unproven == []


def test_parts_of_workers_are_added_and_copies_must_agree():
    first = worker(part("a", 0, 2, MASK), part("b", 0, 2, 7))
    second = worker(part("a", 2, 2, 101), part("b", 0, 2, 7))  # MASK + 101 is 100 modulo 2^64
    assert compare(1, META, HASHES, [[first, second]], {}).differing == []
    second = worker(part("a", 2, 2, 101), part("b", 0, 2, 6))
    (text,) = compare(1, META, HASHES, [[first, second]], {}).differing
    assert text == "b at version 1 in engine 0 worker 1, layer.weight"


def test_a_repacked_copy_counts_beside_the_parameter():
    stale = worker(part("a", 0, 4, 100), part("a", 0, 4, 99, "head as repacked"), *WHOLE["parts"])
    (text,) = compare(1, META, HASHES, [[stale]], {}).differing
    assert text == "a at version 1 in engine 0, head as repacked"


def test_what_cannot_be_compared_is_told_and_does_not_pass():
    lacking = worker(part("a", 0, 4, 100), unmapped=["layer.scale is kept as int8"])
    assert compare(1, META, HASHES, [[lacking]], {}).unproven == [
        "engine 0: layer.scale is kept as int8",
        "engine 0: b is nowhere in its model",
    ]
    half = worker(part("a", 0, 3, 100), part("b", 0, 2, 7))
    (text,) = compare(1, META, HASHES, [[half]], {}).unproven
    assert "does not add up" in text


def test_a_tied_name_may_be_absent():
    assert compare(1, META, HASHES, [[worker(part("a", 0, 4, 100))]], {"b": "a"}).unproven == []


class Source:
    def metadata(self):
        return META

    def __iter__(self):
        yield "a", torch.arange(4.0)
        yield "b", torch.tensor([1.0, float("nan")])


def test_a_source_is_hashed_as_it_passes_and_only_when_asked():
    source = HashedSource(Source())
    assert [name for name, _ in source] == ["a", "b"]
    assert source.hashes() == {}
    source.active = True
    list(source)
    assert source.hashes()["a"] == value(torch.arange(4.0))
    assert source.not_finite() == {"b"}
