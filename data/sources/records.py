"""Raw rows from JSONL, JSON and Parquet files, plain or gzipped. The content tells the format.

A fault of the whole file (binary, wrong encoding, truncated) raises `UserError`; a fault of one row
is a
`Record` with its reason, so that the caller decides whether a row may be skipped.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from grpo.common.errors import UserError

MAX_ROW_BYTES = 1 << 20  # a problem of a megabyte is a fault of the file, not a problem
_HEAD_BYTES = 8192
_UTF16_32_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_CONTROLS = bytes(set(range(32)) - {9, 10, 12, 13}) + b"\x7f"


@dataclass(frozen=True, slots=True)
class Record:
    """One row and its line (or row number, from 1). Exactly one of `row` and `fault` is set."""

    line: int
    row: dict[str, Any] | None
    fault: str | None = None


def read_records(path: Path, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Record]:
    """All rows of a file, in order.

    Raises:
        UserError: the file is missing, empty, binary, not UTF-8, truncated, or of no known format.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD_BYTES)
            raw.seek(0)
            if not head:
                raise UserError(f"{path}: the file is empty")
            if head.startswith(b"PAR1") or path.suffix == ".parquet":
                yield from _parquet(path)
            elif head.startswith(b"\x1f\x8b"):
                yield from _gzipped(path, raw, max_row_bytes)
            elif path.suffix == ".gz":
                raise UserError(f"{path}: named .gz, but the content is not gzip")
            else:
                yield from _text(path, raw, head, max_row_bytes)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _gzipped(path: Path, raw: IO[bytes], max_row_bytes: int) -> Iterator[Record]:
    line = 0
    try:
        with cast(IO[bytes], gzip.open(raw)) as stream:
            head = stream.read(_HEAD_BYTES)
            if not head:
                raise UserError(f"{path}: the gzip file holds nothing")
            stream.seek(0)
            for record in _text(path, stream, head, max_row_bytes):
                line = record.line
                yield record
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}: the gzip data is truncated or damaged after line {line}: {error}"
        ) from error


def _text(path: Path, stream: IO[bytes], head: bytes, max_row_bytes: int) -> Iterator[Record]:
    _refuse_binary(path, head)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return _json_array(path, stream, max_row_bytes)
    return _json_lines(stream, max_row_bytes)


def _refuse_binary(path: Path, head: bytes) -> None:
    if head.startswith(_UTF16_32_MARKS):
        raise UserError(
            f"{path}: the text is UTF-16 or UTF-32; convert it to UTF-8 (iconv -t UTF-8)"
        )
    controls = sum(head.count(byte) for byte in _CONTROLS)
    # one NUL in a row is that row's fault; a twentieth of control bytes is no text at all
    if controls * 20 > len(head):
        raise UserError(f"{path}: a binary file, not JSONL, JSON or Parquet")


def _json_lines(stream: IO[bytes], max_row_bytes: int) -> Iterator[Record]:
    number = 0
    while line := stream.readline(max_row_bytes + 1):
        number += 1
        if len(line) > max_row_bytes and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(max_row_bytes)
            yield Record(number, None, f"longer than {max_row_bytes} bytes")
        elif line.strip():
            yield _parse(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _parse(number: int, line: bytes) -> Record:
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        wrong = line[error.start : error.start + 1].hex()
        return Record(number, None, f"not UTF-8: byte 0x{wrong} at column {error.start + 1}")
    except (ValueError, RecursionError) as error:
        return Record(number, None, f"not valid JSON: {str(error)[:200]}")
    if not isinstance(row, dict):
        return Record(number, None, f"is a JSON {type(row).__name__}, not an object")
    return Record(number, row)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _json_array(path: Path, stream: IO[bytes], max_row_bytes: int) -> Iterator[Record]:
    data = stream.read()
    try:
        rows = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON (an array of rows): {str(error)[:200]}") from error
    if not rows:
        raise UserError(f"{path}: the JSON array is empty")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            yield Record(number, None, f"is a JSON {type(row).__name__}, not an object")
        elif len(str(row)) > max_row_bytes:
            yield Record(number, None, f"longer than {max_row_bytes} bytes")
        else:
            yield Record(number, row)


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa  # a second to import, and most files are JSONL
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows == 0:
                raise UserError(f"{path}: the Parquet file has no rows")
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, row)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {str(error)[:200]}") from error
