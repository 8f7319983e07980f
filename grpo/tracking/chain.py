"""The hash chain of a run: `chain.jsonl`, one link a step.

A link has a digest of everything that a step made, in causal order, and a hash of these digests
and of the link before it. So one flipped bit in the record is traced to its step and quantity, and
the last link stands for the whole run. The first link is step 0, with the weights of the model
that the run began with.

The chain is kept apart from `metrics.jsonl`, because digests are no numbers and nobody plots them.
Digests are BLAKE2b (RFC 7693) of 16 bytes. They find faults, and forgery by whoever does not write
the chain anew; for that, keep the last hash somewhere else.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from grpo.common.files import append_line, plain, read_jsonl
from grpo.common.provenance import git_hash, versions
from grpo.tracking.record import CHAIN, Arrays, read_rollouts

FILE = CHAIN


class Quantity(StrEnum):
    """What a step makes, in causal order: each depends on those before it, and on earlier steps."""

    DATA = "data"  # problems in the order of the batch, with prompt text and gold answer
    TOKENS = "tokens"  # ids of prompt and response, and weight versions
    LOGPROBS = "log-probs"  # of the engine, when it sampled
    REWARDS = "rewards"  # totals and components
    ADVANTAGES = "advantages"
    SETTINGS = "settings"  # learning rate, and coefficients that follow a target
    GRADIENT = "gradient"  # norm by layer
    WEIGHTS = "weights"  # content hash by layer, after the update
    RECORD = "record"  # everything else in the rows of rollouts/ and metrics.jsonl, times aside


SETTINGS_KEYS = ("lr", "kl_coef", "entropy_coef")
ARRAYS = ("prompt_token_ids", "token_ids", "logprobs", "versions")
_TIMED = ("seconds/", "tokens_per_second")


class DamagedRecordError(Exception):
    """A file of a record cannot be read. `step` is the first one that is hurt."""

    def __init__(self, step: int, text: str) -> None:
        self.step = step
        super().__init__(f"step {step}: {text}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What a step made, in digests. `chain` is a hash of all of them and of `previous`."""

    step: int
    previous: str  # `chain` of the step before; empty before the first one
    digests: dict[Quantity, str]  # a quantity that was not looked at has none
    gradients: dict[str, float] = field(default_factory=dict)  # L2 norm by layer, before clipping
    weights: dict[str, str] = field(default_factory=dict)  # content hash by layer, hexadecimal
    chain: str = ""

    @classmethod
    def made(
        cls,
        step: int,
        previous: str,
        digests: Mapping[Quantity, str],
        gradients: Mapping[str, float],
        weights: Mapping[str, int],
    ) -> Link:
        """The link of a step.

        Args:
            step: updates done.
            previous: `chain` of the link before.
            digests: of what `digests_of` knows.
            gradients: L2 norm by layer; none where nothing was updated.
            weights: content hash by layer, in [0, 2^64); none where it was not made.
        """
        told = {name: f"{value:016x}" for name, value in weights.items()}
        link = cls(
            step=step,
            previous=previous,
            digests={**digests, **layer_digests(gradients, told)},
            gradients=dict(gradients),
            weights=told,
        )
        return cls(**{**link.fields(), "chain": link.expected_chain()})

    def fields(self) -> dict[str, Any]:
        """By name, as the constructor takes them."""
        return {name: getattr(self, name) for name in self.__slots__}

    def expected_chain(self) -> str:
        """What `chain` must be."""
        named = [f"{name}={self.digests.get(name, '')}" for name in Quantity]
        return digest([self.previous, str(self.step), *named])

    def row(self) -> dict[str, Any]:
        """As a row of chain.jsonl."""
        return {**self.fields(), "digests": {str(k): v for k, v in self.digests.items()}}

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Link:
        """From a row of chain.jsonl.

        Raises:
            ValueError: it is none.
        """
        try:
            digests = {Quantity(name): text for name, text in row["digests"].items()}
            gradients = {name: float(norm) for name, norm in row["gradients"].items()}
            return cls(**{**row, "digests": digests, "gradients": gradients})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"no link of a chain: {type(error).__name__}: {error}") from None


def is_timed(metric: str) -> bool:
    """Is it a duration or a speed, which no run repeats?"""
    return metric.startswith(_TIMED)


def digest(parts: Iterable[str | bytes]) -> str:
    """32 hexadecimal digits of some texts or bytes. Where one part ends is hashed too."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", errors="surrogatepass") if isinstance(part, str) else part
        found.update(len(raw).to_bytes(8, "little"))
        found.update(raw)
    return found.hexdigest()


def digests_of(
    rows: Sequence[Mapping[str, Any]],
    arrays: Arrays | None,
    metrics: Mapping[str, Any],
) -> dict[Quantity, str]:
    """Digests of what the record of a step holds.

    They are the same before the record is written and after it is read.

    Args:
        rows: of the samples, as `write_rollouts` takes them.
        arrays: of the samples, those of `ARRAYS`. None: they were not recorded, and tokens and
            log-probs have no digest.
        metrics: of the step, as metrics.jsonl has it.
    """
    import numpy as np  # here, because the settings of tracking are read before anything is heavy

    def numbers(values: Iterable[Any]) -> bytes:
        return np.array([float(value) for value in values], np.float64).tobytes()

    def texts(key: str) -> Iterator[str]:
        return (json.dumps(plain(row[key])) for row in rows)

    whole = {k: v for k, v in plain(metrics).items() if not is_timed(k)}
    settings = {key: whole[key] for key in SETTINGS_KEYS if key in whole}
    others = ({k: v for k, v in row.items() if k not in ARRAYS} for row in rows)
    found = {
        Quantity.DATA: digest([*texts("problem_id"), *texts("prompt"), *texts("gold")]),
        Quantity.REWARDS: digest(
            [
                numbers(row["reward"] for row in rows),
                *(json.dumps(plain(row["components"]), sort_keys=True) for row in rows),
            ]
        ),
        Quantity.ADVANTAGES: digest([numbers(row["advantage"] for row in rows)]),
        Quantity.SETTINGS: digest([json.dumps(settings, sort_keys=True)]),
        Quantity.RECORD: digest(json.dumps(plain(r), sort_keys=True) for r in [whole, *others]),
    }
    if arrays is not None:
        for quantity, names, dtype in (
            (Quantity.TOKENS, ("prompt_token_ids", "token_ids", "versions"), np.int32),
            (Quantity.LOGPROBS, ("logprobs",), np.float32),
        ):
            flat = (np.asarray(one, dtype).tobytes() for name in names for one in arrays[name])
            found[quantity] = digest(flat)
    return found


def layer_digests(
    gradients: Mapping[str, float], weights: Mapping[str, str]
) -> dict[Quantity, str]:
    """Digests of what a link holds by layer; none of what it does not hold."""
    found = {}
    if gradients:
        told = (f"{name}={float(norm).hex()}" for name, norm in sorted(gradients.items()))
        found[Quantity.GRADIENT] = digest(told)
    if weights:
        found[Quantity.WEIGHTS] = digest(f"{k}={v}" for k, v in sorted(weights.items()))
    return found


# --- the file -------------------------------------------------------------------------------------


def append(run_dir: Path, link: Link) -> None:
    """Add a link to the chain of a run.

    Raises:
        UserError: the file cannot be written.
    """
    append_line(run_dir / FILE, link.row())


def note_process(run_dir: Path, step: int, machine: Mapping[str, str], settings: str) -> None:
    """Note what computes the links from here on, as a row of its own.

    Args:
        run_dir: the folder of the run.
        step: updates done before.
        machine: what decides the last bits, such as processor and versions.
        settings: hash of all settings that decide what a step computes.

    Raises:
        UserError: the file cannot be written.
    """
    append_line(run_dir / FILE, {"step": step, "machine": dict(machine), "settings": settings})


def read_chain(run_dir: Path) -> list[Link]:
    """The links of a run in the order of their file; none where it has no chain.

    Raises:
        DamagedRecordError: a line is no link.
    """
    links: list[Link] = []
    try:
        for row in _lines(run_dir):
            if "machine" not in row:
                links.append(Link.read(row))
    except ValueError as error:
        step = links[-1].step + 1 if links else 0
        raise DamagedRecordError(step, f"{FILE} is damaged: {error}") from None
    return links


def read_processes(run_dir: Path) -> list[dict[str, Any]]:
    """What computed a run, in order: rows with `step`, `machine` and `settings` as `note_process`
    has them. Older runs have no settings.
    """
    return [row for row in _lines(run_dir) if "machine" in row]


def _lines(run_dir: Path) -> Iterator[dict[str, Any]]:
    if (run_dir / FILE).exists():
        yield from read_jsonl(run_dir / FILE)


# --- what a record holds --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a run folder holds of one step."""

    step: int
    rows: list[dict[str, Any]] | None  # of its samples, with their arrays; None: not there
    metrics: dict[str, Any] | None
    link: Link | None

    def digests(self) -> dict[Quantity, str]:
        """Of everything that is there, made anew; nothing is taken from the chain.

        Raises:
            DamagedRecordError: a row has lost a part.
        """
        found: dict[Quantity, str] = {}
        if self.rows is not None and self.metrics is not None:
            arrays = None
            try:
                if any(name in row for row in self.rows for name in ARRAYS):
                    arrays = {name: [row[name] for row in self.rows] for name in ARRAYS}
                found = digests_of(self.rows, arrays, self.metrics)
            except (KeyError, TypeError, ValueError) as error:
                text = f"rollouts/: a row is not whole: {type(error).__name__}: {error}"
                raise DamagedRecordError(self.step, text) from None
        if self.link is not None:
            found |= layer_digests(self.link.gradients, self.link.weights)
        return found


class Record:
    """The folder of a run, step by step.

    Raises:
        DamagedRecordError: a file of it cannot be read.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._links = {link.step: link for link in read_chain(run_dir)}
        self.last_link = max(self._links, default=-1)
        self._metrics: dict[int, dict[str, Any]] = {}
        try:
            for row in read_jsonl(run_dir / "metrics.jsonl"):
                # evaluations and switches of stages are rows of their own
                if "weight_version" in row:
                    self._metrics[int(row["step"])] = row
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            step = max(self._metrics, default=0) + 1
            raise DamagedRecordError(step, f"metrics.jsonl: {error}") from None
        rollouts = (run_dir / "rollouts").glob("step_*.jsonl")
        self._recorded = {int(path.stem.removeprefix("step_")) for path in rollouts}
        self.steps = sorted({*self._links, *self._metrics, *self._recorded})

    def read(self, step: int) -> StepRecord:
        """What there is of a step.

        Raises:
            DamagedRecordError: its samples cannot be read.
        """
        rows = None
        if step in self._recorded:
            try:
                rows = read_rollouts(self.run_dir, step)
            # zip, zlib, numpy and JSON have errors of their own for bytes that are not theirs
            except Exception as error:
                text = f"rollouts/ cannot be read: {type(error).__name__}: {error}"
                raise DamagedRecordError(step, text) from None
        return StepRecord(step, rows, self._metrics.get(step), self._links.get(step))


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place where a record does not agree with its chain."""

    step: int
    what: str  # a quantity, or the file that is damaged
    text: str


def check_record(
    run_dir: Path, *, unfinished: bool = False
) -> tuple[Fault | None, dict[Quantity, int]]:
    """Compare a record with its chain, without any engine.

    Args:
        run_dir: the folder of the run.
        unfinished: it was cut off, or is at work. What stands behind the last link is of a step
            that was never done, and is not compared.

    Returns:
        The first step and quantity that do not agree, if any. And how many steps have a quantity
        that could be compared, by quantity.

    Raises:
        FileNotFoundError: the run has no chain.
    """
    counts = dict.fromkeys(Quantity, 0)
    before: Link | None = None
    if not (run_dir / FILE).exists():
        raise FileNotFoundError(run_dir / FILE)
    try:
        whole = Record(run_dir)
        for step in whole.steps:
            record = whole.read(step)
            link = record.link
            if link is None:
                if unfinished and before is not None and step > whole.last_link:
                    break
                return Fault(step, FILE, f"step {step} is recorded and has no link"), counts
            if step and record.metrics is None:
                return Fault(step, "metrics.jsonl", f"step {step} is not in it"), counts
            found = record.digests()
            for quantity in Quantity:
                by_layer = quantity in (Quantity.GRADIENT, Quantity.WEIGHTS)
                if quantity not in found and not by_layer:
                    continue  # not recorded, such as tokens without tracking.rollout_tokens
                if found.get(quantity) != link.digests.get(quantity):
                    text = f"{quantity} of step {step}: not what the link was made of"
                    return Fault(step, quantity, text), counts
                counts[quantity] += quantity in found
            if link.chain != link.expected_chain():
                text = f"the link of step {step} is not what it was when it was written"
                return Fault(step, FILE, text), counts
            if before is not None and (link.previous, step) != (before.chain, before.step + 1):
                text = f"the link of step {step} does not follow that of step {before.step}"
                return Fault(step, FILE, text), counts
            before = link
    except DamagedRecordError as error:
        return Fault(error.step, "a damaged file", str(error)), counts
    return None, counts


def machine() -> dict[str, str]:
    """What the last bits of all numbers depend on: processor, its vector instructions as torch
    uses them, GPU, versions, and the commit of the code.
    """
    import torch

    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass  # not every system or architecture tells it there
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": processor,
        "vector": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        **versions(),
        "git": git_hash() or "unknown",
    }
