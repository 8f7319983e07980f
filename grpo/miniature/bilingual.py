"""Arithmetic in English and in Chinese: questions, answers worked out in words, and text to
pre-train a base model on that gives mixing languages a reason.

DeepSeek-R1 mixes languages in its thoughts, and a reward of language consistency holds it back at
some cost in accuracy (arXiv:2501.12948, section 2.3.2). A model can only be drawn to mixing if it
pays, so the text here makes it pay, as a knowledge that people have in one language and not in the
other would. In worked answers the Chinese lines are careful with products, as who knows the
multiplication table by heart is, and careless with sums. The English lines are the reverse.
`SlipSpec` has the numbers. So a thought that does the product in Chinese and the sum in
English is right most often, whatever language the question is in. Nothing else distinguishes the
languages: both have every fact, and the share of each is the same.

Most answers of the text are in the language of the question, some in the other, and some switch at
a line. A model that has read it begins with little mixing. Which of it a reward brings out is up to
the reward.

Expressions, splits and held-out rules are those of `arithmetic`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.templates import TEMPLATES
from data.types import Problem
from grpo.common.recipes import Settings
from grpo.miniature.arithmetic import (
    ArithmeticSpec,
    Expression,
    Share,
    Split,
    distinct_problems,
    expressions,
)

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, Language] = ("en", "zh")
SOURCE = "bilingual"
TEMPLATE = TEMPLATES["dialogue"]

# A step of a solution: left, operator, right, result.
Step = tuple[int, str, int, int]

_QUESTIONS: dict[Language, str] = {"en": "What is {}?", "zh": "求{}的值。"}
_OPERATIONS: dict[Language, dict[str, str]] = {
    "en": {"*": "{} times {} is {}.", "+": "{} plus {} is {}.", "-": "{} minus {} is {}."},
    "zh": {"*": "{}乘{}得{}。", "+": "{}加{}得{}。", "-": "{}减{}得{}。"},
}
# A line begins with a word, so its language is one decision, made before any number.
_BEGINNINGS: dict[Language, tuple[str, str]] = {"en": ("First ", "Then "), "zh": ("先算", "再算")}


class SlipSpec(Settings):
    """Share of the lines of worked answers whose result is off, by language and operation."""

    careful: Share = 0.02
    """Chinese products, English sums and differences."""
    careless: Share = 0.5
    """English products, Chinese sums and differences."""

    def of(self, language: Language, operator: str) -> float:
        """The share of lines that are off."""
        return self.careful if (language == "zh") == (operator == "*") else self.careless


class BilingualCorpusSpec(Settings):
    """The mix of the pre-training text, as shares of its documents; the rest are facts, all of them
    right, in both languages.
    """

    worked: Share = 0.5
    bare: Share = 0.1
    untagged: Share = 0.1
    other_language: Share = 0.1
    """Of the worked answers, those wholly in the language that the question is not in."""
    switching: Share = 0.2
    """Of the worked answers, those that draw the language of each line."""
    slips: SlipSpec = SlipSpec()
    bare_slips: Share = 0.6
    """Share of the answers without work that are off."""
    facts_per_document: Annotated[int, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _sums(self) -> BilingualCorpusSpec:
        documents = self.worked + self.bare + self.untagged
        if documents > 1 or self.other_language + self.switching > 1:
            raise ValueError(f"shares of the pre-training text must sum to at most 1: {self}")
        return self


def question_of(expression: Expression, language: Language) -> str:
    """The question in words."""
    return _QUESTIONS[language].format(expression.text)


def parse_question(question: str) -> tuple[Expression, Language]:
    """The inverse of `question_of`."""
    numbers = tuple(map(int, re.findall(r"\d+", question)))
    language: Language = "en" if question.startswith("What") else "zh"
    return Expression(numbers, tuple(re.findall(r"[-+*]", question))), language


def problems(spec: ArithmeticSpec, split: Split, count: int, *, seed: int) -> list[Problem]:
    """`count` questions on different expressions, every other one in Chinese.

    Raises:
        ValueError: the split seems to have fewer expressions than that.
    """
    found = []
    for number, problem in enumerate(distinct_problems(spec, split, count, seed=seed)):
        language = LANGUAGES[number % 2]
        expression, _ = parse_question(problem.question)
        found.append(
            Problem(
                id=f"{SOURCE}:{language}:{expression.text}",
                question=question_of(expression, language),
                answer=problem.answer,
                source=SOURCE,
                level=language,
            )
        )
    return found


def worked_response(steps: list[Step], languages: list[Language]) -> str:
    """A response that thinks one operation a line, each line in its own language."""
    lines = [
        _BEGINNINGS[language][number > 0] + _told(step, language)
        for number, (step, language) in enumerate(zip(steps, languages, strict=True))
    ]
    thought = "".join(f"{line}\n" for line in lines)
    return f"<think>\n{thought}</think><answer>{steps[-1][-1]}</answer>"


def corpus(spec: ArithmeticSpec, mix: BilingualCorpusSpec, *, seed: int) -> Iterator[str]:
    """The pre-training text, document by document, without end: dialogues in three styles, and
    facts.
    """
    rng = random.Random(f"bilingual-{seed}")
    source = expressions(spec, "train", rng)
    shares = {"worked": mix.worked, "bare": mix.bare, "untagged": mix.untagged}
    shares["facts"] = 1 - sum(shares.values())
    while True:
        kind = rng.choices(list(shares), list(shares.values()))[0]
        language = rng.choice(LANGUAGES)
        if kind == "facts":
            # A step has two numbers and belongs to no split.
            facts = (rng.choice(next(source).steps()) for _ in range(mix.facts_per_document))
            yield "\n".join(_told(fact, language) for fact in facts)
            continue
        expression = next(source)
        if kind == "worked":
            languages = _languages(mix, language, len(expression.operators), rng)
            response = worked_response(_slipping(expression, languages, mix.slips, rng), languages)
        else:
            slip = _slip(rng) if rng.random() < mix.bare_slips else 0
            stated = abs(expression.steps()[-1][-1] + slip)
            thought = f"<think> {expression.text} </think><answer>{stated}</answer>"
            response = thought if kind == "bare" else f" {stated}"
        yield TEMPLATE.render(question_of(expression, language)) + response


def _languages(
    mix: BilingualCorpusSpec, question: Language, count: int, rng: random.Random
) -> list[Language]:
    """The language of each line of a worked answer."""
    draw = rng.random()
    if draw < mix.switching:
        return [rng.choice(LANGUAGES) for _ in range(count)]
    other = draw < mix.switching + mix.other_language
    return [LANGUAGES[(LANGUAGES.index(question) + other) % 2]] * count


def _slipping(
    expression: Expression, languages: list[Language], slips: SlipSpec, rng: random.Random
) -> list[Step]:
    """The solution with slips. A line goes on with what the line before it came to."""
    numbers, operators = list(expression.numbers), list(expression.operators)
    done: list[Step] = []
    for language in languages:
        i = operators.index("*") if "*" in operators else 0
        left, operator, right = numbers[i], operators.pop(i), numbers.pop(i + 1)
        ((*_, result),) = Expression((left, right), (operator,)).steps()
        if rng.random() < slips.of(language, operator):
            result += _slip(rng)
        numbers[i] = abs(result)  # no number of the text is negative
        done.append((left, operator, right, numbers[i]))
    return done


def _slip(rng: random.Random) -> int:
    return rng.choice((-1, 1)) * rng.randint(1, 9)


def _told(step: Step, language: Language) -> str:
    left, operator, right, result = step
    return _OPERATIONS[language][operator].format(left, right, result)
