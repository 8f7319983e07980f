"""s1's selection of a small set: quality, then difficulty, then diversity.

1. Quality: rows that a failed call or a broken text left behind go out.
2. Difficulty: what a reference model solves goes out (`pass_rate` at or above `solved_at`).
3. Diversity: hard benchmark-like rows seed the set; then a domain is drawn uniformly, and in it one
row with
   weight 2^(-rank), rank 0 being the *longest* trace, without replacement, until the set is full.

A row may carry `trace` (or `solution`, whose length stands for it), `domain` and `pass_rate`;
without a domain all rows are of one domain, without a trace the length of the question decides.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

from data.cleaning.base import Context, Dropped, Result, Stage
from data.types import Problem
from grpo.common.errors import UserError

_BROKEN = re.compile(
    r"\[asy\]|!\[[^\]]*\]\(|<img|\\includegraphics|(?:error|exception): |rate limit|\ufffd"
    r"|(?:^|\n)[ ]*[-+|/\\_=*]{6,}[ ]*(?:\n|$)",  # ruled lines: a drawing in characters
    re.I,
)
_NUMBERED = re.compile(r"(?:^|\n)\s*(\d{1,2})[.)]\s")


class SelectS1(Stage):
    """Draws `size` problems: well formed, unsolved, and spread over domains with long traces
    preferred.
    """

    name: ClassVar[str] = "select_s1"
    size: int = 1000
    seed: int = 0
    solved_at: float = 1.0  # a pass rate from which a problem counts as solved
    seed_sources: tuple[str, ...] = ()  # sources of which every row is taken first
    seed_trace_over: int | None = (
        None  # of those, only rows with longer traces (s1: 5,600 tokens for MATH)
    )
    uniform_size: int | None = (
        None  # up to here domains are drawn uniformly, then in the shares of `domain_shares`
    )
    domain_shares: tuple[tuple[str, float], ...] = ()

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        if self.size < 1:
            raise UserError(f"stages.select_s1.size={self.size}: must be at least 1")
        dropped: dict[int, str] = {}
        for i, problem in enumerate(problems):
            if reason := self._unfit(problem):
                dropped[i] = reason
        pool = [i for i in range(len(problems)) if i not in dropped]
        chosen = self._diverse(problems, pool)
        dropped |= dict.fromkeys((i for i in pool if i not in chosen), "not_drawn")
        return Result(
            [problem for i, problem in enumerate(problems) if i in chosen],
            [
                Dropped(problem=problems[i], stage=self.name, reason=dropped[i])
                for i in sorted(dropped)
            ],
            {"domains": len({_domain(problems[i]) for i in chosen})},
        )

    def _unfit(self, problem: Problem) -> str | None:
        if _BROKEN.search(problem.question) or not _counts_up(problem.question):
            return "low_quality"
        rate = problem.extra.get("pass_rate")
        return "solved" if rate is not None and rate >= self.solved_at else None

    def _diverse(self, problems: Sequence[Problem], pool: Sequence[int]) -> set[int]:
        rng = random.Random(f"select_s1/{self.seed}")
        least = -1 if self.seed_trace_over is None else self.seed_trace_over
        seeds = [
            i
            for i in pool
            if problems[i].source in self.seed_sources and trace_length(problems[i]) > least
        ]
        chosen = set(seeds[: self.size])
        domains: dict[str, list[int]] = defaultdict(list)  # longest trace first
        for i in sorted(pool, key=lambda i: (-trace_length(problems[i]), i)):
            if i not in chosen:
                domains[_domain(problems[i])].append(i)
        shares = dict(self.domain_shares)
        uniform = self.size if self.uniform_size is None else self.uniform_size
        while domains and len(chosen) < self.size:
            names = sorted(domains)
            weights = [shares.get(name, 0.0) for name in names] if len(chosen) >= uniform else []
            name = rng.choices(names, weights)[0] if sum(weights) > 0 else rng.choice(names)
            chosen.add(domains[name].pop(draw_rank(len(domains[name]), rng)))
            if not domains[name]:
                del domains[name]
        return chosen


def draw_rank(count: int, rng: random.Random) -> int:
    """A rank in 0..count-1 with probability proportional to 2^(-rank)."""
    # beyond 60 halvings the weights are under the resolution of a double
    return rng.choices(range(min(count, 60)), [2.0**-rank for rank in range(min(count, 60))])[0]


def trace_length(problem: Problem) -> int:
    """Length of the reasoning trace: tokens when the row says so, else characters."""
    if isinstance(tokens := problem.extra.get("trace_tokens"), int):
        return tokens
    return len(str(problem.extra.get("trace") or problem.extra.get("solution") or problem.question))


def _domain(problem: Problem) -> str:
    return str(problem.extra.get("domain", ""))


def _counts_up(question: str) -> bool:
    """False when a numbered list skips or repeats a number, as torn texts do."""
    numbers = [int(number) for number in _NUMBERED.findall(question)]
    return (
        len(numbers) < 2
        or numbers[0] > 1
        or numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )
