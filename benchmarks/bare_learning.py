"""Bare learning for benchmarks.overhead: forward and backward of a batch in one process, no
DeepSpeed, no optimizer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.overhead import serve
from grpo.learner.packing import advantages_of, collate, plan_microbatches
from grpo.types import TrainSample


def main() -> None:
    """Load the model once, then one forward and backward over all samples for every "go"."""
    work, choice = json.loads(Path(sys.argv[1]).read_text()), json.loads(sys.argv[2])
    torch.set_num_threads(choice["threads"])
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    samples = [
        TrainSample.from_tokens(prompt, response, [0.0] * len(response))
        for prompt, response, _ in work["samples"]
    ]
    advantages = [advantage for _, _, advantage in work["samples"]]
    lengths = [sample.num_tokens for sample in samples]
    weights = [1.0 / (sample.num_trained * len(samples)) for sample in samples]
    plan = plan_microbatches(lengths, 1, choice["tokens"])

    def learn() -> None:
        model.zero_grad()
        for (rows,) in plan:
            mb = collate(samples, rows, weights, 0)
            advantage_N = advantages_of(mb, samples, advantages)
            hidden = model.model(input_ids=mb.input_ids_BT, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[mb.predicts_BT])
            logp = -torch.nn.functional.cross_entropy(logits, mb.targets_N, reduction="none")
            (-(logp - logp.detach()).exp() * advantage_N * mb.weight_N).sum().backward()

    serve(learn)


if __name__ == "__main__":
    main()
