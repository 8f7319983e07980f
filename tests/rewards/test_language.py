"""Language consistency: what counts as a word, and which language it is in."""

from __future__ import annotations

import time

import pytest

from rewards import Sample
from rewards.shaping.language import count_words, language_consistency, question_language, thought


def share(text: str, target: str = "en") -> float:
    return language_consistency(Sample(response=f"<think>{text}</think> 42", gold=""), target).score  # type: ignore[arg-type]


def test_eight_of_ten_words_in_the_target_language_are_0_8():
    assert share("We need the sum of all the numbers 求和") == pytest.approx(0.8)


SHARES = {
    "English": ("First we find the value, then we check it.", "en", 1.0),
    "Chinese": ("我们先求出结果。", "zh", 1.0),
    "Chinese for an English question": ("我们先求出结果。", "en", 0.0),
    "Japanese": ("まず、方程式を解きます。", "ja", 1.0),
    "Japanese is not Chinese": ("まず、方程式を解きます。", "zh", 0.0),
    "Russian": ("Нам нужно найти корень.", "ru", 1.0),
    "Korean": ("먼저 값을 구합니다.", "ko", 1.0),
    "Spanish is not English": ("Entonces tenemos que resolver la ecuacion.", "en", 0.0),
    "Spanish": ("Entonces tenemos que resolver la ecuacion.", "es", 1.0),
    "German": ("Wir müssen zuerst die Gleichung lösen.", "de", 1.0),
    "half": ("So the value is known. 我们得到结", "en", 0.5),
    "mathematics is neutral": (r"So $x^2 + bar$ is \(baz\) and \[quux\] and \alpha too", "en", 1.0),
    "mathematics in Chinese": (r"设 $f(x) = \text{length}$ 为长度 sin x, ABC, x1", "zh", 1.0),
    "code is neutral": ("求和 ```for item in items: print(item)``` 与 `sum(values)`", "zh", 1.0),
    "digits are neutral": ("12 34 的和 56", "zh", 1.0),
    "a number inside Chinese is no name": ("共有3个 and the", "zh", 0.6),
    "links and tags are neutral": ("参见 https://example.org/some/page <b>", "zh", 1.0),
    "contractions are one word": ("don't we're 好好", "en", 0.5),
}


@pytest.mark.parametrize(("text", "target", "expected"), SHARES.values(), ids=SHARES.keys())
def test_shares(text: str, target: str, expected: float):
    assert share(text, target) == pytest.approx(expected)


def test_a_thought_without_words_earns_nothing():
    assert share("") == share("$1 + 1$ 2 x") == 0.0


def test_the_target_can_be_the_language_of_the_question():
    def score(question: str) -> float:
        sample = Sample(response="<think>我们先求出结果。</think>", gold="", question=question)
        return language_consistency(sample).score

    assert (score("求 $x$ 的值"), score("Find the value of $x$.")) == (1.0, 0.0)
    assert question_language("1 + 1") == "en"
    assert question_language("Quelle est la somme de ces nombres ?") == "fr"


def test_only_the_thought_counts_unless_the_response_is_asked_for():
    sample = Sample(response="我们<think>so we have it</think>我们得到", gold="")
    assert thought(sample) == "so we have it"
    assert language_consistency(sample, "en").score == 1.0
    assert language_consistency(sample, "en", scope="response").score == pytest.approx(4 / 10)
    opened = Sample(response="so we have it</think>我们", gold="", prompt_opens_think=True)
    assert language_consistency(opened, "en").score == 1.0


def test_words_are_counted_by_language():
    assert count_words("The sum is 5. 结果是五。 Ответ готов.", "en") == {"en": 3, "zh": 4, "ru": 2}


def test_an_unknown_language_is_an_error():
    with pytest.raises(ValueError, match="klingon"):
        share("a", "klingon")


@pytest.mark.parametrize(
    "piece", [r"\(", "$$", "```", "`", "$", r"\begin{", "a_", "a", "的", "don't-"]
)
def test_long_thoughts_are_counted_in_linear_time(piece: str):
    started = time.process_time()
    share(piece * (400_000 // len(piece)))
    assert time.process_time() - started < 5
