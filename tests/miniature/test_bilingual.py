"""The bilingual miniature: its questions, answers and text, and why mixing languages pays."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from statistics import fmean

import pytest

from data.examples import MAKERS
from grpo.miniature import bilingual_parts
from grpo.miniature.arithmetic import Expression, is_held_out
from grpo.miniature.base_model import BaseModelSpec, cache_key
from grpo.miniature.bilingual import (
    BilingualCorpusSpec,
    corpus,
    parse_question,
    problems,
    question_of,
    worked_response,
)
from rewards import Sample, accuracy_reward, format_reward
from rewards.shaping.language import language_consistency, question_language

SPEC = bilingual_parts.THREE_NUMBERS
EXPRESSION = Expression((7, 3, 4), ("+", "*"))
DIALOGUE = re.compile(r"User: (.*)\nAssistant:(.*)", re.DOTALL)


def test_a_worked_answer_reads_as_documented_in_both_languages_and_mixed():
    steps = EXPRESSION.steps()
    assert worked_response(steps, ["en", "en"]) == (
        "<think>\nFirst 3 times 4 is 12.\nThen 7 plus 12 is 19.\n</think><answer>19</answer>"
    )
    assert worked_response(steps, ["zh", "zh"]) == (
        "<think>\n先算3乘4得12。\n再算7加12得19。\n</think><answer>19</answer>"
    )
    mixed = worked_response(steps, ["zh", "en"])
    question = question_of(EXPRESSION, "en")
    reward = language_consistency(Sample(response=mixed, gold="19", question=question))
    assert reward.score == pytest.approx(3 / 7)  # Then plus is, against 先算乘得
    assert accuracy_reward(mixed, "19").score == 1
    assert format_reward(Sample(response=mixed, gold="19")).score == 1


def test_questions_are_half_english_and_half_chinese_and_can_be_read_back():
    found = problems(SPEC, "held_out", 100, seed=0)
    assert [question_language(problem.question) for problem in found] == ["en", "zh"] * 50
    for problem in found:
        expression, language = parse_question(problem.question)
        assert is_held_out(expression)
        assert question_of(expression, language) == problem.question
        assert problem.answer == str(eval(expression.text))


def test_no_held_out_expression_is_in_the_text():
    for document in itertools.islice(corpus(SPEC, BilingualCorpusSpec(), seed=0), 5000):
        if dialogue := DIALOGUE.match(document):
            assert not is_held_out(parse_question(dialogue[1])[0])


def test_a_product_in_chinese_and_a_sum_in_english_is_right_most_often():
    """Each line of the careless language is off half the time, of the careful one 1 in 50."""
    right: dict[str, list[float]] = defaultdict(list)
    for document in itertools.islice(corpus(SPEC, BilingualCorpusSpec(), seed=0), 8000):
        dialogue = DIALOGUE.match(document)
        if dialogue and (lines := re.findall(r"^(First|Then|先算|再算)", dialogue[2], re.M)):
            written = "-".join("en" if line.isascii() else "zh" for line in lines)
            gold = str(eval(parse_question(dialogue[1])[0].text))
            right[written].append(accuracy_reward(dialogue[2], gold).score)
    rates = {written: fmean(found) for written, found in right.items()}
    # a second slip seldom takes back the first
    assert rates == pytest.approx(
        {"zh-en": 0.98**2, "en-en": 0.49, "zh-zh": 0.49, "en-zh": 0.25}, abs=0.1
    )


def test_most_answers_are_in_the_language_of_the_question():
    mix = BilingualCorpusSpec(worked=1, bare=0, untagged=0, other_language=0.1, switching=0.2)
    shares = []
    for document in itertools.islice(corpus(SPEC, mix, seed=0), 4000):
        dialogue = DIALOGUE.match(document)
        assert dialogue
        sample = Sample(response=dialogue[2], gold="", question=dialogue[1])
        shares.append(language_consistency(sample).score)
    # of those that draw each of two lines, a quarter ends in either language
    assert shares.count(1.0) / 4000 == pytest.approx(0.7 + 0.05, abs=0.03)
    assert shares.count(0.0) / 4000 == pytest.approx(0.1 + 0.05, abs=0.03)


def test_examples_are_right_and_in_the_language_of_their_question():
    for example in MAKERS["worked_bilingual"]({"num_examples": 20}, 0, "train"):
        question, answer = (message.content for message in example.messages)
        assert language_consistency(Sample(response=answer, gold="", question=question)).score == 1
        gold = str(eval(parse_question(question)[0].text))
        assert accuracy_reward(answer, gold).score == 1


def test_the_base_model_learns_this_text_and_no_other():
    spec = bilingual_parts.BilingualBaseSpec(seed=3)
    assert next(spec.documents()) == next(corpus(SPEC, BilingualCorpusSpec(), seed=3))
    shared = spec.model_dump(exclude={"corpus"})
    assert cache_key(spec) != cache_key(BaseModelSpec(**shared))


def test_a_mix_of_more_than_everything_is_refused():
    with pytest.raises(ValueError, match="sum to at most 1"):
        BilingualCorpusSpec(other_language=0.6, switching=0.6)
