"""The rewards besides accuracy, on numbers worked out by hand."""

from __future__ import annotations

import json

import pytest

from rewards import Reward, Sample, format_reward
from rewards.boxes import box_iou as box_iou_reward
from rewards.boxes import class_name, detection, giou, grounding, iou
from rewards.checkers.countdown import countdown
from rewards.choice import choice, exact, numeric
from rewards.shaping.length import (
    length_cosine,
    length_kimi,
    length_linear,
    soft_overlong,
    truncation,
)
from rewards.shaping.repetition import (
    loop,
    loop_period,
    repeated_share,
    repetition,
    repetition_if_wrong,
    token_penalties,
)
from rewards.shaping.tools import function_call

RIGHT, WRONG = {"accuracy": Reward(1.0, "correct")}, {"accuracy": Reward(0.0, "wrong")}


def of(response: str, gold: str = "", **fields) -> Sample:
    return Sample(response=response, gold=gold, **fields)


# --- format: response -> (strict, lenient, tag count)
FORMATS = {
    "<think>a</think><answer>b</answer>": (1, 1, 1),
    " <think>a</think>\n<answer>b</answer>\n": (1, 1, 1),
    "<think>a</think> so <answer>b</answer>": (0, 1, 1),
    "well <think>a</think><answer>b</answer>": (0, 1, 1),
    "<think>a</think><answer>b</answer> done": (0, 1, 1),
    "<answer>b</answer><think>a</think>": (0, 1, 1),
    "<think></think><answer>b</answer>": (0, 1, 1),
    "<think>a</think><answer> </answer>": (0, 1, 1),
    "<think>a</think><answer>b": (0, 1, 0.75),
    "<think>a<think><answer>b</answer>": (0, 0, 0.5),
    "<think>a</think><think>c</think><answer>b</answer>": (0, 1, 0.5),
    "<think>a <answer>x</answer></think><answer>b</answer>": (0, 1, 0.5),
    "a</think><answer>b</answer>": (0, 0, 0.75),
    "<answer>b</answer>": (0, 0, 0.5),
    "b": (0, 0, 0),
    "": (0, 0, 0),
}


@pytest.mark.parametrize(("response", "expected"), FORMATS.items())
def test_format_rules(response: str, expected: tuple[float, float, float]):
    sample = of(response)
    assert (
        tuple(format_reward(sample, rule=r).score for r in ("strict", "lenient", "tag_count"))
        == expected
    )


def test_format_knows_a_prompt_that_opens_the_thought():
    closed = of("a</think><answer>b</answer>", prompt_opens_think=True)
    again = of("<think>a</think><answer>b</answer>", prompt_opens_think=True)
    assert [format_reward(closed, rule=r).score for r in ("strict", "lenient", "tag_count")] == [
        1,
        1,
        1,
    ]
    assert format_reward(again).reason == "repeated_tag"
    with pytest.raises(ValueError, match="loose"):
        format_reward(closed, rule="loose")  # type: ignore[arg-type]


# --- length
COSINE = [
    (0, 2.0, -10.0), (3584, 1.8536, -8.5355), (7168, 1.5, -5.0), (10752, 1.1464, -1.4645),
    (14000, 1.0014, -0.0135),
    (14320, -10.0, -10.0), (20000, -10.0, -10.0),
]  # fmt: skip


@pytest.mark.parametrize(("tokens", "right", "wrong"), COSINE)
def test_cosine_reward(tokens: int, right: float, wrong: float):
    sample = of("x", num_tokens=tokens, max_tokens=14_336)
    assert length_cosine(sample, RIGHT).score == pytest.approx(right, abs=1e-4)
    assert length_cosine(sample, WRONG).score == pytest.approx(wrong, abs=1e-4)


def test_cosine_margin_and_limit():
    assert length_cosine(of("x", num_tokens=14_319, max_tokens=14_336), RIGHT).reason == "right"
    assert length_cosine(of("x", num_tokens=14_319), RIGHT, max_tokens=14_335).reason == "exceeded"
    with pytest.raises(ValueError, match="max_tokens"):
        length_cosine(of("x", num_tokens=5), RIGHT)


def test_linear_reward():
    def at(tokens: int, earlier: dict[str, Reward]) -> float:
        return length_linear(of("x", num_tokens=tokens, max_tokens=100), earlier).score

    assert (at(0, RIGHT), at(0, WRONG), at(50, RIGHT), at(50, WRONG)) == pytest.approx(
        (0.5, -1, 0.375, -0.5)
    )


def test_kimi_length_reward_uses_all_samples_of_the_group():
    def scores(lengths: list[int], earlier: list[dict[str, Reward]]) -> list[float]:
        return [
            reward.score
            for reward in length_kimi([of("x", num_tokens=n) for n in lengths], earlier)
        ]

    assert scores([100, 200, 300], [RIGHT, WRONG, RIGHT]) == [0.5, 0, -0.5]
    assert scores([100, 300], [WRONG, WRONG]) == [0, -0.5]
    assert scores([7, 7], [RIGHT, WRONG]) == [0, 0]
    assert scores([], []) == []


def test_soft_overlong_punishment():
    scores = [
        soft_overlong(of("x", num_tokens=n, max_tokens=100), cache_tokens=20).score
        for n in (80, 81, 90, 100, 101)
    ]
    assert scores == pytest.approx([0, -0.05, -0.5, -1, -1])
    with pytest.raises(ValueError, match="cache_tokens"):
        soft_overlong(of("x", max_tokens=100), cache_tokens=200)


def test_truncation():
    assert truncation(of("x", truncated=True), penalty=-0.5).score == -0.5
    assert truncation(of("x")).score == 0


# --- repetition
def test_repeated_ngrams():
    assert repeated_share(["a", "b", "c", "a", "b", "c", "a", "b"], 3) == 0.5
    assert repetition(of("a b c a b c a b"), ngram=3, max_penalty=-2.0).score == -1.0
    assert repetition(of("a b"), ngram=3).score == 0
    assert repetition_if_wrong(of("a b c a b c a b"), RIGHT, ngram=3).score == 0
    assert repetition_if_wrong(of("a b c a b c a b"), WRONG, ngram=3).score == -0.5


def test_loops_at_the_end():
    assert loop_period("abcabcabc") == 3
    assert loop_period("abcabc") is None
    assert loop_period("xyz" + "ab" * 3) == 2
    assert loop_period("abcabcabcd") is None
    assert loop_period("abcabcabc", max_period=2) is None
    assert loop(of("Let me check. " * 5)).details["period"] == 14
    assert loop(of("for i in a:\n  x += 1\nfor i in b:\n  x += 1\n")).score == 0
    assert loop(of("1 000 000 000")).score == 0


def test_token_penalties_mark_every_token_of_a_repeated_ngram():
    assert token_penalties([1, 2, 3, 1, 2, 9], ngram=2, penalty=-0.05) == [0, 0, 0, -0.05, -0.05, 0]
    assert token_penalties([1, 2, 3, 4], ngram=2) == [0, 0, 0, 0]


# --- choices, texts, numbers
CHOICES = {
    "C": 1, "(C)": 1, "C.": 1, "c": 1, "(C) 12": 1, r"\text{C}": 1, r"\textbf{(C)}": 1,
    "C: twelve": 1,
    "B": 0, "": 0, "A or C": 0, "C, D": 0, "12": 0, "CD": 0, "(C) or (D)": 0, "Z": 0,
}  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), CHOICES.items())
def test_choice_letters(answer: str, expected: int):
    assert choice(of(rf"\boxed{{{answer}}}", "C")).score == expected


def test_exact_and_numeric():
    assert exact(of("<answer> New  York </answer>", "new york")).score == 1
    assert exact(of("<answer>New York</answer>", "new york"), ignore_case=False).score == 0
    assert exact(of("<answer>a</answer><answer>b</answer>", "b")).reason == "several_answers"
    assert numeric(of("<answer>1,200.0</answer>", "1200")).score == 1
    assert numeric(of("<answer>1.01</answer>", "1")).score == 0
    assert numeric(of("<answer>1.01</answer>", "1"), rel_tol=0.02).score == 1
    assert numeric(of("<answer>-1e-3</answer>", "-0.001")).score == 1
    assert numeric(of("<answer>one</answer>", "1")).reason == "no_number"
    with pytest.raises(ValueError, match="needs a number"):
        numeric(of("<answer>1</answer>", "one"))


# --- countdown
COUNTDOWN = {
    "(25 - 3) * 2 + 7": 1, "(25-3)*2+7 = 51": 1, r"(25-3)\times 2+7": 1, "7 + 2 × (25 − 3)": 1,
    "25*2 + 1": 0, "(25-3)*2": 0, "25 + 7 + 3 + 2": 0, "51": 0, "": 0, "(25-3)*2+7+0": 0,
    "((25-3)*2+7": 0,
    "(25-3)*2+7 = 44+7 = 51": 1, "$(25-3)*2+7$ = $51$.": 1, "(25-3)*2+7 = 51.0": 1,
    "(25-3)*2+7 =": 1,
    "(25-3)*2+7 = 52": 0, "(25-3)*2+7 = 45+7 = 51": 0, "(25-3)*2+7 = 51 or 52": 0,
    "(25-3)*2+7 = x": 0,
    "51 = (25-3)*2+7": 0, "(2$5-3)*2+7": 0, "(25-3)*2+7 = -51": 0, "(25-3)*2+7 = 51/0": 0,
    "25/(3-3)+7*2": 0, "__import__('os')": 0, "25**2": 0, "(" * 400: 0, "9" * 400: 0, "25 3 2 7": 0,
}  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), COUNTDOWN.items())
def test_countdown_uses_each_number_once(expression: str, expected: int):
    gold = json.dumps({"numbers": [25, 3, 2, 7], "target": 51})
    assert countdown(of(f"<think>.</think><answer>{expression}</answer>", gold)).score == expected


def test_countdown_partial_credit_and_bad_golds():
    gold = json.dumps({"numbers": [2, 3], "target": 6})
    assert countdown(of("<answer>2+3</answer>", gold), valid_score=0.1).score == 0.1
    assert countdown(of("<answer>2+3 = 5</answer>", gold), valid_score=0.1).score == 0.1
    assert countdown(of("<answer>2+3 = 6</answer>", gold), valid_score=0.1) == Reward(
        0.0, "wrong_result", {"extracted": "2+3"}
    )
    assert countdown(of("<answer>2*3*1</answer>", gold), valid_score=0.1).reason == "wrong_numbers"
    assert (
        countdown(
            of(r"<answer>\frac{3}{2}</answer>", json.dumps({"numbers": [2, 3], "target": "3/2"}))
        ).score
        == 1
    )
    with pytest.raises(ValueError, match="needs a gold"):
        countdown(of("<answer>2*3</answer>", "6"))


# --- function calls
CALL_GOLD = json.dumps(
    {"name": "weather", "arguments": {"city": "Oslo", "days": 3}, "tools": ["weather", "news"]}
)
CALLS = {
    '{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}': 1.0,
    '```json\n{"name": "weather", "arguments": {"days": 3, "city": "Oslo"}}\n```': 1.0,
    'I call {"name": "weather", "arguments": {"city": "Oslo", "days": 3.0}} now.': 1.0,
    '{"name": "weather", "arguments": {"city": "Rome", "days": 3}}': 0.5,
    '{"name": "weather", "arguments": {"city": "Oslo", "days": "3"}}': 0.3,
    '{"name": "weather", "arguments": {"city": "Oslo", "days": true}}': 0.3,
    '{"name": "weather", "arguments": {"city": "Oslo"}}': 0.3,
    '{"name": "weather", "arguments": {"city": "Oslo", "days": 3, "unit": "C"}}': 0.3,
    '{"name": "weather", "arguments": "Oslo"}': 0.3,
    '{"name": "news", "arguments": {"city": "Oslo", "days": 3}}': 0.3,
    '{"name": "rain", "arguments": {"city": "Oslo", "days": 3}}': 0.1,
    "{}": 0.1,
    '{"name": "weather"} {"name": "news"}': 0.0,
    '{"name": "weather", "arguments": {': 0.0,
    "weather(Oslo, 3)": 0.0,
    "": 0.0,
    '<think>{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}</think> Done.': 0.0,
}


@pytest.mark.parametrize(("response", "expected"), CALLS.items())
def test_function_calls_earn_partial_credit(response: str, expected: float):
    assert function_call(of(response, CALL_GOLD)).score == pytest.approx(expected)


def test_optional_arguments_may_be_left_out():
    gold = json.dumps(
        {"name": "f", "arguments": {"a": [1, {"b": None}], "c": 1}, "optional": ["c"]}
    )
    assert function_call(of('{"name": "f", "arguments": {"a": [1, {"b": null}]}}', gold)).score == 1
    assert function_call(of('{"name": "f", "arguments": {"c": 1}}', gold)).score == pytest.approx(
        0.3
    )


# --- boxes
def test_iou_and_giou():
    first, second = (0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0)
    assert iou(first, second) == pytest.approx(1 / 3)
    assert giou(first, second) + 1 == pytest.approx(4 / 3)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
    assert giou((0, 0, 1, 1), (9, 9, 10, 10)) == pytest.approx(-0.98)


def boxes(*pairs: tuple[list[float], float]) -> str:
    return (
        f"<answer>{json.dumps([{'bbox': box, 'confidence': sure} for box, sure in pairs])}</answer>"
    )


def test_detection_reward():
    gold = json.dumps([[0, 0, 10, 10], [100, 0, 110, 10]])
    close, far = [2, 0, 12, 10], [105, 0, 115, 10]  # IoU 2/3 and 1/3
    both = detection(of(boxes((close, 0.9), (far, 0.8)), gold))
    assert both.details == pytest.approx({"iou": 1 / 3, "confidence": 0.55})
    assert detection(of(boxes((close, 0.9)), gold)).details["iou"] == pytest.approx(1 / 3)
    assert detection(of(boxes((close, 0.9)), gold), divide_by="predictions").details[
        "iou"
    ] == pytest.approx(2 / 3)
    assert detection(of(boxes((close, 0.9), (close, 0.9)), gold)).details["iou"] == pytest.approx(
        1 / 3
    )
    for malformed in (
        "<answer>[</answer>",
        "<answer>{}</answer>",
        "<answer>[1]</answer>",
        "",
        boxes(([1, 2, 3], 0.5)),
    ):
        assert detection(of(malformed, gold)).score == 0
    assert detection(of(boxes((close, 1.5)), gold)).reason == "no_boxes"


def test_grounding_and_one_box():
    assert grounding(of("<answer>[0, 0, 10, 10]</answer>", "[0, 0, 10, 10]")).score == 2
    assert grounding(
        of("<answer>[5, 0, 15, 10]</answer>", "[0, 0, 10, 10]")
    ).score == pytest.approx(4 / 3)
    assert grounding(of("<answer>none</answer>", "[0, 0, 10, 10]")).score == 0
    half = of("<answer>[0, 0, 5, 5]</answer>", "[0, 0, 10, 10]")
    assert box_iou_reward(half, scale_x=2, scale_y=2).score == 1
    assert box_iou_reward(half).score == 0.25
    assert box_iou_reward(of("<answer>[0,0,1,1] [1,1,2,2]</answer>", "[0, 0, 10, 10]")).score == 0


def test_an_empty_class_name_is_wrong():
    assert class_name(of("<answer>Golden_Retriever</answer>", "golden retriever")).score == 1
    assert class_name(of("<answer>retriever</answer>", "golden retriever")).score == 1
    assert class_name(of("<answer>retriever</answer>", "golden retriever"), rule="equal").score == 0
    assert class_name(of("<answer> _ </answer>", "golden retriever")).score == 0
    assert class_name(of("<answer></answer>", "golden retriever")).score == 0
