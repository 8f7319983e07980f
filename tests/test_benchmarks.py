"""What the comparisons of benchmarks/ rest on."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks.fixed_lengths import write_model

SMALL_MODEL = Path(__file__).with_name("small_model")


@pytest.mark.parametrize("wanted", [0.0, 1 / 16])
def test_a_fixed_length_model_ends_with_the_same_probability_after_any_text(wanted, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_model(SMALL_MODEL, tmp_path, wanted, limit=64)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        p_BTV = model(torch.tensor([[5, 9, 30, 200, 7], [100, 1, 1, 250, 60]])).logits.softmax(-1)
    end_BT = p_BTV[..., tokenizer.eos_token_id]
    assert end_BT.flatten().tolist() == pytest.approx([wanted] * 10, rel=1e-3, abs=1e-9)
    words = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    share = (1 - wanted) / len(words)  # of each word; nothing is left for padding
    assert p_BTV[..., words].min().item() == pytest.approx(share, rel=1e-2)
    assert p_BTV[..., words].max().item() == pytest.approx(share, rel=1e-2)
    assert model.config.max_position_embeddings == 128


def test_benchmarks_import_only_names_that_exist():
    """They are run by hand, so a name that moved would be noticed much later."""
    missing = []
    for file in sorted(Path(benchmarks.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            place = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if place.split(".")[0] not in ("benchmarks", "grpo", "rewards", "data"):
                continue
            module = importlib.import_module(place)
            missing += [
                f"{file.name}: {place}.{name.name}"
                for name in node.names
                if not hasattr(module, name.name)
                and importlib.util.find_spec(f"{place}.{name.name}") is None
            ]
    assert not missing
