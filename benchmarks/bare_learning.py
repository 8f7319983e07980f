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
from grpo.learner.packing import collate, plan_microbatches
from grpo.types import TrainSample


def main() -> None:
    """Load the model once, then one forward and backward over all samples for every "go"."""
    work, choice = json.loads(Path(sys.argv[1]).read_text()), json.loads(sys.argv[2])
    torch.set_num_threads(choice["threads"])
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    samples = [
        TrainSample(prompt, response, [0.0] * len(response), a)
        for prompt, response, a in work["samples"]
    ]
    lengths = [len(s.prompt_token_ids) + len(s.response_token_ids) for s in samples]
    weights = [1.0 / (len(s.response_token_ids) * len(samples)) for s in samples]
    plan = plan_microbatches(lengths, 1, choice["tokens"])

    def learn() -> None:
        model.zero_grad()
        for (rows,) in plan:
            mb = collate([samples[i] for i in rows], [weights[i] for i in rows], 0)
            hidden = model.model(input_ids=mb.input_ids_BT, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[mb.predicts_BT])
            logp = -torch.nn.functional.cross_entropy(logits, mb.targets_N, reduction="none")
            (-(logp - logp.detach()).exp() * mb.advantage_N * mb.weight_N).sum().backward()

    serve(learn)


if __name__ == "__main__":
    main()
