"""The distance of engine and learner in bfloat16 with each kind of output layer on each side.

Prints the mean absolute gap of log-probs over sampled tokens as JSON, and what the engine says of
its own output layer.
"""

from __future__ import annotations

import json
import sys
from statistics import fmean

import torch

from grpo.types import TrainSample
from tests.stack.conftest import running
from tests.stack.test_shared_stack import sampled
from tests.stack.weight_cases import model_of


def gap(stack, samples) -> float:
    """Mean over trained tokens."""
    ours = stack.learner.logprobs(samples, 1.0)
    gaps = []
    for sample, mine in zip(samples, ours, strict=True):
        theirs = stack.rollouts.prompt_logprobs(sample.token_ids_T.tolist())[0]
        theirs = theirs[-sample.num_trained :]
        gaps += [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
    return fmean(gaps)


def main() -> None:
    """Start with the recipe's default, `auto`, then change one side or both."""
    overrides = ["runtime=in_process", "learner.num_ranks=1", "model.dtype=bfloat16"]
    with running(sys.argv[1], *overrides) as stack:
        engine, learner = model_of(stack).logits_processor, stack.learner.rank.policy
        head = learner.model.get_output_embeddings()
        found = {"start": [str(engine.head_dtype), head.float32]}
        groups = sampled(stack, stack.inputs.prompts[:16])
        samples = [
            TrainSample.from_turns([group.group.prompt, response])
            for group in groups
            for response in group.group.responses
        ]
        for name, theirs, mine in (
            ("both", torch.float32, True),
            ("engine only", torch.float32, False),
            ("learner only", torch.bfloat16, True),
            ("neither", torch.bfloat16, False),
        ):
            engine.head_dtype, head.float32 = theirs, mine
            found[name] = gap(stack, samples)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
