"""Are two texts the same mathematical object? A first reading of both, then what else they may
mean.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards.maths.answer.kinds import (
    Answer,
    Equation,
    Listing,
    Scalar,
    Words,
)
from rewards.maths.answer.phrases import number_set_at, takes_back
from rewards.maths.answer.reader import read, read_tokens
from rewards.maths.answer.units import SPACED_LETTERS, UNITS, Unit
from rewards.maths.equality.labels import renamed_parameter, values_within
from rewards.maths.equality.pairs import Comparison, is_choice, is_letter, same
from rewards.maths.equality.readings import Pair, second_readings
from rewards.maths.expression.node import Node, sym, variables, walk
from rewards.maths.limits import Budget, LimitError, Limits
from rewards.maths.text.tokens import Tokens, plain_text, strip
from rewards.maths.text.notation import ambiguous_commas

Choice = tuple[str, Tokens]  # a letter and the content beside it
_COORDINATES = frozenset({"x", "y", "z", "r", "theta"})
_OF_ONE_THING = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "abs"})
_JUDGING_VERBS = frozenset({"is", "isn", "was", "wasn", "seems", "would", "might", "cannot"})
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_PROGRAMMING = re.compile(r"\b(?:np|numpy|math|cmath)\.(?=[a-z])")
_SCIENTIFIC = re.compile(r"(\d+\.?\d*|\.\d+)[eE]([+-]?\d{1,4})(?![\w.])", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a data source allows beyond equality.

    rel_tol: numbers may differ by this share of the gold number; 0 is exact.
    programming: read `1e-5`, `2**3`, `-1./3` and `np.arcsin(10/13)` as code writes them.
    """

    rel_tol: float = 0.0
    programming: bool = False


def same_answer(answer: str, gold: str, rules: Rules, limits: Limits) -> bool:
    """Is `answer` the same mathematical object as `gold`, up to wrappers?

    Raises:
        LimitError: reading or comparing them asks for more than `limits`.
    """
    answer, gold = answer.strip(), gold.strip()
    if answer == gold:
        return bool(answer)
    if not rules.rel_tol and _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return int(answer) == int(gold)  # most answers; nothing else needs to be read
    if not rules.rel_tol and _DECIMAL.fullmatch(answer) and _DECIMAL.fullmatch(gold):
        return Fraction(answer) == Fraction(gold)
    if len(answer) > limits.max_chars or len(gold) > limits.max_chars:
        raise LimitError("chars")
    comparison = Comparison(Budget(limits), rules.rel_tol)
    read_answer, tokens = _read(answer, rules.programming, limits)
    read_gold, gold_tokens = _read(gold, rules.programming, limits)
    if _in_other_domains(tokens, gold_tokens):
        return False
    if plain_text(tokens) == plain_text(gold_tokens) != "":
        in_words = isinstance(read_answer, Words) or isinstance(read_gold, Words)
        if in_words or _texts_agree(tokens, gold_tokens, ignore_case=False):
            return _texts_agree(tokens, gold_tokens, ignore_case=in_words)
    if same(read_answer, read_gold, comparison):
        return True
    choices = (
        split_choice(tokens, in_words=is_choice(read_gold)),
        split_choice(gold_tokens, in_words=is_choice(read_answer)),
    )
    if choices != (None, None):
        return _same_choice(*choices, read_answer, read_gold, comparison)
    return _same_otherwise(answer, gold, read_answer, read_gold, (tokens, gold_tokens), comparison)


def _same_choice(
    choice: Choice | None,
    gold_choice: Choice | None,
    answer: Answer,
    gold: Answer,
    comparison: Comparison,
) -> bool:
    """`(C) 12` is C, and is 12; beside another letter with its content both must agree."""
    letter, answer = _without_letter(choice, answer, comparison)
    gold_letter, gold = _without_letter(gold_choice, gold, comparison)
    if letter and gold_letter:
        return letter == gold_letter and same(answer, gold, comparison)
    if is_choice(gold if letter else answer):
        return (gold if letter else answer) == Scalar(sym(letter or gold_letter))
    return same(answer, gold, comparison)


def _without_letter(
    choice: Choice | None, answer: Answer, comparison: Comparison
) -> tuple[str, Answer]:
    return (
        ("", answer)
        if choice is None
        else (choice[0], read_tokens(choice[1], comparison.budget.limits))
    )


def _in_other_domains(tokens: Tokens, gold: Tokens) -> bool:
    r"""`3k, k \in \mathbb{Z}` and the same with k in N; a domain that only one of them names is no
    difference.
    """
    domains, gold_domains = _domains(tokens), _domains(gold)
    return any(domains[name] != gold_domains[name] for name in domains.keys() & gold_domains.keys())


def _domains(tokens: Tokens) -> dict[str, str]:
    """The number sets that symbols are said to be in."""
    places = [
        i for i in range(1, len(tokens) - 1) if tokens[i].text == "in" and tokens[i].kind == "op"
    ]
    found = {tokens[i - 1].text: number_set_at(tokens, i + 1) for i in places}
    return {name: domain for name, domain in found.items() if domain}


def _texts_agree(tokens: Tokens, gold: Tokens, *, ignore_case: bool) -> bool:
    """Words of a text may agree without regard to case; symbols only with it, and in mathematics
    all letters.
    """
    return all(
        (ignore_case and left.kind in ("word", "run")) or left.text == right.text
        for left, right in zip(_marks_removed(tokens), _marks_removed(gold), strict=False)
    )


def _marks_removed(tokens: Tokens) -> Tokens:
    return [token for token in tokens if not (token.kind == "op" and token.text in '."')]


@lru_cache(maxsize=16_384)
def _read(text: str, programming: bool, limits: Limits) -> tuple[Answer, Tokens]:
    """Golds repeat over the samples of a group, and so do most answers."""
    if programming:
        text = _SCIENTIFIC.sub(r"(\1*10^{\2})", _PROGRAMMING.sub("", text))
    return read(text, limits)


def _same_otherwise(
    answer: str,
    gold: str,
    read_answer: Answer,
    read_gold: Answer,
    both: tuple[Tokens, Tokens],
    comparison: Comparison,
) -> bool:
    """Do any second readings agree? An answer that picks no letter, such as `A = D`, has none."""
    if is_choice(read_gold):
        return False
    pairs = itertools.chain(
        _other_answers(answer, read_answer, read_gold, both, comparison.budget),
        _other_golds(gold, read_answer, read_gold, both[1], comparison.budget),
        second_readings(Pair(answer, gold, *both, read_answer, read_gold, comparison.budget)),
    )
    return any(same(left, right, comparison) for left, right in pairs)


def _other_answers(
    text: str, answer: Answer, gold: Answer, both: tuple[Tokens, Tokens], budget: Budget
) -> Iterator[tuple[Answer, Answer]]:
    """What else an answer may mean: what it states, another name for its parameter, `5 m`, `1,234`
    as two numbers.
    """
    tokens, gold_tokens = both
    for value in values_within(tokens, answer, gold, budget):
        yield value, gold
    if renamed := renamed_parameter(tokens, gold_tokens):
        yield read_tokens(renamed, budget.limits), gold
    if (
        isinstance(gold, Scalar)
        and (quantity := _with_letter_unit(tokens, budget.limits)) is not None
    ):
        yield quantity, gold
    if isinstance(gold, Listing) and ambiguous_commas(text):
        yield read(text, budget.limits, comma_lists=True)[0], gold


def _other_golds(
    text: str, answer: Answer, gold: Answer, tokens: Tokens, budget: Budget
) -> Iterator[tuple[Answer, Answer]]:
    """The same for a gold; an equation is the answer, unless it gives a quantity its value."""
    if isinstance(gold, Equation):
        result = (
            _result(gold) if isinstance(answer, Scalar) and not variables(answer.node) else None
        )
        if result is not None:
            yield answer, result
        return
    for value in values_within(tokens, gold, answer, budget):
        yield answer, value
    if (
        isinstance(answer, Scalar)
        and (quantity := _with_letter_unit(tokens, budget.limits)) is not None
    ):
        yield answer, quantity
    if isinstance(answer, Listing) and ambiguous_commas(text):
        yield answer, read(text, budget.limits, comma_lists=True)[0]


def _result(equation: Equation) -> Scalar | None:
    """5 of `m + n = 5`, `AB = 5` and `\\sin x = 5`, which state what was asked for; `2x = 5` is not
    solved yet.
    """
    left, right, unit = equation
    asked, value = (left, right) if variables(left) else (right, left)
    if variables(value) or not _names_a_result(equation):
        return None
    return (
        Scalar(value, unit) if len(variables(asked)) > 1 or asked.op in ("call", "apply") else None
    )


def _names_a_result(gold: Equation) -> bool:
    r"""Does the gold give a quantity its value: `AB = 5`, `m + n = 5`, `\tan A = 2`, `|z| = 5`? `x
    + y = 5` is a line, and `\gcd(m, n) = 1` a condition: there the equation is the answer.
    """
    asked = gold.left if variables(gold.left) else gold.right
    if asked.op == "add":
        return all(part.op == "sym" and part.value not in _COORDINATES for part in asked.args)
    if asked.op == "call":
        return asked.value in _OF_ONE_THING and _is_thing(asked.args[0])
    return asked.op == "mul" and _is_thing(asked)


def _is_thing(node: Node) -> bool:
    """A letter, or a segment or angle by the capital letters of its points."""
    letters = [str(part.value) for part in walk(node) if part.op == "sym" and part.value != "angle"]
    product = all(part.op in ("sym", "mul") for part in walk(node))
    return product and (len(letters) == 1 or all(letter.isupper() for letter in letters))


def split_choice(tokens: Tokens, *, in_words: bool = False) -> Choice | None:
    """`(C) 12`, `C. 12`, `C: 12` -> C and the rest; None for anything else, and where the rest
    names a choice too.

    Args:
        in_words: the other side is a letter alone, so that the rest may be a text with capitals in
            it: `(E) A triangle`, `B: P(A) = 0.5`, `E (24 cm)`.
    """
    texts = [token.text for token in tokens]
    start = 1 if texts[:1] == ["("] else 0
    if (
        len(tokens) < start + 3
        or not is_letter(texts[start])
        or tokens[start].kind not in ("sym", "word")
    ):
        return None
    mark = texts[start + 1]
    in_brackets = in_words and mark == "(" and tokens[1].spaced and texts[-1] == ")"
    if (start == 1 and mark != ")") or (
        start == 0 and mark not in (")", ".", ":") and not in_brackets
    ):
        return None
    rest = strip(tokens[start + 2 :])
    denied = rest and (
        takes_back(rest[:1])
        or rest[0].text.lower() in _JUDGING_VERBS
        or (len(rest) < 4 and takes_back(rest))
    )
    if in_words and rest and not denied and not _offers_choice(rest):
        return texts[start], rest
    if (
        not rest
        or takes_back(rest)
        or any(
            is_letter(t.text) and t.kind in ("sym", "word") for t in rest if t.text != texts[start]
        )
    ):
        return None
    return texts[start], rest


def _offers_choice(tokens: Tokens) -> bool:
    """Is there another choice in what follows a letter: `B) 6`, `(B)`, or letters alone?"""
    for index, token in enumerate(tokens):
        if not is_letter(token.text):
            continue
        before = [t.text for t in tokens[max(0, index - 2) : index]]
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        opened = before[-1:] == ["("] and len(before) == 2 and before[0].isalpha()
        if after in (")", ":") and not opened:
            return True
    return not any(len(token.text) > 1 or token.kind == "num" for token in tokens)


def _with_letter_unit(tokens: Tokens, limits: Limits) -> Scalar | None:
    """`5 m` as 5 metres, where all before the m is a number."""
    if (
        len(tokens) < 2
        or tokens[-1].kind != "sym"
        or not tokens[-1].spaced
        or tokens[-1].text not in SPACED_LETTERS
    ):
        return None
    number = read_tokens(tokens[:-1], limits)
    plain = all(token.kind == "num" or token.text in "+-./" for token in tokens[:-1])
    if not plain or not isinstance(number, Scalar):
        return None
    return number._replace(unit=Unit(((UNITS[tokens[-1].text], 1),)))
