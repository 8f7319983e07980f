"""The record of a run: `metrics.jsonl`, and in `rollouts/` two files a step.

`step_NNNNNN.jsonl` has the texts, one row a sample. `step_NNNNNN.npz` has the tokens of the same
rows, in the same order. It is a zip of plain arrays that numpy reads without pickle. Each kind of
array is kept flat, beside the offsets at which the samples begin, because samples differ in length.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo.common.files import read_jsonl, write_atomically

CHAIN = "chain.jsonl"  # links of `grpo.tracking.chain`, a row a step
OFFSETS = ".offsets"  # behind the name of an array: where each sample begins in it

Arrays = Mapping[str, Sequence[Any]]  # by name, one sequence of numbers a row


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """One row a step, in order of steps: the objects of `metrics.jsonl` that share a step are
    merged.

    Raises:
        FileNotFoundError: the folder has no metrics.jsonl.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(run_dir / "metrics.jsonl"):
        by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def cut_back(run_dir: Path, step: int, metrics_bytes: int) -> None:
    """Make the record what it was when `step` was committed, so that each step is in it once.

    Args:
        run_dir: the folder of the run.
        step: whose rollouts are the last ones that stay.
        metrics_bytes: size of metrics.jsonl then.
    """
    metrics = run_dir / "metrics.jsonl"
    if not metrics_bytes:
        metrics.unlink(missing_ok=True)
    elif metrics.exists():
        os.truncate(metrics, min(metrics_bytes, metrics.stat().st_size))
    if (chain := run_dir / CHAIN).exists():
        rows, kept = chain.read_bytes().splitlines(keepends=True), 0
        for row in rows:
            # A row that a crash has cut off belongs to a step that was never committed.
            if not row.endswith(b"\n") or json.loads(row)["step"] > step:
                break
            kept += len(row)
        os.truncate(chain, kept)
    for path in (run_dir / "rollouts").glob("step_*"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()


def write_rollouts(
    run_dir: Path, step: int, rows: Sequence[Mapping[str, Any]], arrays: Arrays | None = None
) -> None:
    """Write the samples of a step. Both files appear whole, or neither does.

    Args:
        rows: one a sample, with its texts and rewards.
        arrays: by name, one sequence of numbers a row; usually `prompt_token_ids`, `token_ids`,
            `logprobs` (of the engine, when it sampled) and `versions` (of the weights, a token).
            Whole numbers are kept as int32 and others as float32. None writes no .npz.

    Raises:
        ValueError: an array does not have one sequence a row.
        UserError: the folder cannot be written.
    """
    stem = run_dir / "rollouts" / f"step_{step:06d}"
    files: dict[Path, Any] = {stem.with_suffix(".jsonl"): rows}
    if arrays:
        files[stem.with_suffix(".npz")] = _packed(arrays, len(rows))
    write_atomically(files)


def read_rollouts(run_dir: Path, step: int) -> list[dict[str, Any]]:
    """The samples of a step as `write_rollouts` got them; the arrays are numpy arrays in the rows.

    Raises:
        FileNotFoundError: the step has no record.
    """
    import numpy as np

    stem = Path(run_dir) / "rollouts" / f"step_{step:06d}"
    rows = list(read_jsonl(stem.with_suffix(".jsonl")))
    if stem.with_suffix(".npz").exists():
        with np.load(stem.with_suffix(".npz"), allow_pickle=False) as packed:
            for name in (name for name in packed.files if not name.endswith(OFFSETS)):
                flat, offsets = packed[name], packed[name + OFFSETS]
                for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
                    row[name] = flat[begin:end]
    return rows


def _packed(arrays: Arrays, num_rows: int) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    # Not `np.savez_compressed`: it spends seconds of the training process on 8 million tokens,
    # because it compresses hard, and the log-probs too, which hardly shrink.
    with zipfile.ZipFile(buffer, "w") as archive:

        def add(name: str, array: np.ndarray[Any, Any]) -> None:
            method = zipfile.ZIP_STORED if array.dtype == np.float32 else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: equal samples give equal bytes
            entry.compress_type = method
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)  # type: ignore[no-untyped-call]
            archive.writestr(entry, data.getvalue(), compress_type=method, compresslevel=1)

        for name, samples in arrays.items():
            if len(samples) != num_rows:
                raise ValueError(f"{name}: {len(samples)} samples for {num_rows} rows")
            parts = [np.asarray(sample) for sample in samples]
            whole = all(part.dtype.kind in "iu" or not part.size for part in parts)
            dtype = np.int32 if whole else np.float32
            empty = np.zeros(0, dtype)
            add(name, np.concatenate([empty, *(part.ravel().astype(dtype) for part in parts)]))
            add(name + OFFSETS, np.cumsum([0, *(part.size for part in parts)], dtype=np.int64))
    return buffer.getvalue()
