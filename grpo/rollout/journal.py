"""The rollout journal: a response that was finished is never generated again, whatever dies after.

Each step of training has one file. It is appended to as responses are finished, a line each with a
checksum in front, so a line that a crash tore is not taken for a response. A step that is done
again finds what it had by the seed of each sample, which is a hash of run seed, step, problem and
index, and generates the rest. Samples without a seed are not kept, because nothing identifies them.

Files stay until a checkpoint makes their step something that is never done again.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import shutil
import zlib
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from grpo.common.faults import fault
from grpo.runtime.protocols import Rollouts
from grpo.types import Response, SampleRequest, SamplingSettings


class Journal:
    """The journals of a run, one file for each step that may be done again.

    Args:
        folder: where they are.
        identity: of all settings that decide what a step samples. What a run with other settings
            has left is not used.
        notice: told once when the disk takes no more; training goes on without a journal then. And
            of samples whose log-probs are not finite.
    """

    def __init__(self, folder: Path, identity: str, notice: Callable[[str], None]) -> None:
        self.folder, self.identity, self.notice = folder, identity, notice

    def step(self, step: int, version: int, rollouts: Rollouts) -> JournaledRollouts:
        """The engines, for the sampling of one step by one version of the weights."""
        return JournaledRollouts(self, self.folder / f"step_{step:06d}.jsonl", version, rollouts)

    def adopt(self, folder: Path, step: int) -> None:
        """Take over what the run of another folder has of a step."""
        path = folder / "journal" / f"step_{step:06d}.jsonl"
        if path.exists() and not (own := self.folder / path.name).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, own)

    def prune(self, step: int) -> None:
        """Delete the journals of all steps up to this one, which no run does again."""
        for path in self.folder.glob("step_*.jsonl"):
            if int(path.stem.removeprefix("step_")) <= step:
                path.unlink(missing_ok=True)


class JournaledRollouts:
    """`Rollouts` that hand out what the journal has and note what comes new. A context manager."""

    def __init__(self, journal: Journal, path: Path, version: int, rollouts: Rollouts) -> None:
        self.journal, self.path, self.version, self.rollouts = journal, path, version, rollouts
        self.found: dict[int, Response] = {}  # by seed
        self.num_replayed = self.num_made = 0
        self._ready: list[Response] = []
        self._asked: dict[int, tuple[SampleRequest, SamplingSettings]] = {}  # in flight, by key
        self._again: set[int] = set()  # keys of what is made a second time
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        lines = _whole_lines(self.path)
        head = {"identity": self.journal.identity, "weight_version": self.version}
        if lines and lines[0] == head:
            self.found = {row["seed"]: _response(row) for row in lines[1:]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Written anew, because nothing can stand behind a torn line.
            partial = self.path.with_suffix(".partial")
            self._file = partial.open("w", encoding="utf-8")
            self._write([head, *map(_row, self.found.values())])
            partial.rename(self.path)
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate what the journal does not have."""
        missing = []
        for request in requests:
            found = None if request.seed is None else self.found.get(request.seed)
            if found is None:
                missing.append(request)
            else:
                self._ready.append(dataclasses.replace(found, key=request.key))
        if missing:
            self._asked |= {request.key: (request, settings) for request in missing}
            self._again -= {request.key for request in missing}
            self.rollouts.submit(missing, settings)

    def completed(self) -> Iterator[list[Response]]:
        """Responses of the journal, then those of the engines as they are finished."""
        if self._ready:
            ready, self._ready = self._ready, []
            self.num_replayed += len(ready)
            yield ready
        for finished in self.rollouts.completed():
            if not (responses := self._accept(finished)):
                continue
            kept = (r for r in responses if r.seed is not None and _is_finite(r))
            self._write([_row(response) for response in kept])
            self.num_made += len(responses)
            fault("journal.written", journal=self.path.stem)
            yield responses

    def _accept(self, responses: Sequence[Response]) -> list[Response]:
        """Those with finite log-probs. The others are made once more, since the next time another
        engine may get them. What is not finite then as well comes from the weights or the model:
        it is handed on, and `health.max_bad_steps` counts the step.
        """
        accepted = []
        for response in responses:
            request, settings = self._asked.pop(response.key)
            if not _is_finite(response):
                what = f"warning: {self.path.stem}: the sample with seed {response.seed} has "
                what += "log-probs of its engine that are not finite"
                if response.key not in self._again:
                    self.journal.notice(f"{what}. It is made once more")
                    self._again.add(response.key)
                    self._asked[response.key] = request, settings
                    self.rollouts.submit([request], settings)
                    continue
                self.journal.notice(f"{what}, the second time as well")
            self._again.discard(response.key)
            accepted.append(response)
        return accepted

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back. What the journal has is finished and stays."""
        partials = self.rollouts.abort(keys)
        for response in partials:
            self._asked.pop(response.key, None)
        return partials

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, by every engine."""
        return self.rollouts.prompt_logprobs(token_ids, temperature)

    def close(self) -> None:
        """The engines belong to the run, which stops them."""

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        if self._file is None:
            return
        try:
            for row in rows:
                line = json.dumps(row)
                self._file.write(f"{zlib.crc32(line.encode()):08x} {line}\n")
            self._file.flush()  # to the system, which outlives this process
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._file = None
        self.journal.notice(
            f"warning: {self.path}: the rollout journal cannot be written "
            f"({error.strerror or error}); after a crash this step is sampled again"
        )


# Tokens and log-probs are bytes of int32 and float32: as digits they would be three times as long.
_TYPES = {"token_ids": "i", "logprobs": "f"}


def _is_finite(response: Response) -> bool:
    # One number that is not makes the sum one. A step has millions of them.
    return math.isfinite(sum(response.logprobs))


def _row(response: Response) -> dict[str, Any]:
    row = {field.name: getattr(response, field.name) for field in dataclasses.fields(response)}
    for name, kind in _TYPES.items():
        row[name] = base64.b64encode(array(kind, row[name]).tobytes()).decode()
    return row


def _response(row: dict[str, Any]) -> Response:
    for name, kind in _TYPES.items():
        values = array(kind)
        values.frombytes(base64.b64decode(row[name]))
        row[name] = values.tolist()
    return Response.from_plain(row)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal up to the first line that is not what was written."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for raw in path.read_bytes().split(b"\n"):
        checksum, _, line = raw.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(line):
                break
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
