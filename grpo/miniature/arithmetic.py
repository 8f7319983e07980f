"""Arithmetic with order of operations: problems, worked solutions, and text to pre-train a base
model on.

A problem is an expression of 3 or 4 numbers with exactly one product, such as `7+3*4-5`. No step of
its solution is negative. The split of an expression is a function of its text alone, so training
and held-out problems are disjoint whatever the seeds. A held-out expression occurs nowhere in the
pre-training text, not even as a part of a longer expression.

Left out on purpose: brackets, division, several products; a model of half a million parameters does
not need them to show that thinking in steps pays.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.templates import TEMPLATES
from data.types import Problem
from grpo.common.recipes import Settings

Split = Literal["train", "held_out"]
Style = Literal["worked", "bare", "none"]

SOURCE = "arithmetic"
HELD_OUT_SHARE = 0.1  # of all expressions
TEMPLATE = TEMPLATES["dialogue"]

_STEP = re.compile(r"\d+[-+*]\d+=\d+")
_SEVERAL = re.compile(r"\d[-+*]\d+[-+*]\d+")
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


class ArithmeticSpec(Settings):
    """Which expressions there are."""

    lengths: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (3, 4)
    """Numbers in an expression."""
    max_term: Annotated[int, Field(ge=1)] = 20
    """Numbers outside the product are 1 ... max_term."""
    max_factor: Annotated[int, Field(ge=2)] = 9
    """Numbers inside the product are 2 ... max_factor."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Numbers with operators between them; products come first, then left to right."""

    numbers: tuple[int, ...]
    operators: tuple[str, ...]

    @property
    def text(self) -> str:
        """The canonical form, which decides the split."""
        tail = "".join(f"{op}{n}" for op, n in zip(self.operators, self.numbers[1:], strict=True))
        return f"{self.numbers[0]}{tail}"

    def steps(self) -> list[tuple[int, str, int, int]]:
        """The solution, one operation at a time: (left, operator, right, result)."""
        numbers, operators, done = list(self.numbers), list(self.operators), []
        while operators:
            i = operators.index("*") if "*" in operators else 0
            left, op, right = numbers[i], operators.pop(i), numbers.pop(i + 1)
            numbers[i] = _APPLY[op](left, right)
            done.append((left, op, right, numbers[i]))
        return done

    def parts(self) -> Iterator[Expression]:
        """All runs of three or more of its numbers, the whole included."""
        size = len(self.numbers)
        for start in range(size - 2):
            for stop in range(start + 3, size + 1):
                yield Expression(self.numbers[start:stop], self.operators[start : stop - 1])


def is_held_out(expression: Expression) -> bool:
    """The split of an expression: a hash of its text, the same on every machine and for
    every seed.
    """
    digest = hashlib.blake2b(expression.text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


def expressions(spec: ArithmeticSpec, split: Split, rng: random.Random) -> Iterator[Expression]:
    """An endless stream of random expressions of one split; repeats occur.

    No part of a training expression is held out: `7+3*4-5` would show `7+3*4`.
    """
    return (
        expression for expression in _valid_expressions(spec, rng) if _in_split(expression, split)
    )


def problems(spec: ArithmeticSpec, split: Split, *, seed: int) -> Iterator[Problem]:
    """An endless stream of problems of one split; repeats occur, and equal problems have
    equal ids.
    """
    for expression in expressions(spec, split, random.Random(f"{split}-{seed}")):
        yield as_problem(expression)


def distinct_problems(
    spec: ArithmeticSpec, split: Split, count: int, *, seed: int
) -> list[Problem]:
    """`count` different problems of one split.

    Raises:
        ValueError: the split seems to have fewer problems than that.
    """
    found: dict[str, Problem] = {}
    draws = itertools.islice(
        _valid_expressions(spec, random.Random(f"{split}-{seed}")), 1000 * count
    )
    for expression in draws:
        if _in_split(expression, split):
            problem = as_problem(expression)
            found.setdefault(problem.id, problem)
            if len(found) == count:
                return list(found.values())
    raise ValueError(f"the {split} split of {spec} has about {len(found)} problems, not {count}")


def as_problem(expression: Expression) -> Problem:
    """The expression as a question with a checkable answer."""
    return Problem(
        id=f"{SOURCE}:{expression.text}",
        question=expression.text,
        answer=str(expression.steps()[-1][-1]),
        source=SOURCE,
        level=f"{len(expression.numbers)} numbers",
    )


def worked_response(
    expression: Expression, *, hasty: bool = False, slips: Iterable[int] = ()
) -> str:
    """A response that thinks one operation at a time, each on a line of its own.

    What follows the tag, a line break here and a space in `bare_response`, makes "work it out" one
    decision, the same for every question. A policy needs far fewer samples to learn that than a
    choice that hangs on the numbers.

    Args:
        expression: the question.
        hasty: the whole sum that is left after the product stands on one line.
        slips: what is added to the result of each line, and carried on; 0 where there are fewer.
    """
    rest, thought, off = expression, "", iter(slips)
    while rest.operators:
        numbers, operators = rest.numbers, rest.operators
        product = "*" in operators
        i = operators.index("*") if product else 0
        stop = len(operators) if hasty and not product else i + 1
        line = Expression(numbers[i : stop + 1], operators[i:stop])
        result = max(0, line.steps()[-1][-1] + next(off, 0))
        thought += f"{line.text}={result}\n"
        rest = Expression(
            (*numbers[:i], result, *numbers[stop + 1 :]), (*operators[:i], *operators[stop:])
        )
    return f"<think>\n{thought}</think><answer>{rest.numbers[0]}</answer>"


def bare_response(expression: Expression, slip: int = 0) -> str:
    """A response that keeps to the format but only restates the question before an answer, maybe
    off.
    """
    stated = abs(expression.steps()[-1][-1] + slip)
    return f"<think> {expression.text} </think><answer>{stated}</answer>"


def untagged_response(expression: Expression, slip: int = 0) -> str:
    """A response that just says an answer, which may be off."""
    return f" {abs(expression.steps()[-1][-1] + slip)}"


def solution_style(response: str) -> Style:
    """How a response got to its answer: `worked` has steps in its thought, `bare` none, `none` no
    thought.
    """
    thought = _THOUGHT.search(response)
    if thought is None:
        return "none"
    return "worked" if _STEP.search(thought[1]) else "bare"


def is_hasty(response: str) -> bool:
    """Does a worked response have a line with several operations?"""
    thought = _THOUGHT.search(response)
    return thought is not None and _SEVERAL.search(thought[1]) is not None


Share = Annotated[float, Field(ge=0, le=1)]


class CorpusSpec(Settings):
    """The mix of the pre-training text, as shares of its documents; the rest are arithmetic facts.

    Like text that people write, answers without work are often wrong: `slips` is the share of
    those that are off. With `hasty` and `step_slips` the work is of mixed quality as well, so that
    there is something to learn within worked answers.
    """

    worked: Share = 0.26
    bare: Share = 0.32
    untagged: Share = 0.15
    slips: Share = 0.6
    hasty: Share = 0.0
    """Share of the worked answers that put the whole sum on one line. It is off as often as an
    answer without work."""
    step_slips: Share = 0.0
    """Share of all other lines of worked answers whose result is off by 1 or 2, and carried on."""
    facts_per_line: Annotated[int, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _sum(self) -> CorpusSpec:
        if self.worked + self.bare + self.untagged > 1:
            raise ValueError(f"shares of the pre-training text must sum to at most 1: {self}")
        return self


def corpus(spec: ArithmeticSpec, mix: CorpusSpec, *, seed: int) -> Iterator[str]:
    """The pre-training text, document by document, without end: dialogues in three styles, and
    facts.
    """
    rng = random.Random(f"corpus-{seed}")
    work = random.Random(f"work-{seed}")  # how the work is done draws on its own
    problems = expressions(spec, "train", rng)
    sources = _valid_expressions(
        spec, rng
    )  # of facts, which have two numbers and so belong to no split
    shares = {"worked": mix.worked, "bare": mix.bare, "untagged": mix.untagged}
    shares["facts"] = 1 - sum(shares.values())
    while True:
        kind = rng.choices(list(shares), list(shares.values()))[0]
        if kind == "facts":
            facts = (rng.choice(next(sources).steps()) for _ in range(mix.facts_per_line))
            yield "\n".join(_equation(fact) for fact in facts)
            continue
        expression = next(problems)
        slip = rng.choice((-1, 1)) * rng.randint(1, 9) if rng.random() < mix.slips else 0
        hasty = work.random() < mix.hasty
        shares_off = [mix.step_slips] * len(expression.operators)
        if hasty:
            shares_off[1:] = [mix.slips]
        line_slips = [
            work.choice((-2, -1, 1, 2)) if work.random() < share else 0 for share in shares_off
        ]
        responses = {
            "worked": worked_response(expression, hasty=hasty, slips=line_slips),
            "bare": bare_response(expression, slip),
            "untagged": untagged_response(expression, slip),
        }
        yield TEMPLATE.render(expression.text) + responses[kind]


def _valid_expressions(spec: ArithmeticSpec, rng: random.Random) -> Iterator[Expression]:
    """Random expressions of both splits without a negative step."""
    while True:
        expression = _draw(spec, rng)
        if min(result for *_, result in expression.steps()) >= 0:
            yield expression


def _in_split(expression: Expression, split: Split) -> bool:
    if split == "held_out":
        return is_held_out(expression)
    return not any(map(is_held_out, expression.parts()))


def _draw(spec: ArithmeticSpec, rng: random.Random) -> Expression:
    """A random expression with one product, of either split; its steps may be negative."""
    size = rng.choice(spec.lengths)
    product = rng.randrange(size - 1)
    operators = tuple("*" if i == product else rng.choice("+-") for i in range(size - 1))
    numbers = tuple(
        rng.randint(2, spec.max_factor)
        if i in (product, product + 1)
        else rng.randint(1, spec.max_term)
        for i in range(size)
    )
    return Expression(numbers, operators)


def _equation(step: tuple[int, str, int, int]) -> str:
    left, op, right, result = step
    return f"{left}{op}{right}={result}"
