"""Rewards of images: detection, grounding and classification (Visual-RFT), one box (VLM-R1). Text
in, as everywhere.

Boxes are (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

from rewards.extract import extract, final_part
from rewards.registry import register
from rewards.types import Reward, Sample

Box = tuple[float, float, float, float]

_MAX_CHARS, _MAX_BOXES = 20_000, 300
_NUMBERS = re.compile(r"\[\s*(-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?){3})\s*\]", re.ASCII)


@register("detection", bounded=True, owns_gold=True)
def detection(
    sample: Sample, divide_by: Literal["larger", "predictions"] = "larger", min_iou: float = 0.5
) -> Reward:
    """Detection reward of Visual-RFT: R_IoU + R_conf.

    The answer is a JSON list of {"bbox": [x1, y1, x2, y2], "confidence": c}, the gold a JSON list
    of boxes. Repeated boxes are dropped; the most confident are matched first, each to the free
    gold box of largest IoU if that exceeds
    `min_iou`. R_IoU = sum of matched IoU / max(#gold, #predictions), R_conf = mean of c if matched
    else 1 - c.

    Args:
        divide_by: `predictions` is the first version of the paper's code, which rewards silence.

    Raises:
        ValueError: the gold is not a list of boxes.
    """
    golds = [_gold_box(item) for item in json.loads(sample.gold)]
    predictions = _predictions(_answer(sample))
    if not predictions:
        return Reward(0.0, "no_boxes")
    free = list(range(len(golds)))
    total = confidence = 0.0
    for box, sure in sorted(predictions.items(), key=lambda item: -item[1]):
        best = max(free, key=lambda k: iou(box, golds[k]), default=None)
        overlap = iou(box, golds[best]) if best is not None else 0.0
        matched = best is not None and overlap > min_iou
        if matched and best is not None:
            free.remove(best)
            total += overlap
        confidence += sure if matched else 1 - sure
    count = max(len(golds), len(predictions)) if divide_by == "larger" else len(predictions)
    parts = {"iou": total / count, "confidence": confidence / len(predictions)}
    return Reward(parts["iou"] + parts["confidence"], "ok", parts)


@register("grounding", bounded=True, owns_gold=True)
def grounding(sample: Sample, exact: float = 2.0) -> Reward:
    """GIoU + 1 of one box with the gold box, `exact` where they are the same (Visual-RFT
    on LISA).
    """
    gold = _gold_box(json.loads(sample.gold))
    box = _only_box(_answer(sample))
    if box is None:
        return Reward(0.0, "no_box")
    return Reward(exact if box == gold else giou(box, gold) + 1, "ok", {"box": list(box)})


@register("box_iou", bounded=True, owns_gold=True)
def box_iou(sample: Sample, scale_x: float = 1.0, scale_y: float = 1.0) -> Reward:
    """IoU of one box with the gold box (VLM-R1, referring expressions).

    Args:
        scale_x: from the model's input to the gold's pixels, width of the image / width of the
            input.
        scale_y: the same for heights.
    """
    gold = _gold_box(json.loads(sample.gold))
    box = _only_box(_answer(sample))
    if box is None:
        return Reward(0.0, "no_box")
    scaled = (box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y)
    return Reward(iou(scaled, gold), "ok", {"box": list(scaled)})


@register("class_name", bounded=True, owns_gold=True)
def class_name(sample: Sample, rule: Literal["substring", "equal"] = "substring") -> Reward:
    """1 when the answer names the class; blanks, underscores and case do not count.

    `substring` (Visual-RFT): either name may contain the other, but an empty answer contains
    nothing.
    """
    answer = _answer(sample)
    if answer is None:
        return Reward(0.0, "no_answer")
    name, gold = _folded(answer), _folded(sample.gold)
    if not name or not gold:
        return Reward(0.0, "empty_name")
    right = name == gold or (rule == "substring" and (name in gold or gold in name))
    return Reward(float(right), "correct" if right else "wrong", {"extracted": answer[:200]})


def iou(first: Box, second: Box) -> float:
    """Intersection over union; 0 for boxes without area."""
    shared = _area(_intersection(first, second))
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def giou(first: Box, second: Box) -> float:
    """Generalized IoU (Rezatofighi et al.): IoU - (hull - union) / hull, from -1 to 1."""
    union = _area(first) + _area(second) - _area(_intersection(first, second))
    hull = _area(
        (
            min(first[0], second[0]),
            min(first[1], second[1]),
            max(first[2], second[2]),
            max(first[3], second[3]),
        )
    )
    return iou(first, second) - (hull - union) / hull if hull > 0 else -1.0


def _intersection(first: Box, second: Box) -> Box:
    return (
        max(first[0], second[0]),
        max(first[1], second[1]),
        min(first[2], second[2]),
        min(first[3], second[3]),
    )


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _answer(sample: Sample) -> str | None:
    """The text in the answer tags of a complete response."""
    final = final_part(sample.response, prompt_opens_think=sample.prompt_opens_think)
    if sample.truncated or final is None:
        return None
    candidates = extract(final, "answer_tag").candidates
    return candidates[0] if len(candidates) == 1 and len(candidates[0]) <= _MAX_CHARS else None


def _predictions(answer: str | None) -> dict[Box, float]:
    """Boxes with their confidence; {} where the answer is malformed."""
    start, end = (answer or "").find("["), (answer or "").rfind("]")
    if answer is None or start < 0 or end < start:
        return {}
    try:
        items = json.loads(answer[start : end + 1])
    except (ValueError, RecursionError):
        return {}
    found: dict[Box, float] = {}
    for item in items if isinstance(items, list) and len(items) <= _MAX_BOXES else []:
        box = _box(item.get("bbox", item.get("Position"))) if isinstance(item, dict) else None
        sure = item.get("confidence", item.get("Confidence")) if isinstance(item, dict) else None
        if (
            box is None
            or isinstance(sure, bool)
            or not isinstance(sure, int | float)
            or not 0 <= sure <= 1
        ):
            return {}
        found.setdefault(box, float(sure))
    return found


def _only_box(answer: str | None) -> Box | None:
    found = _NUMBERS.findall(answer or "")
    return _box([float(number) for number in found[0].split(",")]) if len(found) == 1 else None


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        return None
    if any(not math.isfinite(v) if isinstance(v, float) else abs(v) > 10**9 for v in value):
        return None
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))


def _gold_box(value: Any) -> Box:
    box = _box(value.get("bbox") if isinstance(value, dict) else value)
    if box is None:
        raise ValueError(f"the gold is not a box [x1, y1, x2, y2]: {value!r}")
    return box


def _folded(text: str) -> str:
    return re.sub(r"[\s_]+", "", text).casefold()
