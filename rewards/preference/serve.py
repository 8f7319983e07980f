"""The process that holds a model of preferences. It reads exchanges and writes scores, batch by
batch, so that the caller knows which texts were at work when it dies or hangs.

It speaks the protocol of `rewards.execution.worker` and ends with its parent.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Sequence
from typing import Any

from rewards.execution.worker import die_with_parent, private_streams, read_message, write_message
from rewards.preference.model import MODELS, Exchange, PreferenceModel, Prepared, make_batches

_PROBE = Exchange("What is 1 + 1?", "It is 2.")
_GPU_BATCH_TOKENS = 16_384


def main() -> None:
    """Load the model and serve requests until the parent closes the stream."""
    requests, replies = private_streams()
    setup = read_message(requests)
    if setup is None:
        return
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Nothing is ever asked of a hub.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from grpo.common.names import import_modules

    options = setup["options"]
    try:
        import_modules(setup["modules"])
        model = MODELS[options["backend"]](options)
        [output] = model.score([model.prepare(_PROBE)])
        if not math.isfinite(output):
            raise ValueError(f"it scores a plain exchange with {output}; its weights are damaged")
    except (ValueError, ImportError) as error:
        write_message(replies, {"error": str(error)})
        return
    budget = options["batch_tokens"] or (1 if options["device"] == "cpu" else _GPU_BATCH_TOKENS)
    write_message(replies, {"ready": True})
    while (request := read_message(requests)) is not None:
        prepared = [model.prepare(Exchange(*texts)) for texts in request["exchanges"]]
        alone = request["alone"]
        rest = [position for position in range(len(prepared)) if position not in alone]
        batches = make_batches([prepared[i].num_tokens for i in rest], budget)
        for batch in [*([rest[i] for i in part] for part in batches), *([i] for i in alone)]:
            write_message(replies, {"begin": batch})
            write_message(replies, {"scored": _score(model, batch, prepared)})
        write_message(replies, {"done": True})


def _score(
    model: PreferenceModel, batch: Sequence[int], prepared: Sequence[Prepared]
) -> list[list[Any]]:
    """Rows of position, output or None, why there is none, tokens, and tokens left out."""
    try:
        outputs = model.score([prepared[i] for i in batch])
        faults = ["" if math.isfinite(output) else "not_finite" for output in outputs]
    except Exception as error:  # such as memory that a GPU does not have
        if len(batch) > 1:
            return [row for i in batch for row in _score(model, [i], prepared)]
        outputs, faults = [math.nan], [f"{type(error).__name__}: {error}"[:300]]
    return [
        [i, None if fault else output, fault, prepared[i].num_tokens, prepared[i].cut_tokens]
        for i, output, fault in zip(batch, outputs, faults, strict=True)
    ]
