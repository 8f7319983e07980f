"""The small checkpoint that the tests of the real stack start from, and how it was made.

`tests/small_model` is a base model of 0.1M parameters. It is stored and not built, so that the recorded run does not
depend on how a machine rounds in pre-training. Make it again with `python -m tests.models`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from data.arithmetic import ArithmeticSpec
from grpo.base_model import BaseModelSpec, build_base_model

SMALL_MODEL = Path(__file__).parent / "small_model"
PROBLEMS = ArithmeticSpec(lengths=(3,), max_term=9)
SPEC = BaseModelSpec(problems=PROBLEMS, num_layers=2, hidden_size=64, num_heads=2, intermediate_size=128, num_steps=500)


def untied_copy(folder: Path) -> Path:
    """The small model with an output weight of its own, which differs from the embedding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(SMALL_MODEL)
    weight = model.get_input_embeddings().weight.detach()
    generator = torch.Generator().manual_seed(0)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(weight + 0.02 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(SMALL_MODEL).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        shutil.rmtree(SMALL_MODEL, ignore_errors=True)
        shutil.copytree(build_base_model(SPEC, Path(cache)), SMALL_MODEL)
