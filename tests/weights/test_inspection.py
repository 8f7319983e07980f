"""Whatever a model's loader does with a tensor, its parts are found again, or it is said that not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grpo.weights.hashes import MASK, compare, content_hash
from grpo.weights.inspection import weight_hashes
from grpo.weights.wire import ParamMeta, announcement


class Model(nn.Module):
    """Keeps `q` and `k` fused, `turned` transposed, and the rest as `loader` puts it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Module()
        self.layer.fused = nn.Parameter(torch.zeros(8, 3), requires_grad=False)
        self.layer.turned = nn.Parameter(torch.zeros(4, 5), requires_grad=False)
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.zeros(6), requires_grad=False)

    def load_weights(self, weights):
        for name, tensor in weights:
            if name == "q":
                self.layer.fused.data[:6].copy_(tensor)
            elif name == "k":
                self.layer.fused.data[6:].copy_(tensor)
            elif name == "turned":
                self.layer.turned.data.copy_(tensor.T)
            else:
                self.load_norm(tensor)

    def load_norm(self, tensor):
        """Padded by two numbers."""
        self.norm.weight.data[:4].copy_(tensor)
        self.norm.weight.data[4:].fill_(0)


STATE = {
    "q": torch.arange(18.0).view(6, 3),
    "k": torch.arange(6.0).view(2, 3) - 9,
    "turned": torch.arange(20.0).view(5, 4),
    "norm": torch.arange(4.0),
}
META = [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in STATE.items()]


def checked(model, names=tuple(STATE), damage=lambda model: None):
    from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

    record_metadata_for_reloading(model)
    model.load_weights(STATE.items())
    damage(model)
    kept = {name: parameter.clone() for name, parameter in model.named_parameters()}
    metadata = [meta for meta in META if meta.name in names]
    report = weight_hashes(model, announcement(metadata))
    # Looking must not touch the model.
    assert all(torch.equal(kept[name], p) for name, p in model.named_parameters())
    hashes = {name: int(content_hash(STATE[name])) & MASK for name in names}
    return compare(1, metadata, hashes, [[report]], {})


def test_fused_transposed_and_padded_tensors_are_found_again():
    report = checked(Model())
    assert (report.differing, report.unproven) == ([], [])


@pytest.mark.parametrize(
    ("parameter", "index", "tensor"),
    [("layer.fused", 17, "q"), ("layer.fused", 18, "k"), ("layer.turned", 19, "turned")],
)
def test_the_tensor_that_a_damaged_number_came_from_is_named(parameter, index, tensor):
    def damage(model):
        model.get_parameter(parameter).view(-1)[index] += 1e-6 * 64

    report = checked(Model(), damage=damage)
    assert report.differing == [f"{tensor} at version 1 in engine 0, {parameter}"]


def test_a_parameter_that_the_learner_does_not_send_is_told():
    (text,) = checked(Model(), names=("q", "turned", "norm")).unproven
    assert text == "engine 0: layer.fused holds 24 numbers, of which the learner sends 18"


def test_a_tensor_that_is_changed_on_its_way_is_told():
    model = Model()
    model.load_norm = lambda tensor: model.norm.weight.data[:4].copy_(tensor + 1)
    texts = checked(model).unproven
    assert "engine 0: norm is changed on its way into norm.weight" in texts


def test_a_loader_that_cannot_run_without_memory_is_told():
    model = Model()
    model.load_norm = lambda tensor: model.norm.weight.data.fill_(tensor.sum().item())
    texts = checked(model).unproven
    assert any(text.startswith("engine 0: norm cannot be followed") for text in texts)


def test_a_layer_that_was_quantised_after_loading_is_told():
    model = Model()
    model.layer.quant_method = nn.Identity()  # any that is not known to keep numbers as they are
    texts = checked(model).unproven
    assert "engine 0: layer.fused was changed by Identity after loading" in texts
