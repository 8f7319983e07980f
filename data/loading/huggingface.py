"""Rows of a Hugging Face data set at a pinned revision, with the library's own cache and offline
switches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data.errors import DataError
from data.loading.records import Record

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def read_dataset(
    name: str, revision: str | None, subset: str | None, split: str
) -> Iterator[Record]:
    """All rows of one split, in the set's order.

    With HF_HUB_OFFLINE=1 or HF_DATASETS_OFFLINE=1 only what is cached is used, and a set that is
    not cached fails.

    Raises:
        DataError: no pinned revision, or the set cannot be loaded.
    """
    if not Path(name).is_dir() and not (revision and _COMMIT.fullmatch(revision)):
        raise DataError(
            f"data set {name}: revision={revision} is not a commit; pin one (7 to 40 hex digits), because a "
            "branch can change between two runs of the same recipe"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"data set {name}: needs the `datasets` package (pip install datasets)"
        ) from error
    try:
        rows = load_dataset(name, name=subset, split=split, revision=revision)
    except (
        Exception
    ) as error:  # the library raises its own, requests', pyarrow's and plain errors alike
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DataError(
            f"data set {name} (split {split}, revision {revision}): cannot be loaded: {reason}"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield Record(number, dict(row))
