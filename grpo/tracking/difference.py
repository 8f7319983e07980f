"""The first quantity in which the records of two runs part, in causal order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grpo.tracking.chain import ARRAYS, SETTINGS_KEYS, Quantity, Record, StepRecord, is_timed

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs part. All that comes later may follow from it."""

    step: int
    quantity: Quantity
    text: str


def first_difference(first: Record, second: Record, steps: Sequence[int]) -> Difference | None:
    """The first step, and in it the first quantity, in which two records differ.

    What both folders still have is compared itself, and of the rest the digests of both chains.
    Times are not compared.

    Args:
        first: one run.
        second: the other one.
        steps: those to compare, in order.

    Raises:
        DamagedRecordError: a file of one of them cannot be read.
    """
    for step in steps:
        ours, theirs = first.read(step), second.read(step)
        found = [_digests(record) for record in (ours, theirs)]
        for quantity in Quantity:
            a, b = (digests.get(quantity) for digests in found)
            if a is not None and b is not None and a != b:
                text = _detail(quantity, ours, theirs)
                stages = [(one.metrics or {}).get("stage") for one in (ours, theirs)]
                if stages[0] != stages[1]:
                    text += f"; stage {stages[0]} against {stages[1]}"
                return Difference(step, quantity, text)
    return None


def _digests(record: StepRecord) -> dict[Quantity, str]:
    """Made anew from what is there. Those of the link stand for what is not."""
    return {**(record.link.digests if record.link is not None else {}), **record.digests()}


def _detail(quantity: Quantity, ours: StepRecord, theirs: StepRecord) -> str:
    """Which sample, token, setting or layer it is, with both values."""
    if quantity in (Quantity.GRADIENT, Quantity.WEIGHTS):
        assert ours.link is not None and theirs.link is not None
        if quantity is Quantity.GRADIENT:
            return _layers(ours.link.gradients, theirs.link.gradients)
        return _layers(ours.link.weights, theirs.link.weights)
    if quantity is Quantity.SETTINGS and ours.metrics is not None and theirs.metrics is not None:
        a, b = ours.metrics, theirs.metrics
        return _keys(SETTINGS_KEYS, a, b)
    if ours.rows is None or theirs.rows is None:
        return "by their digests; the samples of one of the runs are not there any more"
    if len(ours.rows) != len(theirs.rows):
        return f"{len(ours.rows)} samples against {len(theirs.rows)}"
    if quantity is Quantity.DATA:
        return _data(ours.rows, theirs.rows)
    if quantity is Quantity.RECORD:
        a, b = ours.metrics or {}, theirs.metrics or {}
        names = sorted(name for name in {*a, *b} if not is_timed(name))
        if told := _keys(names, a, b):
            return f"metrics.jsonl, {told}"
    for i, (a, b) in enumerate(zip(ours.rows, theirs.rows, strict=True)):
        if told := _sample(quantity, a, b):
            return f"sample {i} (problem {a['problem_id']}), {told}"
    return "by their digests; arrays are recorded in one of the runs only"


def _data(ours: Rows, theirs: Rows) -> str:
    ids = [[row["problem_id"] for row in rows] for rows in (ours, theirs)]
    order = ", the same problems in another order" if sorted(ids[0]) == sorted(ids[1]) else ""
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in ("problem_id", "prompt", "gold"):
            if a[key] != b[key]:
                order = order if ids[0] != ids[1] else ""
                return f"sample {i}, {key}: {a[key]!r} against {b[key]!r}{order}"
    raise AssertionError("digests of equal data differ")


def _sample(quantity: Quantity, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """How one sample differs in a quantity; empty where it does not."""
    if quantity is Quantity.TOKENS:
        for name in ("prompt_token_ids", "token_ids", "versions"):
            if name in a and name in b and (told := _array(name, a[name], b[name])):
                earlier = _array("log-prob", a["logprobs"], b["logprobs"])
                return f"{told}; its log-probs part at: {earlier}" if earlier else told
    elif quantity is Quantity.LOGPROBS:
        return _array("log-prob", a["logprobs"], b["logprobs"]) if "logprobs" in a else ""
    elif quantity is Quantity.REWARDS:
        return _keys(("reward", "components"), a, b)
    elif quantity is Quantity.ADVANTAGES:
        return _keys(("advantage",), a, b)
    elif quantity is Quantity.RECORD:
        return _keys([name for name in a if name not in ARRAYS], a, b)
    return ""


def _array(name: str, a: Any, b: Any) -> str:
    """The first token in which two arrays differ, counted from 0; empty where none does."""
    shared = min(len(a), len(b))
    different = np.flatnonzero(a[:shared].view(np.int32) != b[:shared].view(np.int32))
    if len(different):
        t = int(different[0])
        return f"{name} of token {t}: {a[t]!s} against {b[t]!s}"
    return "" if len(a) == len(b) else f"{name}: {len(a)} tokens against {len(b)}"


def _layers(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    different = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    told = ", ".join(f"{n} ({a.get(n)} against {b.get(n)})" for n in different[:3])
    more = ", ..." if len(different) > 3 else ""
    return f"{len(different)} of {len({**a, **b})} layers: {told}{more}"


def _keys(names: Sequence[str], a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    told = [f"{n}: {a.get(n)!r} against {b.get(n)!r}" for n in names if a.get(n) != b.get(n)]
    return "; ".join(told)
