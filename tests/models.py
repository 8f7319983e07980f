"""The small checkpoint that the tests of the real stack start from, and how it was made.

`tests/small_model` is a base model of 0.1M parameters. It is stored and not built, so that the
recorded run does not depend on how a machine rounds in pre-training. Make it again with `python -m
tests.models`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from grpo.miniature.arithmetic import ArithmeticSpec
from grpo.miniature.base_model import BaseModelSpec, build_base_model

SMALL_MODEL = Path(__file__).parent / "small_model"
PROBLEMS = ArithmeticSpec(lengths=(3,), max_term=9)
SPEC = BaseModelSpec(
    problems=PROBLEMS,
    num_layers=2,
    hidden_size=64,
    num_heads=2,
    intermediate_size=128,
    num_steps=500,
)


def pretended_reward_model(folder: Path) -> Path:
    """A folder with all that a recipe looks at of a reward model, which nothing can load."""
    folder.mkdir()
    settings = {"architectures": ["Qwen2ForSequenceClassification"], "num_labels": 1}
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_text("")
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        shutil.rmtree(SMALL_MODEL, ignore_errors=True)
        shutil.copytree(build_base_model(SPEC, Path(cache)), SMALL_MODEL)
