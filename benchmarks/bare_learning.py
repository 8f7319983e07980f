"""Bare learning for benchmarks.overhead: the gradient of a batch in plain PyTorch, without
DeepSpeed, optimizer or metrics. Several processes share the samples and add up their gradients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from benchmarks.overhead import serve
from grpo.learner.packing import advantages_of, collate, plan_microbatches
from grpo.types import TrainSample


def main() -> None:
    """Load the model once, then make the gradient of all samples for every "go"."""
    work = json.loads(Path(sys.argv[1]).read_text())
    choice, part = json.loads(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(choice["threads"])
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    rows = [
        (group["prompt"], response, advantage)
        for group in work["groups"]
        for response, advantage in zip(group["responses"], group["advantages"], strict=True)
    ]
    # What has no advantage has no gradient, and needs no forward pass either.
    teaching = [row for row in rows if row[2]]
    samples = [TrainSample.from_tokens(p, r, [0.0] * len(r)) for p, r, _ in teaching]
    advantages = [advantage for _, _, advantage in teaching]
    weights = [1.0 / (sample.num_trained * len(rows)) for sample in samples]
    processes = choice["processes"]
    plan = plan_microbatches([s.num_tokens for s in samples], processes, choice["tokens"])
    if processes > 1:
        meeting = f"file://{sys.argv[4]}"
        dist.init_process_group("gloo", meeting, rank=part, world_size=processes)

    def learn() -> int:
        model.zero_grad()
        for parts in plan:
            if not parts[part]:
                continue
            mb = collate(samples, parts[part], weights, 0)
            advantage_N = advantages_of(mb, samples, advantages)
            hidden = model.model(input_ids=mb.input_ids_BT, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[mb.predicts_BT])
            logp = -torch.nn.functional.cross_entropy(logits, mb.targets_N, reduction="none")
            (-(logp - logp.detach()).exp() * advantage_N * mb.weight_N).sum().backward()
        if processes > 1:
            flat = torch.cat([p.grad.view(-1) for p in model.parameters()])
            dist.all_reduce(flat)
        return sum(len(response) for _, response, _ in rows[part::processes])

    serve(learn)


if __name__ == "__main__":
    main()
