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
    "escaped blanks in a box": r"\boxed{\ 42\ }",
    "several escaped blanks": r"\boxed{42\ \ }",
    "escaped blank in a tag": r"<answer>42\ </answer>",
    "box with a doubled backslash": r"\\boxed{42}",
    "box after a line break": r"x = 41 + 1 \\\boxed{42}",
    "end token in a tag": "<answer>42<|im_end|></answer>",
    "code in a tag": "<answer>`42`</answer>",
    "code block in a tag": "<answer>\n```\n42\n```\n</answer>",
    "code block with its language": "<answer>```text\n42\n```</answer>",
    "spelled out in a tag": "<answer>42 (forty-two)</answer>",
    "needs in tag": "<answer>Nadia needs 42 spoons of flour.</answer>",
    "money in tag": "<answer>Omar pays $42 every month for his phone.</answer>",
    "left in tag": "<answer>Pia has 42 letters left to read.</answer>",
    "reason in tag": "<answer>The product is 42, because 6 * 7 = 42.</answer>",
}
STATED = [
    "# Answer\n\n42", "### Final Answer\n$42$", "**Final Answer**\n\n42.", "**Answer**\n\\[ 42 \\]",
    "## Answer\n**42**",
    "**Final Answer**\n\n$$\n42\n$$", "### **The answer**\n\n```\n42\n```", "Answer\n42", "__Answer__: 42",
    "_The answer is_ 42", "*Answer:* **42**", "Answer： 42", "The answer is `42`.", "The answer is ```42```",
    "## Answer\n\nWe multiply 6 and 7.\n\nThe answer is 42.", "## Answer\n\n1. We multiply.\n2. The answer is 42.",
    "## Answer\n\n- We multiply.\n- So the answer is 42.", "**Final Answer**\n\nThe final answer is 42.",
    "The answer is exactly 42.", "The answer is clearly equal to 42.", "The answer equals 42.",
    "The answer, then, is 42.",
    "The answer should be 42.", "The answer turns out to be 42.", "**Answer:** The value is 42.",
    "The answer is $42$ (choice E).", "The answer is $42$, option (E).", "The answer is 42 (forty-two).",
    "Answer: 42 (since 7 * 6 = 42)", "The answer is 42, and we are done.", "The answer is 42.<｜end▁of▁sentence｜>",
    "答案是 42", "最终答案：42", "所以答案为$42$。因为 6 * 7 = 42。",
]  # fmt: skip
STILL_STATED = [
    "The answer is 42. This is because 6 * 7 = 42.", "Nothing else works. The answer is 42.",
    "Wait, I mixed up two numbers. The answer is 42.", "Suppose the answer is 41. That fails. So the answer is 42.",
    "41 is not even, so the answer is 42.", "Since 41 is not even, the answer is 42.",
    "We claim that the answer is 42.",
    "It is not hard to see that the answer is 42.", "No doubt the answer is 42.", "In other words the answer is 42.",
    "I think the answer is 42.", "This results in the answer: 42", "The answer is 42. No other number works.",
    "The answer is 42.\n\nNote: 41 would be wrong.",
    "The answer is 42. But wait, is it even? Yes, so the answer is 42.",
    "Answer: 42\n\nWe multiply. Alternatively, one can add 21 and 21.",
]  # fmt: skip
CLOSING = [
    "6 times 7 is done.\n\n**42**", "So Mia sells **42** pens.", "The total is `42`.", "We get $x = 6 \\cdot 7$.\n\nx = **42**",
    "6 * 7 = 42.\n\n**Mia picked up 42 pens.**", "They pay \\$42.", "✅ **x = 42**", "Result: **42**", "共有 **42** 种。",
    "We use **induction**.\n\nHence it is **42**, as asked.", "One pen is \\$6.\nSeven pens are \\$42.",
    "<<The answer is **42**.>>",
]  # fmt: skip
NO_CLOSING = [
    "It is **41** or **42**.", "It is not **42**.", "It may be **42** or 43.", "**42** is wrong.", "At most **42** fit in.",
    "**42** hundred", "**42**, but let me check.", "- **41**\n- **42**", "1. **42**", "**42** + 1", "So it is **42**.\nOr 43.",
    "If **42** were it, we could stop.", "The answer is 41.\n\n**42**", "\\boxed{41}\n\n**42**", "2 ** 42 ** 2", "**42:**",
    "6 of 42 are \\$42.", "The answer is not 41.\n\n**42**", "I doubt that **42** is it.",
]  # fmt: skip
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
    "doubt in tag": "<answer>I doubt that the total is 42.</answer>",
    "denied in tag": "<answer>Nadia never has 42 spoons.</answer>",
    "bound in tag": "<answer>Nadia needs at least 42 spoons.</answer>",
    "changed in tag": "<answer>Nadia needs 42 hundred spoons.</answer>",
    "alternative in tag": "<answer>Nadia needs 42 spoons or cups.</answer>",
    "two numbers in tag": "<answer>Nadia needs 42 spoons and 3 cups.</answer>",
    "sum in tag": "<answer>Nadia needs 42 - x spoons.</answer>",
    "factorial in tag": "<answer>There are 42! orders.</answer>",
    "code twice in tag": "<answer>`42` or `43`</answer>",
    "spelled alternative": "<answer>42 (or so)</answer>",
    "end token inside": "<answer>4<|im_end|>2</answer>",
}
TAKEN_BACK = [
    "I don't think the answer is 42.", "It is false that the answer is 42.", "I doubt the answer is 42.",
    "Suppose the answer is 42.", "A frequent mistake is that the answer is 42.", "Check whether the answer is 42.",
    "The wrong answer is 42.", "Incorrect answer: 42", "**Not the answer:** 42", "Another answer: 42",
    "A lower bound for the answer is 42.", "Half of the answer is 42.", "Twice the answer is 42.",
    "The cube of the answer is 42.", "One less than the answer is 42.", "答案不是42", "我不认为答案是42",
    "The answer is 42. Or 41.", "The answer is 42. Alternatively, 41.", "The answer is 42. No wait, it's 41.",
    "The answer is 42. It could also be 41.", "The answer is **42**.\n\nWait, let me redo this. It is 41.",
    "Answer: 42\nor 41", "The answer is\n$$42$$\nor $$41$$", "The answer is 42. Maybe the answer is 41.",
    "The answer is 42. I check: 6 * 7 = 41. Hmm, so it is 41.", "The answer is 42. That is wrong.",
    "The answer is 41.\n\n**Final Answer**\n\n42", "**Final Answer**\n\n42 or 41", "### Wrong answer\n\n42",
]  # fmt: skip


@pytest.mark.parametrize("response", RIGHT.values(), ids=RIGHT.keys())
def test_an_answer_is_found(response: str):
    assert accuracy_reward(response, "42").score == 1


@pytest.mark.parametrize("response", WRONG.values(), ids=WRONG.keys())
def test_no_answer_or_several_score_0(response: str):
    assert accuracy_reward(response, "42").score == 0


@pytest.mark.parametrize("response", STATED)
def test_an_answer_in_words_is_found(response: str):
    assert accuracy_reward(response, "42").score == 1


@pytest.mark.parametrize("response", CLOSING)
def test_a_last_line_gives_the_one_text_that_stands_out(response: str):
    assert accuracy_reward(response, "42").score == 1


@pytest.mark.parametrize("response", NO_CLOSING)
def test_a_last_line_gives_no_answer_that_is_doubted_or_one_of_several(response: str):
    assert accuracy_reward(response, "42").score == 0


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        (r"$x=\boxed{2}$ or $x=\boxed{5}$", "5, 2", True),
        (r"The roots are $\boxed{2}$, $\boxed{5}$ and $\boxed{7}$.", r"\{2, 5, 7\}", True),
        (r"$p=\boxed{2}$, $q=\boxed{5}$", "2,5", True),
        (r"$p=\boxed{5}$, $q=\boxed{2}$", "2,5", False),
        (r"$x=\boxed{2}$ or $x=\boxed{5}$", "5", False),
        (r"It is \boxed{5} or \boxed{5.0}.", "5", True),
        (r"First \boxed{3}. So $x=\boxed{2}$ or $x=\boxed{5}$", "2, 5", False),
        (r"Not $\boxed{2}$, and $\boxed{5}$", "2, 5", False),
        (r"\boxed{2}. Then \boxed{5}.", "2, 5", False),
        (r"<answer>$a=\boxed{2}$ and $a=\boxed{5}$</answer>", "2, 5", True),
    ],
)
def test_boxes_side_by_side_are_one_list(response: str, gold: str, right: bool):
    assert (accuracy_reward(response, gold).score == 1) is right


@pytest.mark.parametrize("response", STILL_STATED)
def test_doubts_about_something_else_leave_a_statement_alone(response: str):
    assert accuracy_reward(response, "42").score == 1


@pytest.mark.parametrize("response", TAKEN_BACK)
def test_a_statement_in_doubt_or_taken_back_is_no_answer(response: str):
    assert accuracy_reward(response, "42").score == 0


@pytest.mark.parametrize("response", [r"$\boxed{8}\%$", r"\boxed{8}%", r"$\boxed{8}$ %"])
def test_a_percent_sign_behind_the_box_may_belong_to_it(response: str):
    assert [
        accuracy_reward(response, gold).score for gold in (r"8\%", "8", "0.08", "800", r"9\%")
    ] == [1, 1, 1, 0, 0]
    assert accuracy_reward(r"\boxed{8\%}", "8").score == 0


@pytest.mark.parametrize(
    "response", ["The answer is B, 42.", "The answer is B (42).", "The answer is **B**: 42"]
)
def test_a_choice_may_be_stated_with_its_value(response: str):
    assert [accuracy_reward(response, gold).score for gold in ("B", "42", "C", "41")] == [
        1,
        1,
        0,
        0,
    ]
    assert accuracy_reward("The answer is B, C.", "B").score == 0


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
    assert (
        accuracy_reward("6*7</think><answer>42</answer>", "42", prompt_opens_think=True).score == 1
    )
    assert (
        accuracy_reward("<answer>42</answer>", "42", prompt_opens_think=True).reason
        == "unclosed_thought"
    )
    assert final_part("a</think>b</think>c", prompt_opens_think=True) == "c"


def test_which_sources_count_is_a_setting():
    response = r"\boxed{1} <answer>2</answer> The answer is 3. 4"
    found = {
        source: extract(response, source).candidates
        for source in ("boxed", "answer_tag", "stated", "last_number")
    }
    assert found == {"boxed": ("1",), "answer_tag": ("2",), "stated": ("3",), "last_number": ("4",)}


def test_the_last_number_is_that_of_gsm8k():
    assert (
        accuracy_reward(
            "5 + 7 = 12, so she pays 1,200 dollars.", "1200", source="last_number"
        ).score
        == 1
    )


def test_a_truncated_sample_scores_0():
    sample = Sample(response=r"\boxed{42}", gold="42", truncated=True)
    assert (accuracy(sample).score, accuracy(sample).reason) == (0.0, "truncated")


def test_boxes_are_complete_and_outermost():
    assert boxed(r"\boxed{a\boxed{b}c} \boxed{d \boxed{e} \fbox{\{f\}} {") == [
        r"a\boxed{b}c",
        "e",
        r"\{f\}",
    ]


def test_tolerance_and_programming_notation_are_opt_in():
    assert accuracy_reward(r"\boxed{8.72 \times 10^8}", "8.7e8").score == 0
    assert accuracy_reward(r"\boxed{8.72 \times 10^8}", "8.7e8", rel_tol=0.01).score == 1
    assert accuracy_reward(r"\boxed{9 \times 10^8}", "8.7e8", rel_tol=0.01).score == 0
    assert accuracy_reward(r"\boxed{\arcsin(10/13)}", "np.arcsin(10/13)").score == 0
    assert (
        accuracy_reward(r"\boxed{\arcsin(10/13)}", "np.arcsin(10/13)", programming=True).score == 1
    )
    assert accuracy_reward(r"\boxed{10^{-5}}", "1e-5", programming=True).score == 1
    assert accuracy_reward(r"\boxed{-\frac13}", "-1./3", programming=True).score == 1


def test_options_may_differ_between_data_sources():
    options = {"per_data_source": {"minerva": {"rel_tol": 0.02}}}
    answer = {"response": r"\boxed{1.01}", "gold": "1.0"}
    assert accuracy(Sample(**answer, data_source="minerva"), **options).score == 1
    assert accuracy(Sample(**answer, data_source="math"), **options).score == 0
