"""Where an answer may stand in a response, and what is no answer."""

from __future__ import annotations

import pytest

from rewards import Sample, accuracy_reward
from rewards.accuracy import accuracy
from rewards.extract import boxed, extract, final_part

RIGHT = {
    "box": r"So it is \boxed{42}.",
    "box after thought": r"<think>41?</think> It is \boxed{42}.",
    "fbox": r"\fbox{42}",
    "box with blank": r"\boxed {42}",
    "box without braces": r"The result is \boxed 42",
    "nested box": r"\boxed{\boxed{42}}",
    "box with braces": r"\boxed{\frac{84}{2}}",
    "box with a set": r"\boxed{\{42\}}",
    "display math": "\\[\n\\boxed{42}\n\\]",
    "tag": "<think>6*7</think><answer>42</answer>",
    "tag on lines": "<think>6*7</think>\n<answer>\n42\n</answer>\n",
    "box in tag": r"<think>6*7</think><answer>\boxed{42}</answer>",
    "sentence with box in tag": r"<answer>The sum is $\boxed{42}$ apples.</answer>",
    "statement in tag": "<answer>The answer is 42.</answer>",
    "box and equal tag": r"\boxed{42} <answer>42.0</answer>",
    "two equal boxes": r"First \boxed{84/2}, that is \boxed{42}.",
    "the same box again": r"\boxed{42} and again \boxed{42}",
    "empty box before": r"Put it in \boxed{}. It is \boxed{42}.",
    "echoed instruction": r"I must write \boxed{answer}: \boxed{42}",
    "incomplete box after": r"\boxed{42} and \boxed{43",
    "stated": "Therefore, the answer is 42.",
    "stated final": "Final Answer: 42",
    "stated bold": "**Final Answer:** 42",
    "stated bold value": "The final answer is **42**.",
    "stated in math": "The answer is $42$.",
    "stated with to": "The answer to the question is 42.",
    "hashes": "6 * 7 = 42\n#### 42",
    "decimal in a statement": "The answer is 42.0.",
    "stated in display math": "The final answer is:\n\n\\[\n42\n\\]",
    "stated with reasons": "The answer is $42$, since $6 \\cdot 7 = 42$.",
    "stated on the next line": "**Final Answer**\n\n**Answer:**\n42",
    "with a colon": "The answer is: 42",
    "thus": "The answer is thus $42$.",
    "with a sign": "The answer = 42",
    "stated twice": "Final Answer: The final answer is $42$. I hope it is correct.",
    "stated and repeated": "The answer is 42. So, the answer is $42$.",
    "sentence in tag": "<answer>The total cost is 42 dollars.</answer>",
    "box around a digit": r"$\boxed42$",
    "stated against another": "The answer is 42, not 43.",
    "stated before a special token": "The answer is 42<|im_end|>",
    "stated and stopped before a special token": "The answer is 42.<|im_end|>",
    "got in tag": "<answer>I got 42.</answer>",
    "has in tag": "<answer>James has 42 apples.</answer>",
    "units": r"\boxed{42\text{ cm}}",
    "unicode around": "结果是 \\boxed{42}。",
}
WRONG = {
    "nothing": "",
    "no answer": "I do not know.",
    "bare number": "42",
    "in the thought": r"<think>\boxed{42}</think> I am done.",
    "tag in the thought": "<think><answer>42</answer></think> I am done.",
    "unclosed thought": r"<think>I think it is \boxed{42}",
    "thought opened again": r"<think>a</think> b <think> \boxed{42}",
    "open tag": "<answer>42",
    "open box": r"\boxed{42",
    "empty box": r"\boxed{}",
    "empty tag": "<answer></answer>",
    "two boxes": r"\boxed{41} or \boxed{42}",
    "two boxes, right first": r"\boxed{42} or \boxed{43}",
    "two tags": "<answer>41</answer><answer>42</answer>",
    "box against tag": r"\boxed{41} <answer>42</answer>",
    "two boxes in a tag": r"<answer>\boxed{41} \boxed{42}</answer>",
    "many boxes": " ".join(rf"\boxed{{{n}}}" for n in range(100)),
    "guess list in box": r"\boxed{41, 42}",
    "guess with or": r"\boxed{42 \text{ or } 43}",
    "guess in tag": "<answer>42 or 43</answer>",
    "two statements": "The answer is 41. No, the answer is 42.",
    "got several in tag": "<answer>I got 42 or 43.</answer>",
    "has several in tag": "<answer>James has 42 apples and Mary 43.</answer>",
    "stated with a doubt": "The answer is 42, or 43.",
    "denied": "The answer is not 42.",
    "template": "<think> reasoning here </think> <answer> answer here </answer>",
    "question echoed": "What is 6 * 7? The result of 6 * 7 must be found, 42 apples were there.",
    "wrong": r"\boxed{41}",
}


@pytest.mark.parametrize("response", RIGHT.values(), ids=RIGHT.keys())
def test_an_answer_is_found(response: str):
    assert accuracy_reward(response, "42").score == 1


@pytest.mark.parametrize("response", WRONG.values(), ids=WRONG.keys())
def test_no_answer_or_several_score_0(response: str):
    assert accuracy_reward(response, "42").score == 0


def test_reasons_say_what_happened():
    reasons = {
        r"\boxed{42}": "correct",
        r"\boxed{41}": "wrong",
        "hm": "no_answer",
        r"<think>\boxed{42}": "unclosed_thought",
        r"\boxed{41} \boxed{42}": "several_answers",
        r"\boxed{9^{9^{9^9}}}": "limit",
    }
    assert {response: accuracy_reward(response, "42").reason for response in reasons} == reasons
    assert accuracy_reward(r"\boxed{41}", "42").details["extracted"] == "41"


def test_a_prompt_that_opens_the_thought_needs_it_closed():
    assert accuracy_reward("6*7</think><answer>42</answer>", "42", prompt_opens_think=True).score == 1
    assert accuracy_reward("<answer>42</answer>", "42", prompt_opens_think=True).reason == "unclosed_thought"
    assert final_part("a</think>b</think>c", prompt_opens_think=True) == "c"


def test_which_sources_count_is_a_setting():
    response = r"\boxed{1} <answer>2</answer> The answer is 3. 4"
    found = {
        source: extract(response, source).candidates for source in ("boxed", "answer_tag", "stated", "last_number")
    }
    assert found == {"boxed": ("1",), "answer_tag": ("2",), "stated": ("3",), "last_number": ("4",)}


def test_the_last_number_is_that_of_gsm8k():
    assert accuracy_reward("5 + 7 = 12, so she pays 1,200 dollars.", "1200", source="last_number").score == 1


def test_a_truncated_sample_scores_0():
    sample = Sample(response=r"\boxed{42}", gold="42", truncated=True)
    assert (accuracy(sample).score, accuracy(sample).reason) == (0.0, "truncated")


def test_boxes_are_complete_and_outermost():
    assert boxed(r"\boxed{a\boxed{b}c} \boxed{d \boxed{e} \fbox{\{f\}} {") == [r"a\boxed{b}c", "e", r"\{f\}"]


def test_tolerance_and_programming_notation_are_opt_in():
    assert accuracy_reward(r"\boxed{8.72 \times 10^8}", "8.7e8").score == 0
    assert accuracy_reward(r"\boxed{8.72 \times 10^8}", "8.7e8", rel_tol=0.01).score == 1
    assert accuracy_reward(r"\boxed{9 \times 10^8}", "8.7e8", rel_tol=0.01).score == 0
    assert accuracy_reward(r"\boxed{\arcsin(10/13)}", "np.arcsin(10/13)").score == 0
    assert accuracy_reward(r"\boxed{\arcsin(10/13)}", "np.arcsin(10/13)", programming=True).score == 1
    assert accuracy_reward(r"\boxed{10^{-5}}", "1e-5", programming=True).score == 1
    assert accuracy_reward(r"\boxed{-\frac13}", "-1./3", programming=True).score == 1


def test_options_may_differ_between_data_sources():
    options = {"per_data_source": {"minerva": {"rel_tol": 0.02}}}
    answer = {"response": r"\boxed{1.01}", "gold": "1.0"}
    assert accuracy(Sample(**answer, data_source="minerva"), **options).score == 1
    assert accuracy(Sample(**answer, data_source="math"), **options).score == 0
