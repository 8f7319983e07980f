"""The folder of the model that a recipe starts from, and its tokenizer, checked before anything
else is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.errors import UserError
from grpo.common.names import Registry

if TYPE_CHECKING:
    from grpo.config.schema import ModelConfig

# (options of the recipe, cache folder) -> a Hugging Face folder. It raises ValueError for options
# that cannot be.
Builder = Callable[[Mapping[str, Any], Path], Path]
BUILDERS: Registry[Builder] = Registry("model builder")


def cache_dir() -> Path:
    """Where built base models are kept: GRPO_CACHE, or `.cache` beside the code."""
    return Path(os.environ.get("GRPO_CACHE") or Path(__file__).resolve().parents[2] / ".cache")


def model_folder(model: ModelConfig, status: Callable[[str], None]) -> Path:
    """A Hugging Face folder: the one that `model.path` names, or the base model, built now if it is
    not cached.

    Raises:
        UserError: the folder is missing or incomplete.
    """
    if model.base is not None:
        status("base model (built once, then cached)")
        try:
            return BUILDERS[model.base](model.base_options, cache_dir())
        except ValueError as error:
            raise UserError(f"model.base={model.base}: {error}") from None
    assert model.path is not None
    folder = Path(model.path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"model.path={model.path}: no such folder. Name a local Hugging Face folder; for a "
            f"model of a hub, "
            "download it first (hf download MODEL --local-dir FOLDER)"
        )
    for needed, what in (
        ("config.json", "configuration"),
        ("*.safetensors", "weights"),
        ("tokenizer*", "tokenizer"),
    ):
        if not any(folder.glob(needed)):
            raise UserError(f"model.path={model.path}: the folder has no {what} ({needed})")
    check_weights(folder)
    return folder.resolve()


def check_weights(folder: Path) -> None:
    """Can every weight file be opened? Only their headers are read.

    Raises:
        UserError: a pointer of Git LFS in place of a file, or a file that is cut off.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            is_pointer = stream.read(40).startswith(b"version https://git-lfs")
        if is_pointer:
            raise UserError(
                f"{file}: is a pointer of Git LFS and not the weights; run `git lfs pull` in "
                f"its folder"
            )
        try:
            with safe_open(file, framework="numpy"):
                pass
        except SafetensorError as error:
            raise UserError(f"{file}: cannot be read ({error}); download it again") from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        UserError: it cannot be loaded, or it has no end-of-sequence token, so that no response
        could ever end.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the tokenizer in {folder} cannot be loaded: {error}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer in {folder} has no end-of-sequence token; set eos_token in its "
            f"tokenizer_config.json"
        )
    if tokenizer.encode("1 + 1")[-1:] == [tokenizer.eos_token_id]:
        raise UserError(
            f"the tokenizer in {folder} ends every prompt with {tokenizer.eos_token!r}, after "
            f"which a model "
            "says nothing; set add_eos_token to false in its tokenizer_config.json"
        )
    return tokenizer


def pad_token_id(folder: Path, tokenizer: Any) -> int:
    """A token for the right of short rows, where no result depends on it. It must have an
    embedding.
    """
    from transformers import AutoConfig

    rows = AutoConfig.from_pretrained(folder).get_text_config().vocab_size
    own = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if own is None or own >= rows else own)


def check_model(folder: Path) -> int:
    """The context length of a model whose log-probs the learner computes as its engine does; in
    tokens.

    The learner makes logits in chunks from hidden states and output weight alone. A bias or a
    scaling of logits would be left out, and every log-prob would be wrong.

    Raises:
        UserError: no causal language model, or one with such an output layer.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"model.path={folder}: not a causal language model: {error}") from None
    text_config = config.get_text_config()
    changed = [
        key
        for key in ("final_logit_softcapping", "logit_scale", "logits_scaling")
        if _changes(text_config, key)
    ]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        changed.append("a bias of the output layer")
    if changed:
        raise UserError(
            f"model.path={folder}: its logits have {', '.join(changed)}, which the learner does "
            f"not support"
        )
    return int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)


def _changes(config: Any, key: str) -> bool:
    return getattr(config, key, None) not in (None, 1, 1.0)


def end_token_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """All tokens that end a response: the tokenizer's, and those of the model's
    generation config.
    """
    from transformers import GenerationConfig

    ids = {int(tokenizer.eos_token_id)}
    if (folder / "generation_config.json").is_file():
        named = GenerationConfig.from_pretrained(folder).eos_token_id
        ids |= set(named if isinstance(named, list) else [] if named is None else [named])
    return tuple(sorted(ids))
