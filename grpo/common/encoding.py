"""Text to tokens, where some of the text is data and must not become a control token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_text(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    plain: Sequence[range],
    *,
    adds_special_tokens: bool,
) -> list[int]:
    """Token ids of a text of which some stretches are data and never yield a special or added
    token.

    Without such strings in them this is exactly `tokenizer.encode(text)`. Otherwise the text is
    taken apart inside each such string, after its first character, and the parts are encoded one by
    one.

    Args:
        tokenizer: of the model.
        text: the whole.
        plain: the stretches that are data, in characters.
        adds_special_tokens: whether the tokenizer puts its own tokens around the text.
    """
    cuts = [
        match.start() + 1
        for match in _control_strings(tokenizer).finditer(text)
        # also one that data and frame make together
        if any(match.start() < part.stop and match.end(1) > part.start for part in plain)
    ]
    ids: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        ids += tokenizer.encode(
            text[start:end], add_special_tokens=adds_special_tokens and start == 0
        )
    return ids


@lru_cache(maxsize=4)  # real tokenizers have hundreds of them, and every prompt asks
def _control_strings(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches every string that the tokenizer turns into one special or added token."""
    names = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    longest_first = sorted(
        (name for name in names if len(name) > 1), key=lambda name: (-len(name), name)
    )
    # overlapping occurrences all count: cutting one could leave another whole
    return re.compile(
        "(?=(" + "|".join(map(re.escape, longest_first)) + "))" if longest_first else r"(?!)"
    )
