"""Are two texts the same mathematical object? A first reading of both, then what else they may
mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards.maths.answer.kinds import Answer, Scalar, Words
from rewards.maths.answer.phrases import number_set_at, takes_back
from rewards.maths.answer.reader import read, read_tokens
from rewards.maths.equality.pairs import Comparison, is_choice, is_letter
from rewards.maths.equality.readings import Side, second_readings
from rewards.maths.expression.node import sym
from rewards.maths.limits import Budget, LimitError, Limits
from rewards.maths.text.tokens import LETTERS, Kind, Tokens, plain_text, strip

_JUDGING_VERBS = frozenset({"is", "isn", "was", "wasn", "seems", "would", "might", "cannot"})
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
    if not rules.rel_tol and _DECIMAL.fullmatch(answer) and _DECIMAL.fullmatch(gold):
        return Fraction(answer) == Fraction(gold)  # most answers; nothing else needs to be read
    if len(answer) > limits.max_chars or len(gold) > limits.max_chars:
        raise LimitError("chars")
    comparison = Comparison(Budget(limits), rules.rel_tol)
    ours, golds = (_side(text, rules.programming, limits) for text in (answer, gold))
    domains, gold_domains = _domains(ours.tokens), _domains(golds.tokens)
    if any(domains[name] != gold_domains[name] for name in domains.keys() & gold_domains.keys()):
        return False  # a domain that only one of them names is no difference
    if plain_text(ours.tokens) == plain_text(golds.tokens) != "":
        in_words = isinstance(ours.answer, Words) or isinstance(golds.answer, Words)
        agree = _texts_agree(ours.tokens, golds.tokens, ignore_case=in_words)
        if in_words or agree:
            return agree
    if comparison.same(ours.answer, golds.answer):
        return True
    # `(C) 12` is C, and is 12; beside another letter with its content both must agree.
    letter, value = _choice(ours, golds, limits)
    gold_letter, gold_value = _choice(golds, ours, limits)
    if letter and gold_letter:
        return letter == gold_letter and comparison.same(value, gold_value)
    if letter or gold_letter:
        other = gold_value if letter else value
        if is_choice(other):
            return other == Scalar(sym(letter or gold_letter))
        return comparison.same(value, gold_value)
    if is_choice(golds.answer):
        return False  # `A = D` picks no letter
    pairs = second_readings(ours, golds._replace(is_gold=True), comparison.budget)
    return any(comparison.same(left, right) for left, right in pairs)


@lru_cache(maxsize=16_384)
def _side(text: str, programming: bool, limits: Limits) -> Side:
    """Golds repeat over the samples of a group, and so do most answers."""
    plain = _SCIENTIFIC.sub(r"(\1*10^{\2})", _PROGRAMMING.sub("", text)) if programming else text
    answer, tokens = read(plain, limits)
    return Side(text, tokens, answer, is_gold=False)


def _domains(tokens: Tokens) -> dict[str, str]:
    """The number sets that symbols are said to be in."""
    places = [i for i in range(1, len(tokens) - 1) if tokens[i].is_op("in")]
    found = {tokens[i - 1].text: number_set_at(tokens, i + 1) for i in places}
    return {name: domain for name, domain in found.items() if domain}


def _texts_agree(tokens: Tokens, gold: Tokens, *, ignore_case: bool) -> bool:
    """Words of a text may agree without regard to case; symbols only with it, and in mathematics
    all letters.
    """
    left, right = ([t for t in side if not t.is_op(".", '"')] for side in (tokens, gold))
    return all(
        (ignore_case and a.kind in LETTERS) or a.text == b.text
        for a, b in zip(left, right, strict=False)
    )


def _choice(side: Side, other: Side, limits: Limits) -> tuple[str, Answer]:
    """The letter of a choice and its content; no letter and the answer where it is none."""
    found = split_choice(side.tokens, in_words=is_choice(other.answer))
    return (found[0], read_tokens(found[1], limits)) if found else ("", side.answer)


def split_choice(tokens: Tokens, *, in_words: bool = False) -> tuple[str, Tokens] | None:
    """`(C) 12`, `C. 12`, `C: 12` -> C and the rest; None for anything else, and where the rest
    names a choice too.

    Args:
        in_words: the other side is a letter alone, so that the rest may be a text with capitals in
            it: `(E) A triangle`, `B: P(A) = 0.5`, `E (24 cm)`.
    """
    shown = [token.text for token in tokens]
    start = 1 if shown[:1] == ["("] else 0
    if len(tokens) < start + 3 or not is_letter(shown[start]):
        return None
    letter, mark = tokens[start], tokens[start + 1].text
    in_brackets = in_words and mark == "(" and tokens[1].spaced and shown[-1] == ")"
    is_marked = mark == ")" if start else mark in (")", ".", ":") or in_brackets
    rest = strip(tokens[start + 2 :])
    if letter.kind not in (Kind.SYM, Kind.WORD) or not is_marked or not rest:
        return None
    if in_words:
        denied = takes_back(rest[:1]) or rest[0].text.lower() in _JUDGING_VERBS
        if not denied and not (len(rest) < 4 and takes_back(rest)) and not _offers_choice(rest):
            return letter.text, rest
    others = (
        is_letter(t.text) and t.kind in (Kind.SYM, Kind.WORD) and t.text != letter.text
        for t in rest
    )
    return None if takes_back(rest) or any(others) else (letter.text, rest)


def _offers_choice(tokens: Tokens) -> bool:
    """Is there another choice in what follows a letter: `B) 6`, `(B)`, or letters alone?"""
    for index, token in enumerate(tokens):
        before = [t.text for t in tokens[max(0, index - 2) : index]]
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        opened = before[-1:] == ["("] and len(before) == 2 and before[0].isalpha()
        if is_letter(token.text) and after in (")", ":") and not opened:
            return True
    return not any(len(token.text) > 1 or token.kind is Kind.NUM for token in tokens)
