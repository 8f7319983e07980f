"""The base model of the embedded default recipe: a small Qwen2, pre-trained from scratch on
arithmetic.

`build_base_model` gives a Hugging Face folder like that of any downloaded checkpoint, so everything
after it takes the path of a real model. It is a *base* model: it has read text of several styles
and continues a prompt in any of them. It has seen no reward.

Left out on purpose: evaluation (that is `grpo eval`), resuming (it takes minutes), mixed precision.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from grpo.common.recipes import Settings, check
from grpo.learner.model_folder import BUILDERS
from grpo.miniature import arithmetic
from grpo.miniature.arithmetic import ArithmeticSpec, CorpusSpec, corpus

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EOS, PAD = "<|endoftext|>", "<|pad|>"

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile("|".join(TAGS))
Size = Annotated[int, Field(ge=1)]


class BaseModelSpec(Settings):
    """Everything that decides the weights: the text, the architecture, and how it learns
    the text.
    """

    problems: ArithmeticSpec = ArithmeticSpec()
    corpus: CorpusSpec = CorpusSpec()
    num_layers: Size = 3
    hidden_size: Size = 128
    num_heads: Size = 4
    intermediate_size: Size = 256
    vocab_size: int = 320  # a multiple of 64; what the tokenizer does not use is padding
    tied_embeddings: bool = True
    max_position_embeddings: int = 512
    num_steps: Size = 1300
    documents_per_step: Size = 64
    num_slices: Size = 4  # of a step's documents, a thread for each, whatever the number of cores
    matrix_lr: float = 0.02  # Muon, for the matrices of the layers
    lr: float = 3e-3  # AdamW, for everything else
    warmup_steps: int = 50
    seed: int = 0

    @model_validator(mode="after")
    def _shapes(self) -> BaseModelSpec:
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 32:
            raise ValueError(
                f"hidden_size={self.hidden_size} over num_heads={self.num_heads} must give "
                f"heads of a "
                "multiple of 32, the sizes that vLLM's CPU attention has"
            )
        if self.vocab_size % 64:
            raise ValueError(f"vocab_size={self.vocab_size} must be a multiple of 64")
        return self

    def documents(self) -> Iterator[str]:
        """The text that it learns, without end. A spec with another text overrides it, and
        `code`.
        """
        return corpus(self.problems, self.corpus, seed=self.seed)

    def code(self) -> tuple[Path, ...]:
        """The files that make the text."""
        return (Path(arithmetic.__file__),)


@BUILDERS.register("miniature")
def build(options: Mapping[str, Any], cache_dir: Path) -> Path:
    """The base model of `model: {base: miniature, base_options: ...}`.

    Raises:
        ValueError: options that the spec does not have, or that cannot be.
    """
    spec, problems = check(BaseModelSpec, options)
    if spec is None or problems:
        raise ValueError("; ".join(problems))
    return build_base_model(spec, cache_dir)


def cache_key(spec: BaseModelSpec) -> str:
    """A hash of all that decides the weights: the spec and the code that reads it."""
    files = (Path(__file__), Path(__file__).with_name("muon.py"), *spec.code())
    code = [file.read_text(encoding="utf-8") for file in files]
    return hashlib.sha256(
        json.dumps([spec.model_dump(), arithmetic.TEMPLATE.text, *code], sort_keys=True).encode()
    ).hexdigest()[:16]


def build_base_model(spec: BaseModelSpec, cache_dir: Path) -> Path:
    """The folder of the base model of `spec`, pre-trained now unless `cache_dir` has it already."""
    folder = cache_dir / f"base-{cache_key(spec)}"
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=cache_dir))
    try:
        tokenizer = train_tokenizer(spec)
        model = pretrain(spec, tokenizer)
        save(model, tokenizer, spec, unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, with the same weights
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def train_tokenizer(spec: BaseModelSpec) -> PreTrainedTokenizerBase:
    """Qwen2's byte-level BPE, with merges learned from the corpus.

    Digits stay alone (Qwen2 cuts them so). The tags are added tokens, but ordinary ones: a decoder
    that skips special tokens keeps them, as it must for the format reward.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size - len(TAGS) - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    text = itertools.islice(spec.documents(), 1000)
    bpe.train_from_iterator((_TAG.sub("", document) for document in text), trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges: list[Any] = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=spec.max_position_embeddings,
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return tokenizer


def pretrain(spec: BaseModelSpec, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Next-token prediction on the corpus, from random weights; the same weights for the
    same spec.
    """
    import torch

    _keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one per slice, see `_set_gradients`
    torch.manual_seed(spec.seed)
    model = _random_model(spec, tokenizer)
    optimizers = _optimizers(model, spec)
    batches = _batches(spec, tokenizer)
    for step in _progress(spec.num_steps):
        _set_gradients(model, next(batches), spec.num_slices)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * _lr_factor(step, spec)
            optimizer.step()
    model.zero_grad()
    torch.set_num_threads(threads)
    return model


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: BaseModelSpec, folder: Path
) -> None:
    """Write the model as a Hugging Face folder, with the spec that made it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "base_model_spec.json").write_text(
        json.dumps(spec.model_dump(), indent=2) + "\n", encoding="utf-8"
    )


def _random_model(spec: BaseModelSpec, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        max_position_embeddings=spec.max_position_embeddings,
        tie_word_embeddings=spec.tied_embeddings,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def _optimizers(model: PreTrainedModel, spec: BaseModelSpec) -> list[torch.optim.Optimizer]:
    import torch

    from grpo.miniature.muon import Muon

    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    inside = set(map(id, matrices))
    others = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    optimizers = [
        Muon(matrices, lr=spec.matrix_lr),
        torch.optim.AdamW(others, lr=spec.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _batches(spec: BaseModelSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[list[int]]]:
    eos = tokenizer.eos_token_id
    documents = spec.documents()
    while True:
        texts = list(itertools.islice(documents, spec.documents_per_step))
        yield [[*ids, eos] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _set_gradients(model: PreTrainedModel, documents: list[list[int]], num_slices: int) -> None:
    """Gradient of the mean loss over all tokens of the step, computed slice by slice, a thread for
    each.

    Documents of like length share a slice, so that little is padded. Each slice is computed by one
    thread and the slices are summed in order, so the bits do not depend on the number of cores, and
    a busy core delays one slice rather than every operation.
    """
    import torch

    documents = sorted(documents, key=len)
    num_targets = sum(len(document) - 1 for document in documents)
    parameters = list(model.parameters())

    def gradients(rows: list[list[int]]) -> tuple[torch.Tensor, ...]:
        loss = _summed_loss(model, rows) / num_targets
        return tuple(torch.autograd.grad(loss, parameters))

    bounds = [i * len(documents) // num_slices for i in range(num_slices + 1)]
    slices = [documents[start:stop] for start, stop in itertools.pairwise(bounds)]
    with ThreadPoolExecutor(num_slices, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for parameter, *grads in zip(parameters, *pool.map(gradients, slices), strict=True):
            parameter.grad = torch.stack(grads).sum(0)


def _summed_loss(model: PreTrainedModel, documents: list[list[int]]) -> torch.Tensor:
    """Cross-entropy summed over all tokens. Padding on the right is out of a causal
    model's sight.
    """
    import torch
    import torch.nn.functional as F

    rows = [torch.tensor(document) for document in documents]
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    logits_BTV = model(input_ids=ids_BT[:, :-1].clamp(min=0), use_cache=False).logits
    return F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="sum")


def _lr_factor(step: int, spec: BaseModelSpec) -> float:
    """Linear warm-up, then linear decay to zero."""
    warmup = (step + 1) / spec.warmup_steps
    decay = (spec.num_steps - step) / max(1, spec.num_steps - spec.warmup_steps)
    return min(1.0, warmup, decay)


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: faulting it in again can cost as much as the arithmetic."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8
        for option, value in (
            (mmap_max, 0),
            (trim_threshold, 2**31 - 1),
            (top_pad, 2**26),
            (arena_max, 1),
        ):
            libc.mallopt(option, value)


def _progress(num_steps: int) -> Iterator[int]:
    """The steps, with a progress bar, or with ten plain lines where there is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(
            range(num_steps), description="pre-training the base model", console=console
        )
        return
    for step in range(num_steps):
        if step % -(-num_steps // 10) == 0:
            print(
                f"pre-training the base model: step {step} of {num_steps}",
                file=sys.stderr,
                flush=True,
            )
        yield step
