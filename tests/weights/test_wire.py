import pytest
import torch

from grpo.weights.wire import ParamMeta, layer_of, messages, pack, unpack


def test_a_layer_is_one_message_and_so_is_each_parameter_outside():
    names = [
        "model.embed_tokens.weight",
        "model.layers.0.a",
        "model.layers.0.b",
        "model.layers.1.a",
        "lm_head.weight",
    ]
    groups = messages([ParamMeta(name, torch.float32, (2,)) for name in names])
    assert [[meta.name for meta in group] for group in groups] == [
        names[:1],
        names[1:3],
        names[3:4],
        names[4:],
    ]
    assert layer_of("model.layers.12.mlp.up_proj.weight") == "model.layers.12"


def test_weights_survive_packing_even_when_the_source_reuses_its_memory():
    metadata = [
        ParamMeta("layers.0.a", torch.float32, (2, 3)),
        ParamMeta("layers.0.b", torch.float32, (4,)),
    ]
    wanted = {"layers.0.a": torch.arange(6.0).view(2, 3), "layers.0.b": torch.arange(10.0, 14.0)}

    def source():
        for meta in metadata:
            tensor = wanted[meta.name].clone()
            yield meta.name, tensor
            tensor.fill_(-1)  # as a partitioned parameter is gone after its gather

    (message,) = pack(metadata, source())
    for name, tensor in unpack(metadata, message):
        assert torch.equal(tensor, wanted[name])


def test_a_source_that_yields_what_it_did_not_announce_is_caught():
    metadata = [ParamMeta("a", torch.float32, (1,))]
    with pytest.raises(AssertionError, match="came in place of"):
        list(pack(metadata, [("b", torch.zeros(1))]))
