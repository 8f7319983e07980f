"""Distance between the log-probs of engine and learner at equal weights, over sampled tokens.

    python -m benchmarks.logprob_gap [key=value ...]

Tied and untied embeddings, temperature 1.0 and 0.6, after a weight transfer. The same numbers are
in every step's metrics as `logprob_gap_mean` and `logprob_gap_max`.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo.config import TrainConfig, load_config
from grpo.rollout.scoring import sample_groups
from grpo.types import TrainSample


def main() -> None:
    """Print a table of mean and largest gap."""
    from grpo.learner.model_folder import cache_dir
    from grpo.miniature.base_model import build_base_model

    config = load_config("tiny", sys.argv[1:])
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        tied = Path(config.model.path or build_base_model(config.model.base, cache_dir()))  # type: ignore[arg-type]
        for name, folder in (("tied", tied), ("untied", untie(tied, Path(parent) / "untied"))):
            changed = load_config(
                "tiny", [*sys.argv[1:], "model.base=null", f"model.path={folder}"]
            )
            rows += [(name, *row) for row in measure(changed)]
    print(
        f"{'embeddings':>10}  {'temperature':>11}  {'tokens':>7}  {'mean abs gap':>12}  "
        f"{'largest':>9}"
    )
    for name, temperature, tokens, mean, largest in rows:
        print(f"{name:>10}  {temperature:11.1f}  {tokens:7d}  {mean:12.2e}  {largest:9.2e}")


def measure(config: TrainConfig) -> list[tuple[float, int, float, float]]:
    """(temperature, tokens, mean, largest) for both temperatures, on a fresh stack."""
    from grpo.inputs import load_inputs
    from grpo.parts import start_parts

    inputs = load_inputs(config, lambda _: None)
    with start_parts(config, inputs, lambda _: None) as (rollouts, learner):
        assert learner is not None
        learner.connect(rollouts)
        learner.push_weights(1)
        return [(t, *_gap(config, inputs, rollouts, learner, t)) for t in (1.0, 0.6)]


def untie(folder: Path, target: Path) -> Path:
    """A copy of a model whose output weight is its own and differs from the embedding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    weight = model.get_input_embeddings().weight.detach()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(weight + 0.02 * noise)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def _gap(
    config: TrainConfig, inputs: Any, rollouts: Any, learner: Any, temperature: float
) -> tuple[int, float, float]:
    settings = replace(inputs.sampling, num_samples=8, temperature=temperature, seed=0)
    scorer = config.rewards.scorer()
    groups = sample_groups(inputs.prompts[:64], settings, 1, rollouts, scorer).groups
    samples = [
        TrainSample.from_turns([group.group.prompt, response])
        for group in groups
        for response in group.group.responses
    ]
    pairs = zip(samples, learner.logprobs(samples, temperature), strict=True)
    gaps = [
        abs(a - b)
        for sample, ours in pairs
        for a, b in zip(sample.behaviour_logp_T[sample.loss_mask_T].tolist(), ours, strict=True)
    ]
    return len(gaps), fmean(gaps), max(gaps)


if __name__ == "__main__":
    main()
