"""Properties that hold for any text: grading never raises, is symmetric, and knows a gold under
every wrapper.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import accuracy_reward
from rewards.maths import IN_PROCESS, LimitError, Rules, same_answer
from tests.rewards.table import DIFFERENT, EQUAL

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GOLDS = sorted({side for _, answer, gold in EQUAL + DIFFERENT for side in (answer, gold)})
PIECES = r"""1 2 10 0.5 1,234 .5 x y n a e i \pi \infty f( ( ) [ ] { } \{ \} | , ; : . + - * / ^ _ ! % ' = <
> \le \neq \pm \cup \in \setminus \frac \sqrt \sqrt[3] \sin \cos^{-1} \log_2 \ln \binom \begin{pmatrix}
\end{pmatrix} & \\ \text{cm} \text{and} \text{or} \mathbb{R} \$ $ \% ^\circ \left( \right)
\sum_{k=1}^{n} \overline{3} km and or A (C) \boxed{ hello \lfloor \rfloor \emptyset \approx \mid \cdot
\times xy mod \gcd( \vec{v} x_1 y' ½ ² π \choose \over
""".split()  # noqa: SIM905

settings.register_profile("bounded", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("bounded")

texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=10).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
)


def same(answer: str, gold: str) -> bool | None:
    try:
        return same_answer(answer, gold, Rules(), IN_PROCESS)
    except LimitError:
        return None


@given(texts, texts)
def test_comparing_never_raises_and_is_symmetric(left: str, right: str):
    assert same(left, right) == same(right, left)


@given(texts)
def test_a_text_is_equal_to_itself_with_other_blanks(text: str):
    assert same(f" {text} ", text) is bool(text.strip())


@given(st.text(max_size=200), st.text(max_size=40))
def test_grading_any_response_never_raises(response: str, gold: str):
    assert accuracy_reward(response, gold).score in (0.0, 1.0)


@given(texts, st.sampled_from(GOLDS))
def test_grading_any_boxed_text_never_raises(text: str, gold: str):
    assert accuracy_reward(rf"\boxed{{{text}}}", gold).reason != "error"


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**12), st.integers(2, 50))
def test_fractions_reduce(numerator: int, denominator: int, factor: int):
    answer = rf"\frac{{{numerator * factor}}}{{{denominator * factor}}}"
    assert same(answer, f"{numerator}/{denominator}")
    assert not same(answer, f"{numerator + 1}/{denominator}")


@given(st.integers(0, 10**15))
def test_thousands_separators_are_wrappers(value: int):
    for separated in (
        f"{value:,}",
        f"{value:,}".replace(",", "{,}"),
        f"{value:,}".replace(",", r",\!"),
    ):
        assert same(separated, str(value))


@given(
    st.lists(st.integers(-99, 99), min_size=2, max_size=6, unique=True),
    st.randoms(use_true_random=False),
)
def test_lists_have_no_order_and_tuples_have(values: list[int], random):
    shuffled = list(values)
    random.shuffle(shuffled)
    left, right = (", ".join(map(str, numbers)) for numbers in (values, shuffled))
    assert same(left, right)
    assert same(rf"\{{{left}\}}", rf"\{{{right}\}}")
    assert same(f"({left})", f"({right})") == (values == shuffled)
    assert not same(left, ", ".join(map(str, values[1:])))


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_expanding_a_product_changes_nothing(a: int, b: int, c: int):
    product, expanded = f"({c}x+{a})(x-({b}))", f"{c}x^2+({a - b * c})x-({a * b})"
    assert same(product, expanded)
    assert not same(product, expanded + "+1")


WRAPPERS = [
    r"\boxed{ANSWER}", "$ANSWER$", r"\(ANSWER\)", r"\[ANSWER\]", "ANSWER.", " ANSWER ", "{ANSWER}",
    r"\displaystyle ANSWER",
    r"\,ANSWER\,", "$$ANSWER$$",
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_gold_is_equal_to_itself_under_every_wrapper(wrapper: str):
    plain = [
        gold
        for gold in GOLDS
        if "$" not in gold and gold != "C) 12" and gold.count("{") == gold.count("}")
    ]
    assert [gold for gold in plain if same(wrapper.replace("ANSWER", gold), gold) is False] == []


def golds(name: str) -> list[str]:
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("the data sets are not beside this repository")
    return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "name", ["math500", "olympiadbench", "minerva", "aime24", "aime25", "amc23", "gsm8k_test"]
)
def test_every_gold_grades_itself_with_its_commands_respelled(name: str):
    wrong = []
    for gold in golds(name):
        respelled = re.sub(r"\\frac(?![a-zA-Z])", r"\\dfrac", gold).replace(" ", "  ")
        if accuracy_reward(rf"<think>.</think>\boxed{{ {respelled} }}", gold).score != 1:
            wrong.append(gold)
    assert wrong == []
