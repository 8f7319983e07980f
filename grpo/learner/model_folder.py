"""The folder of the model that a recipe starts from, and its tokenizer, checked before anything
else is started.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.errors import UserError
from grpo.common.files import work_folder
from grpo.common.names import Registry

if TYPE_CHECKING:
    from grpo.config.schema import ModelConfig

# (options of the recipe, cache folder) -> a Hugging Face folder. It raises ValueError for options
# that cannot be.
Builder = Callable[[Mapping[str, Any], Path], Path]
BUILDERS: Registry[Builder] = Registry("model builder")
# The same options -> config.json of the folder, for those who plan before anything is built.
SHAPES: Registry[Callable[[Mapping[str, Any]], dict[str, Any]]] = Registry("shape of a base model")

# Engine and learner were compared on each of these; a new one needs its test beside them.
MODEL_TYPES = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3")
# How configurations call the number of experts of a layer.
EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PROBE = "1 + 1"


def cache_dir() -> Path:
    """Where built base models are kept: GRPO_CACHE, or `.cache` in GRPO_HOME or beside the code."""
    if named := os.environ.get("GRPO_CACHE"):
        return Path(named).expanduser()
    return work_folder(Path(__file__).resolve().parents[2]) / ".cache"


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


def check_weights(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a model folder. Only the headers of its files are read.

    Raises:
        UserError: a pointer of Git LFS in place of a file, a file that is cut off, or one that the
            index names and that is not there.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        _refuse_pointer(file)
        try:
            with safe_open(file, framework="numpy") as weights:
                for name in weights.keys():  # noqa: SIM118  (no mapping)
                    shapes[name] = tuple(weights.get_slice(name).get_shape())
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error}); download it again") from None
    return shapes


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        UserError: there are none, or one that the index names is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        try:
            named = _read_json(index)["weight_map"].values()
        except (KeyError, AttributeError, TypeError):
            raise UserError(f"{index}: has no weight_map; download it again") from None
        files = [folder / name for name in sorted(set(named))]
    else:
        raise UserError(
            f"model.path={folder}: has neither {single.name} nor {index.name}; save the model with "
            "save_pretrained, or download the folder again"
        )
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: is not there, and {index.name} names it; download it")
    return files


def folder_sha256(folder: Path) -> str:
    """Digest of the weights in a model folder: that of `summary.json` for a policy that a run
    saved, however its files are split. One tensor is in memory at a time.
    """
    from safetensors import safe_open

    from grpo.learner.export import weights_digest

    with ExitStack() as stack:
        places: dict[str, Any] = {}
        for file in weight_files(folder):
            weights = stack.enter_context(safe_open(file, framework="pt"))
            places |= dict.fromkeys(weights.keys(), weights)
        return weights_digest((name, places[name].get_tensor(name)) for name in sorted(places))


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        is_pointer = stream.read(40).startswith(b"version https://git-lfs")
    if is_pointer:
        raise UserError(
            f"{file}: is a pointer of Git LFS and not the file itself; run `git lfs pull` in its "
            "folder"
        )


def _read_json(file: Path) -> Any:
    _refuse_pointer(file)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is no JSON ({error}); download it again") from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        UserError: it cannot be loaded, or it has no end-of-sequence token, so that no response
        could ever end.
    """
    from transformers import AutoTokenizer

    for file in sorted(folder.glob("tokenizer*.json")):
        _read_json(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the tokenizer in {folder} cannot be loaded: {error}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer in {folder} has no end-of-sequence token; set eos_token in its "
            f"tokenizer_config.json"
        )
    bare = tokenizer.encode(_PROBE, add_special_tokens=False)
    if (whole := tokenizer.encode(_PROBE))[-len(bare) :] != bare:
        raise UserError(
            f"the tokenizer in {folder} ends every prompt with {tokenizer.decode(whole[-1:])!r}, "
            "after which a model says nothing; set add_eos_token to false in its "
            "tokenizer_config.json, or take the token out of the post_processor of tokenizer.json"
        )
    return tokenizer


def embedding_rows(folder: Path) -> int:
    """How many tokens the model has an embedding of."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder).get_text_config().vocab_size)


def pad_token_id(folder: Path, tokenizer: Any) -> int:
    """A token for the right of short rows, where no result depends on it. It must have an
    embedding.
    """
    rows = embedding_rows(folder)
    wanted = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in wanted if token is not None and token < rows)


def check_model(folder: Path) -> int:
    """The context length of a model whose log-probs the learner computes as its engine does; in
    tokens.

    The learner makes logits in chunks from hidden states and output weight alone. A bias or a
    scaling of logits would be left out, and every log-prob would be wrong.

    Raises:
        UserError: no causal language model of `MODEL_TYPES`, one with such an output layer, a
            mixture of experts, a quantised one, or weights that are not those of its
            configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    _check_architecture(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
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
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if text_config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)
    _check_shapes(folder, wanted)
    return int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)


def _check_architecture(folder: Path) -> None:
    """Look at config.json alone, before any library makes something of it."""
    raw = _read_json(folder / "config.json")
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    supported = f"supported are dense models of the types {', '.join(MODEL_TYPES)}"
    if kind is None:
        raise UserError(f"model.path={folder}: config.json has no model_type; {supported}")
    for key in EXPERT_KEYS:
        count = raw.get(key)
        if isinstance(count, int) and count > 0:
            raise UserError(
                f"model.path={folder}: model_type={kind} with {key}={count} is a mixture of "
                f"experts, which the learner and the weight hand-over do not support; {supported}"
            )
    if kind not in MODEL_TYPES:
        raise UserError(
            f"model.path={folder}: model_type={kind} is not supported, because nobody has checked "
            f"that engine and learner agree on its log-probs; {supported}"
        )
    if raw.get("quantization_config"):
        raise UserError(
            f"model.path={folder}: its weights are quantised (quantization_config in config.json), "
            "and quantised weights cannot be trained; take the folder with full weights"
        )


def _check_shapes(folder: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """A weight that is missing would be drawn at random, without a word."""
    found = check_weights(folder)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"model.path={folder}: {len(missing)} of {len(wanted)} weights are not in its files, "
            f"the first is {missing[0]}; save the model with save_pretrained, or download it again"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise UserError(
                f"model.path={folder}: {name} has the shape {list(found[name])} in its file, and "
                f"config.json says {list(shape)}; they are of different models"
            )


def _changes(config: Any, key: str) -> bool:
    return getattr(config, key, None) not in (None, 1, 1.0)


def end_token_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """All tokens that end a response: the tokenizer's, and those of the model's config and
    generation config.

    Raises:
        UserError: the model has none of them.
    """
    from transformers import AutoConfig, GenerationConfig

    named = [tokenizer.eos_token_id, AutoConfig.from_pretrained(folder).eos_token_id]
    if (folder / "generation_config.json").is_file():
        named.append(GenerationConfig.from_pretrained(folder).eos_token_id)
    ids: set[int] = set()
    for value in named:
        ids |= set(value if isinstance(value, list) else [] if value is None else [value])
    rows = embedding_rows(folder)
    if not (possible := sorted(token for token in ids if 0 <= token < rows)):
        raise UserError(
            f"model.path={folder}: none of its end tokens {sorted(ids)} has an embedding (there "
            f"are {rows}), so that no response could ever end; resize the embedding, or name "
            "another eos_token"
        )
    return tuple(possible)
