"""One problem once: conflicting answers, exact duplicates, near duplicates. The first one is
kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from data.cleaning import text
from data.cleaning.answers import answer_key, same_answer
from data.cleaning.base import Context, Dropped, Result, Stage
from data.cleaning.neighbours import first_similar
from data.types import Problem
from grpo.common.errors import UserError


class ConflictingAnswers(Stage):
    """One text with several different answers: at most one of them is right.

    `majority` keeps the rows of the answer that more than half of the rows give, `drop` keeps none.
    """

    name: ClassVar[str] = "conflicting_answers"
    resolve: Literal["majority", "drop"] = "majority"

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        reasons: dict[
            int, tuple[str, str]
        ] = {}  # position -> reason, id of the row it disagrees with
        for group in groups(map(_text_key, problems)):
            reasons |= self._judge([(i, problems[i]) for i in group])
        dropped = [
            Dropped(
                problem=problem,
                stage=self.name,
                reason=reasons[i][0],
                matched_id=reasons[i][1],
                similarity=1.0,
            )
            for i, problem in enumerate(problems)
            if i in reasons
        ]
        return Result([problem for i, problem in enumerate(problems) if i not in reasons], dropped)

    def _judge(self, rows: Sequence[tuple[int, Problem]]) -> dict[int, tuple[str, str]]:
        answers: list[list[tuple[int, Problem]]] = []  # rows by answer
        for row in rows:
            for same in answers:
                if same_answer(row[1].answer, same[0][1].answer):
                    same.append(row)
                    break
            else:
                answers.append([row])
        if len(answers) < 2:
            return {}
        best = max(answers, key=len)
        if self.resolve == "majority" and 2 * len(best) > len(rows):
            losers = [row for same in answers if same is not best for row in same]
            return {i: ("conflicting_answer_outvoted", best[0][1].id) for i, _ in losers}
        return {
            i: (
                "conflicting_answers",
                answers[0][0][1].id if same is not answers[0] else answers[1][0][1].id,
            )
            for same in answers
            for i, _ in same
        }


class ExactDuplicates(Stage):
    """The same text a second time, up to case, blanks and the looks of formulas."""

    name: ClassVar[str] = "exact_duplicates"

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        first: dict[int, int] = {}  # position of a repeat -> position of the first
        for group in groups(map(_text_key, problems)):
            first |= dict.fromkeys(group[1:], group[0])
        dropped = [
            Dropped(problem=problem, stage=self.name, reason="exact_duplicate",
                    matched_id=problems[first[i]].id, similarity=1.0)
            for i, problem in enumerate(problems)
            if i in first
        ]  # fmt: skip
        return Result([problem for i, problem in enumerate(problems) if i not in first], dropped)


class NearDuplicates(Stage):
    """Texts with the same numbers whose token sets have a Jaccard similarity of at least
    `threshold`.

    By default the answers must agree too: "smallest" and "largest" differ by one word, and a data
    set of templates is full of such pairs. Same text with another answer is the business of
    `conflicting_answers`.
    """

    name: ClassVar[str] = "near_duplicates"
    threshold: float = 0.8
    same_answer: bool = True

    def model_post_init(self, context: object, /) -> None:
        """Refuse values that cannot work together."""
        if not 0 < self.threshold <= 1:
            raise UserError(f"stages.{self.name}.threshold={self.threshold}: must be in (0, 1]")

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        matches: dict[
            int, tuple[int, float]
        ] = {}  # position of a repeat -> position of the first, similarity
        for block in groups(map(self._block, problems)):
            # token sets are large: those of one block at a time
            tokens = [text.first_view(problems[i].question).tokens for i in block]
            for i, (j, similarity) in first_similar(tokens, self.threshold).items():
                matches[block[i]] = (block[j], similarity)
        dropped = [
            Dropped(problem=problem, stage=self.name, reason="near_duplicate",
                    matched_id=problems[matches[i][0]].id, similarity=matches[i][1])
            for i, problem in enumerate(problems)
            if i in matches
        ]  # fmt: skip
        return Result([problem for i, problem in enumerate(problems) if i not in matches], dropped)

    def _block(self, problem: Problem) -> str:
        """Only problems of one block can be duplicates of each other."""
        numbers = " ".join(sorted(text.first_view(problem.question).numbers))
        return f"{numbers} | {answer_key(problem.answer)}" if self.same_answer else numbers


def groups(keys: Iterable[str]) -> list[list[int]]:
    """Positions that share a key, for every key that occurs more than once, in the order of the
    first.
    """
    first: dict[bytes, int] = {}  # a digest for the key: texts are long, and there may be a million
    repeated: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        position = first.setdefault(hashlib.blake2b(key.encode(), digest_size=16).digest(), i)
        if position != i:
            repeated.setdefault(position, [position]).append(i)
    return [repeated[position] for position in sorted(repeated)]


def _text_key(problem: Problem) -> str:
    return text.key(problem.question)
