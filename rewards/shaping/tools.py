"""A function call as JSON: partial credit for parsing, the name, the arguments' names and types,
and their values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rewards.registry import register
from rewards.responses import final_text
from rewards.types import Reward, Sample

_MAX_CHARS = 20_000
_PARTS = (("parse", 0.1), ("name", 0.2), ("arguments", 0.2), ("values", 0.5))


@register("function_call", bounded=True, check_gold=lambda text: _gold(text))
def function_call(sample: Sample) -> Reward:
    """0.1 for one JSON object after the thought, + 0.2 a known name, + 0.2 the right keys and
    types, + 0.5 the values.

    The gold is JSON: {"name": ..., "arguments": {...}}, with `tools` (known names) and `optional`
    (keys of arguments that may be left out) if need be. Keys and values count only for the gold's
    function. Types are those of JSON: "5" is not 5, true is not 1; 5.0 is 5. Other keys than the
    gold's are wrong.

    Raises:
        ValueError: the gold is not such JSON.
    """
    gold = _gold(sample.gold)
    final = final_text(sample)
    if isinstance(final, Reward):
        return final
    call = only_object(final)
    if call is None:
        return Reward(0.0, "no_call")
    name, arguments = call.get("name"), call.get("arguments")
    checks = [True, name in gold.get("tools", [gold["name"]])]
    if name != gold["name"] or not isinstance(arguments, dict):
        arguments = {"": None}  # no keys of the gold: neither part below holds
    checks.append(_same_keys(arguments, gold["arguments"], gold.get("optional", ())))
    checks.append(
        checks[-1]
        and all(_equal(value, gold["arguments"][key]) for key, value in arguments.items())
    )
    score = sum(weight for (_, weight), passed in zip(_PARTS, checks, strict=True) if passed)
    failed = next(
        (f"wrong_{part}" for (part, _), passed in zip(_PARTS, checks, strict=True) if not passed),
        "correct",
    )
    return Reward(score, failed, {"name": str(name)[:100]})


def only_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text; None when there is none, or more than one."""
    start = text.find("{")
    if start < 0 or len(text) - start > _MAX_CHARS:
        return None
    try:
        value, length = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    rest = text[start + length :]
    return value if isinstance(value, dict) and "{" not in rest else None


def _same_keys(arguments: Mapping[str, Any], gold: Mapping[str, Any], optional: Any) -> bool:
    """All keys that are needed, no others, and values of the gold's types."""
    needed = {key for key in gold if key not in optional}
    if not needed <= arguments.keys() <= gold.keys():
        return False
    return all(_kind(value) == _kind(gold[key]) for key, value in arguments.items())


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _equal(value: Any, gold: Any) -> bool:
    """Equality of JSON values, types included."""
    if _kind(value) != _kind(gold):
        return False
    if isinstance(gold, dict):
        return value.keys() == gold.keys() and all(_equal(value[key], gold[key]) for key in gold)
    if isinstance(gold, list):
        return len(value) == len(gold) and all(
            _equal(a, b) for a, b in zip(value, gold, strict=True)
        )
    return bool(value == gold)


def _gold(text: str) -> dict[str, Any]:
    try:
        gold = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the reward `function_call` needs JSON as gold: {error}") from None
    if (
        not isinstance(gold, dict)
        or not isinstance(gold.get("arguments"), dict)
        or "name" not in gold
    ):
        raise ValueError("the reward `function_call` needs a gold with `name` and `arguments`")
    return gold
