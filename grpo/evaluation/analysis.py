"""What recorded responses look like: reflection, efficiency, loops, languages and lengths.

All of it is measured on texts alone, with rules in place of the model that papers ask. Each rule
says where it errs.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo.common.errors import UserError
from grpo.common.files import read_jsonl
from rewards import registry
from rewards.extract import extract
from rewards.maths import IN_PROCESS, LimitError, Rules, same_answer
from rewards.shaping.language import count_words, question_language
from rewards.shaping.repetition import loop_period

# The later list of "There may not be aha moment in R1-Zero-like training" (Liu et al. 2025), which
# no longer has "try again": it is what a text says to a reader as well.
REFLECTION_WORDS = (
    "recheck", "rethink", "reassess", "reevaluate", "re-evaluate", "reevaluation", "re-examine",
    "reexamine", "reconsider", "reanalyze", "double-check", "check again", "think again",
    "verify again", "go over the steps",
)  # fmt: skip
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# A new attempt begins with one of these, at the start of a sentence.
_ATTEMPT = re.compile(
    r"(?:\A|(?<=[.!?…\n]))\s*(?:(?:but|so|hmm+|oh|no|okay|ok)[,.]?\s+)*"
    r"(?:wait|hold on|alternatively|on second thought|another (?:way|approach|method)"
    r"|let(?:'s| me| us) (?:re\w+|double[- ]check|check|verify|try (?:again|another)))\b",
    re.IGNORECASE,
)
_OPERATION = re.compile(r"\d+(?:\.\d+)?\s*[-+*/×·÷^]\s*\d+(?:\.\d+)?")
_MIN_LOOP = 60  # characters that must repeat, so that `aaa` or a table rule is no loop
_MIXED = 0.05  # share of words of another language from which a response counts as mixed
_MAX_TREND = 20  # lines of a trend; more steps are put together


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A response of a record. `right` is None where the record does not tell."""

    step: int | None
    problem_id: str
    prompt: str
    text: str
    gold: str
    right: bool | None
    tokens: int
    finish_reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One response, measured."""

    row: Recorded
    words: tuple[str, ...]  # reflection words, in order
    outcome: str | None  # what came of the first reflection; None without one
    rounds: int
    first_right: float | None  # tokens up to the end of the first right attempt
    distinct: float  # tokens of attempts that differ from all before them
    loops: bool
    compression: float  # bytes of the text / bytes when compressed
    languages: Counter[str]
    other_language: float  # share of words that are not in the prompt's language


def read_record(path: Path) -> list[Recorded]:
    """The responses of a run folder, a folder of rollouts, an evaluation, or a JSONL file.

    Raises:
        UserError: there are none, or rows of something else.
    """
    places = [path / "rollouts", path] if path.is_dir() else []
    files = next((found for p in places if (found := sorted(p.glob("step_*.jsonl")))), [])
    if not files:
        files = [path / "samples.jsonl" if path.is_dir() else path]
    if not files[0].is_file():
        raise UserError(
            f"{path}: no responses there; name a run folder, its rollouts/, the folder of an "
            "evaluation, or a JSONL file with a column `response`"
        )
    rows = []
    for file in files:
        try:
            for number, row in enumerate(read_jsonl(file), start=1):
                if not isinstance(row, dict) or not isinstance(row.get("response"), str):
                    raise UserError(f"{file}, line {number}: has no text `response`")
                rows.append(_recorded(row, number))
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: is no JSONL ({error})") from None
    if not rows:
        raise UserError(f"{path}: has no rows")
    return rows


def _recorded(row: Mapping[str, Any], number: int) -> Recorded:
    text, right = row["response"], row.get("right")
    if not isinstance(right, bool):
        right, reasons = None, row.get("reasons") or {}
        for name, score in (row.get("components") or {}).items():
            known = name in registry.names() and registry.entry(name).owns_gold
            # one that another reward has gated tells nothing of the answer
            if known and not str(reasons.get(name)).startswith("gated_by_"):
                right = score >= 1
                break
    return Recorded(
        step=row.get("step"),
        problem_id=f"{row.get('set', '')}/{row.get('problem_id', row.get('id', number))}",
        prompt=str(row.get("prompt", "")),
        text=text,
        gold=str(row.get("gold", "")),
        right=right,
        tokens=int(row.get("length", len(text.split()))),
        finish_reason=str(row.get("finish_reason", "unknown")),
    )


def reflection_words(text: str) -> list[tuple[int, str]]:
    """Reflection words and where they begin, in order. Words in code do not count.

    They overcount: the word may be about something else, and the check may check nothing. oat-zero
    takes only what a model confirms as reflection.
    """
    lower = _CODE.sub(lambda code: " " * len(code[0]), text).lower()
    found = [
        (match.start(), word)
        for word in REFLECTION_WORDS
        for match in re.finditer(re.escape(word), lower)
    ]
    return sorted(found)


def rounds(text: str) -> list[tuple[int, int, str]]:
    """The attempts of a response: start and end in characters, and the value each ends with.

    A new one begins at "Wait", "Alternatively", "Let me check" and the like. One without a value is
    a part of the next. The value is a stated answer, else the last number, so an attempt that ends
    in a formula outside a box is misread.
    """
    cuts = sorted({0, *(match.start() for match in _ATTEMPT.finditer(text)), len(text)})
    found: list[tuple[int, int, str]] = []
    start = 0
    for end in cuts[1:]:
        part = text[start:end]
        values = extract(part).candidates or extract(part, "last_number").candidates
        if values:
            found.append((start, end, values[-1]))
            start = end
    if found and start < len(text):  # what follows the last value belongs to it
        found[-1] = (found[-1][0], len(text), found[-1][2])
    return found


def outcome_efficiency(responses: Iterable[tuple[float, float | None]]) -> float:
    """Mean of (tokens up to the first right solution) / (all tokens); 0 for a wrong response.

    xi_O of "Do not think that much for 2+3=?" (Chen et al. 2024, arXiv:2412.21187, equation 1).

    Args:
        responses: all tokens, and those up to the end of the first right solution or None.
    """
    return fmean((first or 0.0) / max(tokens, 1) for tokens, first in responses)


def process_efficiency(responses: Iterable[tuple[float, float]]) -> float:
    """Mean of (tokens of solutions that differ from all earlier ones) / (all tokens): xi_P of the
    same paper (equation 2).
    """
    return fmean(distinct / max(tokens, 1) for tokens, distinct in responses)


def measure(row: Recorded) -> Measured:
    """Everything that is measured on one response."""
    text = row.text
    attempts = rounds(text)
    per_character = row.tokens / max(len(text), 1)
    verdicts = [_is(value, row.gold) for _, _, value in attempts]
    if row.right is not None and attempts:
        verdicts[-1] = row.right  # the grader has read the whole of it
    after = row.right if row.right is not None else bool(verdicts and verdicts[-1])
    first = next((end for (_, end, _), good in zip(attempts, verdicts, strict=True) if good), None)
    seen: set[tuple[str, ...]] = set()
    distinct = 0
    for start, end, _ in attempts:
        # Which operations were done stands for the reasoning; without any, the words do.
        operations = [re.sub(r"\s", "", found) for found in _OPERATION.findall(text[start:end])]
        key = tuple(operations or text[start:end].casefold().split())
        distinct += 0 if key in seen else end - start
        seen.add(key)
    words = reflection_words(text)
    language = question_language(row.prompt)
    languages = count_words(text, language)
    count = sum(languages.values())
    raw = text.encode("utf-8", errors="replace")
    return Measured(
        row=row,
        words=tuple(word for _, word in words),
        outcome=_outcome(text[: words[0][0]], row.gold, after) if words else None,
        rounds=len(attempts),
        first_right=None if first is None else first * per_character,
        distinct=distinct * per_character if attempts else float(row.tokens),
        loops=loop_period(text, min_length=_MIN_LOOP) is not None,
        compression=len(raw) / len(zlib.compress(raw)) if raw else 0.0,
        languages=languages,
        other_language=(count - languages[language]) / count if count else 0.0,
    )


def _is(value: str, gold: str) -> bool:
    try:
        return bool(gold) and same_answer(value, gold, Rules(), IN_PROCESS)
    except (LimitError, RecursionError):
        return False


def _outcome(before: str, gold: str, after: bool) -> str:
    """What the first reflection came to.

    Args:
        before: the text in front of it, whose last value is what it looks back on.
        gold: the right value.
        after: is the response right?
    """
    attempts = rounds(before)
    if not attempts:
        return "no_answer_before"
    names = {
        (True, True): "confirms",
        (False, True): "fixes",
        (True, False): "breaks",
        (False, False): "stays_wrong",
    }
    return names[_is(attempts[-1][2], gold), after]


def analyze(measured: Sequence[Measured]) -> dict[str, Any]:
    """The summary of some responses. What needs a verdict looks at those that have one."""
    judged = [one for one in measured if one.row.right is not None]
    reflecting = [one for one in measured if one.words]
    by_problem: dict[tuple[int | None, str], bool] = defaultdict(bool)  # any response to it
    for one in measured:
        by_problem[one.row.step, one.row.problem_id] |= bool(one.words)
    languages: Counter[str] = Counter()
    for one in measured:
        languages += one.languages
    total_words = sum(languages.values())
    groups = {
        "right": [one for one in judged if one.row.right],
        "wrong": [one for one in judged if not one.row.right and one.row.finish_reason != "length"],
        "cut_off": [one for one in measured if one.row.finish_reason == "length"],
    }

    def accuracy(some: Sequence[Measured]) -> float | None:
        verdicts = [one.row.right for one in some if one.row.right is not None]
        return fmean(verdicts) if verdicts else None

    return {
        "responses": len(measured),
        "problems": len(by_problem),
        "judged": len(judged),
        "accuracy": accuracy(measured),
        "reflection": {
            "response_share": len(reflecting) / len(measured),
            "problem_share": fmean(by_problem.values()),
            "accuracy_with": accuracy(reflecting),
            "accuracy_without": accuracy([one for one in measured if not one.words]),
            "right_with": sum(bool(one.row.right) for one in reflecting),
            "wrong_with": sum(one.row.right is False for one in reflecting),
            "right_without": sum(bool(one.row.right) for one in judged if not one.words),
            "wrong_without": sum(one.row.right is False for one in judged if not one.words),
            "outcomes": dict(Counter(one.outcome for one in reflecting)),
            "words": dict(Counter(w for one in measured for w in one.words).most_common()),
        },
        "efficiency": {
            "outcome": outcome_efficiency((one.row.tokens, one.first_right) for one in measured),
            "process": process_efficiency((one.row.tokens, one.distinct) for one in measured),
            "rounds": fmean(one.rounds for one in measured),
        },
        "repetition": {
            "loop_share": fmean(one.loops for one in measured),
            "loop_share_cut_off": _mean([float(one.loops) for one in groups["cut_off"]]),
            "compression": fmean(one.compression for one in measured),
            "finish_reasons": dict(Counter(one.row.finish_reason for one in measured)),
        },
        "language": {
            "mixed_share": fmean(one.other_language > _MIXED for one in measured),
            "other_share": fmean(one.other_language for one in measured),
            "words": {name: count / total_words for name, count in languages.most_common()},
        },
        "lengths": {
            "mean": fmean(one.row.tokens for one in measured),
            **{
                name: _mean([float(one.row.tokens) for one in some])
                for name, some in groups.items()
            },
        },
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def trend(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The summary of stretches of steps, in order; none for a record without steps."""
    by_step: dict[int, list[Measured]] = defaultdict(list)
    for one in measured:
        if one.row.step is not None:
            by_step[one.row.step].append(one)
    steps = sorted(by_step)
    width = -(-len(steps) // _MAX_TREND)
    found = []
    for start in range(0, len(steps), max(width, 1)):
        part = steps[start : start + width]
        summary = analyze([one for step in part for one in by_step[step]])
        found.append({"steps": [part[0], part[-1]], **summary})
    return found if len(steps) > 1 else []


def summary(path: Path) -> dict[str, Any]:
    """What `grpo analyze` says of a path."""
    measured = [measure(row) for row in read_record(path)]
    return {"path": str(path), **analyze(measured), "trend": trend(measured)}
