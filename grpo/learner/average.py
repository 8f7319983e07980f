"""The weighted average of model folders, file by file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.common.files import write_atomically
from grpo.learner.model_folder import check_model, check_weights, load_tokenizer, weight_files

# What a model folder has besides its weights.
_COPIED = (
    *("config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    *("vocab.*", "merges.txt"),
)
# Keys of a configuration that say nothing of what the model computes.
_TOLD = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
TIED = "lm_head.weight"


def average(folders: Sequence[Path], shares: Sequence[float], target: Path) -> None:
    """Write sum_i share_i W_i as a model folder, in the types of the first model.

    The files are those of the first model. Sums are made in float32, tensor by tensor, so the most
    that is in memory is one file of the result and one tensor of each model. `target` appears when
    it is complete.

    Args:
        folders: model folders that `check_alike` has passed.
        shares: their weights.
        target: the folder of the result; one that is there is replaced.

    Source: Kimi k1.5 (arXiv:2501.12599), section 2.4; model soups (arXiv:2203.05482).
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for pattern in _COPIED:
        for file in sorted(folders[0].glob(pattern)):
            shutil.copyfile(file, partial / file.name)
    written: set[str] = set()
    with ExitStack() as stack:
        places: list[dict[str, Any]] = [{} for _ in folders]
        for place, folder in zip(places, folders, strict=True):
            for file in weight_files(folder):
                weights = stack.enter_context(safe_open(file, framework="pt"))
                place |= dict.fromkeys(weights.keys(), weights)
        for file in weight_files(folders[0]):
            with safe_open(file, framework="pt") as first:
                metadata, state = first.metadata(), {}
                for name in first.keys():  # noqa: SIM118  (no mapping)
                    kind = first.get_tensor(name).dtype
                    # A tied head may stand in one folder alone; the embedding is the same.
                    held = [place[name] for place in places if name in place]
                    if len(held) < len(places):
                        continue
                    parts = zip(shares, held, strict=True)
                    mean = sum(share * one.get_tensor(name).float() for share, one in parts)
                    state[name] = mean.to(kind)
                save_file(state, partial / file.name, metadata=metadata)
                written |= state.keys()
    index = folders[0] / "model.safetensors.index.json"
    if index.is_file():
        tree = json.loads(index.read_text(encoding="utf-8"))
        tree["weight_map"] = {n: f for n, f in tree["weight_map"].items() if n in written}
        write_atomically({partial / index.name: tree})
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def check_alike(folders: Sequence[Path]) -> None:
    """Can these models be averaged? Only headers of their weights are read.

    Raises:
        UserError: a folder that is no model, or one that differs from the first one in its
            configuration, its tokenizer, or the names, shapes or kinds of its weights. The first
            difference is named.
    """
    for folder in folders:
        check_model(folder)
    first, *others = folders
    for other in others:
        found = _first_difference(first, other)
        if found is not None:
            raise UserError(
                f"models: {other} cannot be averaged with {first}: {found}; take models that were "
                "trained from one base"
            )


def _first_difference(first: Path, other: Path) -> str | None:
    from transformers import AutoConfig

    configs = [AutoConfig.from_pretrained(folder).to_dict() for folder in (first, other)]
    for key in sorted({*configs[0], *configs[1]} - {*_TOLD}):
        here, there = (config.get(key) for config in configs)
        if here != there:
            return f"config.json has {key}={here!r} and {key}={there!r}"
    if (found := _tokenizers_differ(first, other)) is not None:
        return found
    shapes = [check_weights(folder) for folder in (first, other)]
    if configs[0]["tie_word_embeddings"]:
        for one in shapes:
            one.pop(TIED, None)
    for name in sorted({*shapes[0], *shapes[1]}):
        if any(name not in one for one in shapes):
            return f"the weight {name} is in {first if name in shapes[0] else other} alone"
        here, there = (list(one[name]) for one in shapes)
        if here != there:
            return f"the weight {name} has the shapes {here} and {there}"
    return None


def _tokenizers_differ(first: Path, other: Path) -> str | None:
    """The first difference of two tokenizers; None where they make the same of every text."""
    pair = [load_tokenizer(folder) for folder in (first, other)]
    vocabularies = [tokenizer.get_vocab() for tokenizer in pair]
    for token in sorted({*vocabularies[0], *vocabularies[1]}):
        here, there = (vocabulary.get(token) for vocabulary in vocabularies)
        if here != there:
            return f"the tokenizers have the token {token!r} as {here} and {there}"
    for key in ("special_tokens_map", "chat_template"):
        here, there = (
            {"special_tokens_map": t.special_tokens_map, "chat_template": t.chat_template}[key]
            for t in pair
        )
        if here != there:
            return f"the tokenizers have {key}={here!r} and {there!r}"
    if all(tokenizer.is_fast for tokenizer in pair):
        # What stands besides the vocabulary: merges, and what is done before and after them.
        parts = [json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in pair]
        for key in ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder"):
            if parts[0].get(key) != parts[1].get(key):
                return f"tokenizer.json differs in {key}"
    return None
