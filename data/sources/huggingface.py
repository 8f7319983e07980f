"""Rows of a Hugging Face data set at a pinned revision, with the library's own cache and offline
switches.
"""

from __future__ import annotations

from collections.abc import Iterator

from data.sources.records import Record
from grpo.common.errors import UserError


def read_dataset(
    name: str, revision: str | None, subset: str | None, split: str
) -> Iterator[Record]:
    """All rows of one split, in the set's order.

    With HF_HUB_OFFLINE=1 or HF_DATASETS_OFFLINE=1 only what is cached is used, and a set that is
    not cached fails.

    Raises:
        UserError: the set cannot be loaded.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UserError(
            f"data set {name}: needs the `datasets` package (pip install datasets)"
        ) from error
    try:
        rows = load_dataset(name, name=subset, split=split, revision=revision)
    except (
        Exception
    ) as error:  # the library raises its own, requests', pyarrow's and plain errors alike
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise UserError(
            f"data set {name} (split {split}, revision {revision}): cannot be loaded: {reason}"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield Record(number, dict(row))
