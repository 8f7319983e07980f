"""Checks of problems before a run, and a stream of prompts that goes on where it stood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data.types import Problem
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.rollout.prompts import (
    PromptStream,
    check_rewards,
    check_tokens,
    load_problems,
    make_template,
)
from grpo.types import Prompt
from rewards import Component, Scorer
from tests.data.helpers import SHARED

TOKENIZERS = SHARED.parent / "tokenizers"


def problem(number: int, answer: str, **fields: Any) -> Problem:
    return Problem(id=f"p{number}", question=f"q{number}", answer=answer, source="s", **fields)


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the real tokenizers are not there")
def test_a_tokenizer_that_loses_blanks_is_refused() -> None:
    from transformers import AutoTokenizer

    config = load_config("tiny", ["data.template=chat"])
    with pytest.raises(UserError, match=r"loses text.*PreTrainedTokenizerFast"):
        make_template(config.data, AutoTokenizer.from_pretrained(TOKENIZERS / "deepseek_v3"))


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the real tokenizers are not there")
def test_a_recipe_names_a_chat_template_with_its_system_prompt_and_thinking_switch() -> None:
    from transformers import AutoTokenizer

    settings = ["data.template=chat:deepscaler_boxed", "data.system_prompt=Be brief."]
    config = load_config("tiny", [*settings, "data.enable_thinking=false"])
    template = make_template(config.data, AutoTokenizer.from_pretrained(TOKENIZERS / "qwen3"))
    assert template.text.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert template.text.endswith("<think>\n\n</think>\n\n")


def scorer(*names: str) -> Scorer:
    return Scorer({name: Component(weight=1.0) for name in names})


def test_a_row_that_no_component_can_score_is_named() -> None:
    rows = [problem(1, "7"), problem(2, "{}", reward="countdown")]
    with pytest.raises(UserError, match=r"problem 2 \('p2'\) is scored by the reward 'countdown'"):
        check_rewards(rows, scorer("accuracy"))
    check_rewards(rows, scorer("accuracy", "countdown"))


def test_a_row_without_an_answer_needs_a_reward_model() -> None:
    rows = [problem(1, "7"), problem(2, "", reward=("accuracy", "helpful"))]
    with pytest.raises(UserError, match=r"helpful=\{weight: 1.0, kind: preference, model: FOLDER"):
        check_rewards(rows, scorer("accuracy"))


def test_a_prompt_with_a_token_that_has_no_embedding_is_named() -> None:
    prompts = [Prompt(problem(1, "7"), "q1", [3, 9]), Prompt(problem(2, "8"), "q2", [4, 10])]
    check_tokens(prompts, rows=11)
    with pytest.raises(UserError, match=r"problem 'p2' has the token 10, .* has 10 rows"):
        check_tokens(prompts, rows=10)


def test_a_set_in_which_no_gold_can_score_is_refused() -> None:
    with pytest.raises(UserError, match=r"Of 3 golds .* none is right"):
        check_rewards([problem(i, "") for i in range(3)], scorer("accuracy"))
    check_rewards([problem(1, ""), problem(2, "12")], scorer("accuracy"))


def test_questions_that_ask_for_hashes_are_refused() -> None:
    told = 'Think step by step and output the final answer after "####".'
    rows = [Problem(id="1", question=f"What is 3+4? {told}", answer="7", source="s")]
    with pytest.raises(UserError, match="1 of 1 questions"):
        check_rewards(rows, scorer("accuracy"))


@pytest.mark.parametrize("kind", ["uniform", "prioritised", "easy_to_hard"])
def test_a_stream_goes_on_exactly_where_it_stood(kind: str) -> None:
    config = load_config("tiny", [f"data.curriculum.kind={kind}", "trainer.max_steps=9"])
    problems = [problem(i, "7", level=str(i % 3)) for i in range(10)]
    prompts = [Prompt(row, row.question, [1]) for row in problems]
    stream = PromptStream(config, prompts)
    stream.next(7)
    stream.update({"p1": 1.0, "p2": 0.5})
    state = json.loads(json.dumps(stream.state_dict()))
    expected = [stream.next(7) for _ in range(3)]
    again = PromptStream(config, prompts)
    again.load_state_dict(state)
    assert [again.next(7) for _ in range(3)] == expected


def test_the_problems_of_the_tiny_recipe_are_those_of_its_record() -> None:
    """The first of each set, as they have been since the recipe was first recorded."""
    config = load_config("tiny", [])
    train = load_problems("train", config.data.train, 0)
    held_out = load_problems("held_out", config.data.held_out, 1)
    assert held_out == load_problems("held_out", config.data.held_out, 0)
    from grpo.miniature.arithmetic import ArithmeticSpec, distinct_problems

    assert train[:50] == distinct_problems(ArithmeticSpec(), "train", 50, seed=0)
    assert held_out[:50] == distinct_problems(ArithmeticSpec(), "held_out", 50, seed=0)
