"""From raw rows to validated `Problem`s. Every row is looked at before any work starts.

A bad row stops the run, unless the caller allows `max_bad_rows` of them; then each is skipped,
counted and kept with its line, field and reason. Nothing is repaired in silence, and nothing is
truncated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data.errors import DataError, RowFault
from data.loading.records import Record
from data.mappings import Fields, RowMapping
from data.types import Problem

_SURROGATE = re.compile("[\ud800-\udfff]")
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
            DataError: no row at all, or none that fits the mapping.
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
            raise DataError(f"{file}: no rows")
        if not problems:
            raise DataError(
                f"{file}: none of the {len(bad)} rows can be used; the first: line {bad[0].line}: "
                f"{bad[0].field}: {bad[0].reason}"
            )
        return problems

    def check(self) -> None:
        """Stop when there are more bad rows than allowed.

        Raises:
            DataError: with the first few bad rows and how to skip them.
        """
        if len(self.bad_rows) <= self.max_bad_rows:
            return
        shown = "; ".join(str(row) for row in self.bad_rows[:_SHOWN])
        more = len(self.bad_rows) - _SHOWN
        raise DataError(
            f"{len(self.bad_rows)} bad rows, {self.max_bad_rows} allowed: {shown}"
            + (f"; and {more} more" if more > 0 else "")
            + f". Mend them, or skip them with max_bad_rows={len(self.bad_rows)}"
        )

    def _problem(self, fields: Fields, record: Record, source: str, file: str) -> Problem:
        assert record.row is not None
        question = _text(fields.question, "question")
        answer = _answer(fields.answer) if self.need_answer else str(fields.answer or "")
        problem_id = f"{source}-{record.line:07d}" if fields.id is None else _identifier(fields.id)
        level = None if fields.level is None else _identifier(fields.level, "level")
        origin = _text(fields.source, "source") if fields.source is not None else source
        extra = {
            key: value for key, value in record.row.items() if key not in fields.used
        } | fields.extra
        if self.unique_ids:
            self._claim(problem_id, (file, record.line))
        return Problem(
            id=problem_id, question=question, answer=answer, source=origin, level=level, extra=extra
        )

    def _claim(self, problem_id: str, here: tuple[str, int]) -> None:
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


def _answer(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowFault("answer", f"is {value}")
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return _text(value, "answer")


def _identifier(value: Any, name: str = "id") -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, name)
