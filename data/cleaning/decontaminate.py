"""Decontamination: no training problem may be an evaluation problem, whole, nearly, or inside a
longer text.

Three tests, in this order; the first that holds gives the reason:
- `exact_text`: the same words, numbers, operators and brackets in the same order;
- `near_duplicate`: the same numbers, and a Jaccard similarity of token sets of at least `threshold`
in one of
  the views of `data.cleaning.text` (so a template with other numbers is another problem);
- `ngram_overlap`: at least `ngram_share` of the evaluation problem's word n-grams are in the
training
  problem, and all of its numbers. s1's rule, one common 8-gram, is `any_ngram`; it takes out a
  tenth of a competition set, because "find the number of ordered pairs of positive integers" is how
  such problems begin.

The evaluation side is indexed and every training problem is compared with all of the index: nothing
is sampled or hashed, so every pair over the threshold is found.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from data.cleaning import text
from data.cleaning.base import Context, Dropped, Result, Stage
from data.cleaning.parallel import map_ordered
from data.types import Problem
from grpo.common.errors import UserError

_MIN_NGRAMS = 4  # a text of a dozen words has too few n-grams for a share to mean anything


class Match(NamedTuple):
    """The evaluation problem that a text overlaps with, by position."""

    reason: str
    position: int
    similarity: float


class Decontaminate(Stage):
    """Takes out what overlaps with the evaluation sets given as `against`."""

    name: ClassVar[str] = "decontaminate"
    threshold: float = 0.8
    ngram: int = 8
    ngram_share: float = 0.8
    any_ngram: bool = False  # one common n-gram is enough, whatever the numbers

    def model_post_init(self, context: object, /) -> None:
        """Refuse values that cannot work together."""
        if not (0 < self.threshold <= 1 and 0 < self.ngram_share <= 1 and self.ngram >= 1):
            raise UserError(
                f"stages.{self.name}: threshold={self.threshold} and "
                f"ngram_share={self.ngram_share} must be "
                f"in (0, 1], ngram={self.ngram} at least 1"
            )

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        if not context.against:
            return Result(problems, [], {"against": 0})
        index = Index(context.against, self)
        kept: list[Problem] = []
        dropped: list[Dropped] = []
        matches = map_ordered(
            _match, index, [problem.question for problem in problems], context.workers
        )
        for problem, match in zip(problems, matches, strict=True):
            if match is None:
                kept.append(problem)
                continue
            other = context.against[match.position]
            dropped.append(
                Dropped(problem=problem, stage=self.name, reason=match.reason, matched_id=other.id,
                        similarity=match.similarity,
                        details={"matched_source": other.source, "matched_problem": other.question})
            )  # fmt: skip
        by_set = Counter(str(drop.details["matched_source"]) for drop in dropped)
        return Result(
            kept,
            dropped,
            {"against": len(context.against), "by_evaluation_set": dict(sorted(by_set.items()))},
        )

    def fingerprint(self, context: Context) -> str:
        """See `Stage.fingerprint`."""
        texts = json.dumps([[p.id, p.source, p.question] for p in context.against])
        own = json.dumps([self.name, self.options()], sort_keys=True)
        return own + hashlib.sha256(texts.encode()).hexdigest()


class Index:
    """The evaluation problems, prepared for comparison."""

    def __init__(self, against: Sequence[Problem], rules: Decontaminate) -> None:
        self.rules = rules
        self.keys: dict[str, int] = {}
        # one table for each view: numbers -> (position, tokens)
        self.tables: list[dict[frozenset[str], list[tuple[int, frozenset[str]]]]] = [
            defaultdict(list) for _ in text.read("").views
        ]
        self.grams: dict[str, list[int]] = defaultdict(list)  # n-gram -> positions
        self.gram_counts: dict[int, int] = {}
        self.numbers: list[frozenset[str]] = []
        for position, problem in enumerate(against):
            self._add(position, problem.question)

    def _add(self, position: int, question: str) -> None:
        reading = text.read(question)
        self.keys.setdefault(reading.key, position)
        for table, view in zip(self.tables, reading.views, strict=True):
            table[view.numbers].append((position, view.tokens))
        self.numbers.append(reading.views[0].numbers)
        grams = self._grams(reading.words)
        if len(grams) >= (1 if self.rules.any_ngram else _MIN_NGRAMS):
            self.gram_counts[position] = len(grams)
            for gram in grams:
                self.grams[gram].append(position)

    def match(self, question: str) -> Match | None:
        """The evaluation problem that this text overlaps with, or None."""
        reading = text.read(question)
        if (position := self.keys.get(reading.key)) is not None:
            return Match("exact_text", position, 1.0)
        return self._nearest(reading) or self._contained(reading)

    def _nearest(self, reading: text.Reading) -> Match | None:
        best: Match | None = None
        least = self.rules.threshold
        for table, view in zip(self.tables, reading.views, strict=True):
            for position, tokens in table.get(view.numbers, ()):
                smaller, larger = sorted((len(tokens), len(view.tokens)))
                if (
                    smaller < least * larger
                    or (similarity := text.jaccard(view.tokens, tokens)) < least
                ):
                    continue
                if best is None or similarity > best.similarity:
                    best = Match("near_duplicate", position, similarity)
        return best

    def _contained(self, reading: text.Reading) -> Match | None:
        counts = Counter(
            position for gram in self._grams(reading.words) for position in self.grams.get(gram, ())
        )
        shares = {
            position: count / self.gram_counts[position]
            for position, count in counts.items()
            if self.rules.any_ngram or self.numbers[position] <= reading.views[0].numbers
        }
        if not shares:
            return None
        position = max(shares, key=lambda p: (shares[p], -p))
        if shares[position] < self.rules.ngram_share and not self.rules.any_ngram:
            return None
        return Match("ngram_overlap", position, shares[position])

    def _grams(self, words: list[str]) -> set[str]:
        size = self.rules.ngram
        return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


def _match(index: Index, question: str) -> Match | None:
    return index.match(question)
