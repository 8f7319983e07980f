"""From raw rows to validated `Problem`s. Every row is looked at before any work starts.

A bad row stops the run, unless the caller allows `max_bad_rows` of them; then each is skipped,
counted and kept with its line, field and reason. Nothing is repaired in silence, and nothing is
truncated.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from data.sources.mappings import Fields, RowFault, RowMapping, column_names
from data.sources.records import Record
from data.types import Problem
from grpo.common.errors import UserError
from rewards import registry
from rewards.types import names_of

_SURROGATE = re.compile("[\ud800-\udfff]")
_WORKED = re.compile(r"####[^\n#]*\Z")  # how a worked solution of GSM8K ends
_QUOTED_LIST = re.compile(r"""\s*\[\s*["']""")  # a list of texts, as JSON or Python prints it
_SHOWN = 5  # bad rows spelt out in the message; all of them are in the report


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was refused: where it stands, and why."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.field}: {self.reason}"


@dataclass(slots=True)
class Validator:
    """Turns records into problems and remembers the ids of all sources of a run, so that they stay
    unique.
    """

    max_bad_rows: int = 0
    need_answer: bool = True  # an evaluation set is compared by its questions only
    unique_ids: bool = True  # several evaluation sets may count from 0
    bad_rows: list[BadRow] = field(default_factory=list)
    _seen: dict[str, tuple[str, int]] = field(default_factory=dict)  # id -> file, line

    def problems(
        self, records: Iterable[Record], mapping: RowMapping, source: str, file: str
    ) -> list[Problem]:
        """The good rows of one source, in order; bad rows go to `bad_rows`.

        Raises:
            UserError: no row at all, or none that fits the mapping.
        """
        problems: list[Problem] = []
        before = len(self.bad_rows)
        for record in records:
            try:
                if record.row is None:
                    raise RowFault("row", record.fault or "unreadable")
                problems.append(self._problem(mapping(record.row), record, source, file))
            except RowFault as fault:
                self.bad_rows.append(BadRow(file, record.line, fault.field, fault.reason))
        bad = self.bad_rows[before:]
        if not problems and not bad:
            raise UserError(f"{file}: no rows")
        if not problems:
            raise UserError(
                f"{file}: none of the {len(bad)} rows can be used; the first: line {bad[0].line}: "
                f"{bad[0].field}: {bad[0].reason}"
            )
        return problems

    def check(self) -> None:
        """Stop when there are more bad rows than allowed.

        Raises:
            UserError: with the first few bad rows and how to skip them.
        """
        if len(self.bad_rows) <= self.max_bad_rows:
            return
        shown = "; ".join(str(row) for row in self.bad_rows[:_SHOWN])
        more = len(self.bad_rows) - _SHOWN
        raise UserError(
            f"{len(self.bad_rows)} bad rows, {self.max_bad_rows} allowed: {shown}"
            + (f"; and {more} more" if more > 0 else "")
            + f". Mend them, or skip them with max_bad_rows={len(self.bad_rows)}"
        )

    def _problem(self, fields: Fields, record: Record, source: str, file: str) -> Problem:
        assert record.row is not None
        question = _text(fields.question, "question")
        reward = None if fields.reward is None else _names(fields.reward)
        # A preference needs no gold. Its component has a name of the recipe's choice.
        checked = not reward or any(map(registry.owns_gold, names_of(reward)))
        absent = fields.answer is None or fields.answer == ""
        if self.need_answer and checked and fields.answer is None:
            raise RowFault(
                "answer",
                f"is missing; the row has {column_names(record.row)}. Name the column: columns: "
                "{answer: NAME} in a recipe, --answer-column NAME for data.prepare. Rows that a "
                "reward model scores name its component in the column reward",
            )
        if self.need_answer and (checked or not absent):
            answer = _answer(fields.answer)
        else:
            answer = str(fields.answer or "")
        if self.need_answer and _WORKED.search(answer):
            raise RowFault(
                "answer",
                "is a whole worked solution that ends in #### and the answer, as in GSM8K; "
                "read it with mapping: gsm8k (--mapping gsm8k)",
            )
        problem_id = f"{source}-{record.line:07d}" if fields.id is None else _identifier(fields.id)
        level = None if fields.level is None else _identifier(fields.level, "level")
        origin = _text(fields.source, "source") if fields.source is not None else source
        extra = {
            key: value for key, value in record.row.items() if key not in fields.used
        } | fields.extra
        if self.unique_ids:
            self.claim(problem_id, (file, record.line))
        return Problem(
            id=problem_id,
            question=question,
            answer=answer,
            source=origin,
            level=level,
            reward=reward,
            extra=extra,
        )

    def claim(self, problem_id: str, here: tuple[str, int]) -> None:
        """Note that an id is taken.

        Raises:
            RowFault: another row has it.
        """
        if (first := self._seen.setdefault(problem_id, here)) is not here:
            raise RowFault(
                "id", f"duplicate id {problem_id!r}, first used in {first[0]}, line {first[1]}"
            )


def _text(value: Any, name: str) -> str:
    if value is None:
        raise RowFault(name, "is missing")
    if not isinstance(value, str):
        raise RowFault(name, f"is {type(value).__name__}, not text")
    if "\0" in value:
        raise RowFault(name, "holds a NUL byte")
    if _SURROGATE.search(value):
        raise RowFault(name, "holds half of a surrogate pair")
    if not (stripped := value.strip()):
        raise RowFault(name, "is empty")
    return stripped


def _names(value: Any) -> str | tuple[str, ...]:
    """What a row's `reward` names: one component or a list of them."""
    if not isinstance(value, list):
        return _text(value, "reward")
    if not value:
        raise RowFault("reward", "is an empty list")
    return tuple(_text(name, "reward") for name in value)


def _answer(value: Any) -> str:
    """The gold as text. A list of one text is that text; a longer one would need a choice."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowFault("answer", f"is {value}")
        if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        return f"{Decimal(repr(value)):f}"  # 1e-05 is 0.00001 to a reader of answers
    if isinstance(value, str) and _QUOTED_LIST.match(value):
        # A list of JSON, or as Python prints one. Anything else is an answer like any other.
        for read in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = read(value.strip())
                break
    if isinstance(value, list):
        if len(value) != 1:
            raise RowFault(
                "answer",
                f"is a list of {len(value)}; write alternatives or parts as one answer",
            )
        return _answer(value[0])
    return _text(value, "answer")


def _identifier(value: Any, name: str = "id") -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, name)
