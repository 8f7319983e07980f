"""From the columns of known data sets to our fields. A mapping is a function `row -> Fields`.

Each one reads the columns of the published set named in its docstring. What a mapping does not use
stays in
`Problem.extra`. Anything that does not fit raises `RowFault` with the column and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.latex import last_boxed, strip_wrappers

Row = Mapping[str, Any]


class RowFault(ValueError):  # noqa: N818  (one row may be skipped; only a `UserError` stops a run)
    """One unusable row: the field at fault and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


QUESTION_COLUMNS = ("problem", "question", "prompt", "Problem", "Question")
ANSWER_COLUMNS = ("answer", "final_answer", "ground_truth", "gold", "Answer")


# What verl's preparations append to a question, and its relatives. The wording decides what is
# recognised.
_INSTRUCTION = re.compile(
    r"""\s*(?:(?:let['’]?s|please|you\ should)?\s*(?:think|reason)\s+step[\ -]by[\ -]step
    [\s,.;]*(?:and\s+)?)?
    (?:please\s+)?(?:output|put|give|write|provide|present)\s+(?:the|your)\s+final\s+answer\s+
    (?:after|within|in|inside)\s+["'`]?(?:\#\#\#\#|\\boxed\{[^{}]*\})["'`]?\.?["'`]?\s*\Z""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """What a mapping read from one row, before validation; `used` are the columns it consumed."""

    question: Any
    answer: Any
    used: tuple[str, ...]
    id: Any = None
    level: Any = None
    source: Any = None
    reward: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


RowMapping = Callable[[Row], Fields]


def columns(
    question: str | None = None,
    answer: str | None = None,
    id: str | None = None,
    level: str | None = None,
) -> RowMapping:
    """A mapping by column names; a name left out is found by the usual ones (`problem`, `question`,
    ...).
    """

    def read(row: Row) -> Fields:
        question_column = question or _present(row, QUESTION_COLUMNS, "question")
        # An evaluation set may have no answers, so a missing column is the validator's to refuse.
        answer_column = answer or next((name for name in ANSWER_COLUMNS if name in row), "answer")
        id_column, level_column = id or "id", level or "level"
        for name in filter(None, (question, answer, id, level)):
            _get(row, name)  # a column asked for by name must be there
        return Fields(
            question=_get(row, question_column),
            answer=row.get(answer_column),
            id=row.get(id_column),
            level=row.get(level_column),
            source=row.get("source"),
            reward=row.get("reward"),
            used=(question_column, answer_column, id_column, level_column, "source", "reward"),
        )

    return read


def gsm8k(row: Row) -> Fields:
    """openai/gsm8k: `question`, and `answer` = worked solution, `####`, number."""
    solution, mark, final = _text(row, "answer").rpartition("####")
    if not mark:
        raise RowFault(
            "answer", "has no '####' before the final number; is this the original GSM8K?"
        )
    return Fields(
        question=_get(row, "question"),
        answer=final.strip().replace(",", ""),
        id=row.get("id"),
        used=("question", "answer", "id"),
        extra={"solution": solution.strip()},
    )


def math(row: Row) -> Fields:
    r"""hendrycks/competition_math and its copies: `problem`, `solution` with a `\boxed{}`, `level`
    as "Level 3".
    """
    level = str(row.get("level") or "").removeprefix("Level ")
    return Fields(
        question=_get(row, "problem"),
        answer=row["answer"] if row.get("answer") else _boxed(row, "solution"),
        id=row.get("unique_id"),
        level=level if level.isdigit() else None,  # two problems of the set have "Level ?"
        used=("problem", "answer", "level", "unique_id"),
    )


def deepscaler(row: Row) -> Fields:
    """agentica-org/DeepScaleR-Preview-Dataset: `problem`, `answer`, `solution`; no ids."""
    return Fields(
        question=_get(row, "problem"),
        answer=_get(row, "answer"),
        id=row.get("id"),
        level=row.get("level"),
        used=("problem", "answer", "id", "level", "source"),
    )


def dapo(row: Row) -> Fields:
    """BytedTsinghua-SIA/DAPO-Math-17k: chat messages in `prompt`, the gold in
    `reward_model.ground_truth`.

    The instructions around the problem are taken off: our templates add their own. The set holds
    each problem about a hundred times under the same index, so the index is no id; the duplicate
    stage removes the copies.
    """
    messages = _get(row, "prompt")
    if not (isinstance(messages, (list, tuple)) and messages and isinstance(messages[-1], Mapping)):
        raise RowFault("prompt", "is not a list of chat messages")
    judge = _get(row, "reward_model")
    if not isinstance(judge, Mapping):
        raise RowFault("reward_model", "is not an object with `ground_truth`")
    parts = _text(messages[-1], "content").strip().split("\n\n")
    if parts[0].startswith("Solve the following math problem"):
        parts = parts[1:]
    if len(parts) > 1 and parts[-1].startswith("Remember to put your answer"):
        parts = parts[:-1]
    question = _INSTRUCTION.sub("", "\n\n".join(parts).strip())
    info = row.get("extra_info")
    extra = {"dapo_index": info["index"]} if isinstance(info, Mapping) and "index" in info else {}
    return Fields(
        question=question,
        answer=_get(judge, "ground_truth"),
        used=("prompt", "reward_model", "extra_info"),
        extra=extra,
    )


def aime(row: Row) -> Fields:
    """AIME sets (HuggingFaceH4/aime_2024, Maxwell-Jia/AIME_2024, math-ai/aime25): integers, some as
    `033`.
    """
    return _contest(row, "AIME", range(1000))


def amc(row: Row) -> Fields:
    """AI-MO/aimo-validation-amc, math-ai/amc23: answers are whole numbers, stored as floats in the
    first.
    """
    return _contest(row, "AMC", None)


def minerva(row: Row) -> Fields:
    r"""math-ai/minervamath (`question`, `answer`), knoveleng/Minerva-Math (`problem`, boxed
    `solution`).
    """
    question = _present(row, QUESTION_COLUMNS, "question")
    return Fields(
        question=row[question],
        answer=row["answer"] if row.get("answer") is not None else _boxed(row, "solution"),
        id=row.get("id"),
        used=(question, "answer", "id"),
    )


def olympiadbench(row: Row) -> Fields:
    """OlympiadBench: `question`, `final_answer` as a list of strings; several values become a comma
    list.
    """
    column = _present(row, ("final_answer", "answer"), "answer")
    values = row[column] if isinstance(row[column], (list, tuple)) else [row[column]]
    if not values or not all(isinstance(value, str) for value in values):
        raise RowFault(
            column, "is not a text or a non-empty list of texts (a proof problem has none)"
        )
    question = _present(row, QUESTION_COLUMNS, "question")
    return Fields(
        question=row[question],
        answer=", ".join(strip_wrappers(value) for value in values),
        id=row.get("id"),
        used=(question, column, "id"),
    )


def countdown(row: Row) -> Fields:
    """Jiayi-Pan/Countdown-Tasks-3to4: `nums` and `target`; the question is put in our words."""
    from data.generators.countdown import (
        pose,
    )  # here, because generators are not needed to read files

    numbers, target = _get(row, "nums"), _get(row, "target")
    if not isinstance(target, int) or not isinstance(numbers, (list, tuple)) or len(numbers) < 2:
        raise RowFault("nums", "needs at least two whole numbers, and `target` one")
    question, answer = pose([int(number) for number in numbers], target)
    return Fields(
        question=question,
        answer=answer,
        id=row.get("id"),
        used=("nums", "target", "id"),
        reward="countdown",
    )


MAPPINGS: dict[str, RowMapping] = {
    "plain": columns(),
    "gsm8k": gsm8k,
    "math": math,
    "deepscaler": deepscaler,
    "dapo": dapo,
    "aime": aime,
    "amc": amc,
    "minerva": minerva,
    "olympiadbench": olympiadbench,
    "countdown": countdown,
}


def _contest(row: Row, name: str, allowed: range | None) -> Fields:
    question = _present(row, QUESTION_COLUMNS, "question")
    answer_column = _present(row, ANSWER_COLUMNS, "answer")
    text = re.sub(r"\.0+$", "", str(row[answer_column]).strip().strip("$"))
    if not re.fullmatch(r"-?\d+", text):
        raise RowFault(answer_column, f"{text[:40]!r} is not a whole number, as {name} answers are")
    value = int(text)
    if allowed is not None and value not in allowed:
        raise RowFault(answer_column, f"{value} is outside {allowed.start}..{allowed.stop - 1}")
    id_column = "id" if "id" in row else "ID"
    return Fields(
        question=row[question],
        answer=str(value),
        id=row.get(id_column),
        used=(question, answer_column, id_column),
    )


def _present(row: Row, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in row:
            return name
    raise RowFault(
        what,
        f"none of the columns {', '.join(names)} is there; the row has {column_names(row)}",
    )


def _get(row: Row, name: str) -> Any:
    if name not in row:
        raise RowFault(name, f"no such column; the row has {column_names(row)}")
    return row[name]


def _text(row: Row, name: str) -> str:
    value = _get(row, name)
    if not isinstance(value, str):
        raise RowFault(name, f"is {type(value).__name__}, not text")
    return value


def _boxed(row: Row, name: str) -> str:
    answer = last_boxed(_text(row, name))
    if answer is None:
        raise RowFault(name, r"has no complete \boxed{} to take the answer from")
    return answer


def column_names(row: Row) -> str:
    """The columns of a row, for messages."""
    names = ", ".join(sorted(str(name) for name in row)[:12])
    return names[:200] or "no columns"
