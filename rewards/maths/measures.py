"""Quantities: where the expression ends and its unit, currency or magnitude begins."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.maths.limits import NotMathError
from rewards.maths.stretches import Tokens
from rewards.maths.tokens import Token
from rewards.maths.units import CURRENCIES, MAGNITUDES, UNITS, Unit, counts_nothing, is_unit, unit_of


def split_unit(tokens: Tokens) -> tuple[Tokens, Unit | None, Fraction]:
    """The expression, its unit or currency sign, and the factor of a `percent` or `million` after it."""
    money = [token.text == "$" and token.kind == "op" for token in tokens]
    if any(money):
        rest = [token for token, is_money in zip(tokens, money, strict=True) if not is_money]
        if sum(money) == 1 and rest:
            rest, unit, factor = split_unit(rest)
            return rest, unit or Unit((("dollar", 1),)), factor
        raise NotMathError("currency")
    tokens = _flat_powers(_without_brackets(_currency_last(tokens)))
    start = len(tokens)
    while start > 1 and _may_be_unit(tokens, start - 1):
        start -= 1
    while start < len(tokens) and not _begins_unit(tokens[start]):
        start += 1
    tail = tokens[start:]
    factor = Fraction(1)
    if [token.text.lower() for token in tail] in (["percent"], ["per", "cent"], ["pct"]):
        return tokens[:start], None, Fraction(1, 100)
    expression = tokens[:start]
    while tail and tail[0].text.lower() in MAGNITUDES:
        factor *= MAGNITUDES[tail[0].text.lower()]
        tail = tail[1:]
    unit = _unit_from(tail) if tail else None
    if unit is not None and unit.nouns and len(expression) == 1 and expression[0].kind != "num":
        raise NotMathError("words after a letter")  # `C maybe D` counts no D
    return expression, unit, factor


def _currency_last(tokens: Tokens) -> Tokens:
    """`USD 12` as `12 USD`."""
    first = tokens[0] if tokens else None
    if first is None or first.kind not in ("word", "run") or first.text.lower() not in CURRENCIES:
        return tokens
    rest = tokens[2:] if [token.text for token in tokens[1:2]] == ["."] else tokens[1:]
    return [*rest, first] if rest and rest[0].kind == "num" else tokens


def with_commas(tokens: Tokens) -> Tokens:
    """`7 minutes 5 seconds` as `7 minutes, 5 seconds`: a number after a unit begins another quantity."""
    parts: Tokens = []
    for token in tokens:
        if token.kind == "num" and len(parts) > 1 and _ends_unit(parts[-1]):
            parts.append(Token("op", ","))
        parts.append(token)
    return parts


def _ends_unit(token: Token) -> bool:
    return token.kind in ("word", "run") and is_unit(token.text, plain=token.kind == "run")


def _without_brackets(tokens: Tokens) -> Tokens:
    """`18 (dollars)` as `18 dollars`."""
    opener = next((k for k, token in enumerate(tokens) if token.kind == "open" and token.text == "("), 0)
    inner = tokens[opener + 1 : -1]
    if opener and inner and tokens[-1].text == ")" and all(_is_unit_token(token) for token in inner):
        return [*tokens[:opener], *inner]
    return tokens


def _flat_powers(tokens: Tokens) -> Tokens:
    """`cm^{2}` as `cm^2`, `s^{-1}` with a negative number."""
    flat: Tokens = []
    for token in tokens:
        flat.append(token)
        if len(flat) > 5 and token.text == "G" and [t.text for t in flat[-5:-2]] == ["^", "G", "-"]:
            number = flat[-2]
            if number.kind == "num" and number.value is not None and flat[-6].kind in ("word", "run"):
                flat[-4:] = [number._replace(text="-" + number.text, value=-number.value)]
                continue
        if len(flat) < 5 or token.text != "G" or flat[-4].text != "^" or flat[-5].kind not in ("word", "run"):
            continue
        opener, number = flat[-3:-1]
        if opener.text == "G" and number.kind == "num":
            flat[-3:] = [number]
    return flat


def _begins_unit(token: Token) -> bool:
    return token.kind in ("word", "run", "func") or (token.kind == "op" and token.text == "deg")


def _may_be_unit(tokens: Tokens, index: int) -> bool:
    token, before = tokens[index], tokens[index - 1]
    if token.kind == "word":
        return before.text != "_" and before.text != "^"
    if token.kind == "run":
        if is_unit(token.text, plain=True):
            return before.text not in ("_", "^", "/") or before.text == "/"
        wordy = len(token.text) > 3 and re.search("[aeiouy]", token.text.lower()) is not None
        return (
            wordy and token.spaced and all(t.kind in ("num", "run", "word") or t.text in "/-." for t in tokens[:index])
        )
    if token.kind == "func":
        return token.text == "min" and before.kind == "num"
    if token.kind == "op" and token.text == "deg":
        return index + 1 < len(tokens) and tokens[index + 1].text in ("C", "F", "c", "f")
    after = tokens[index + 1 :]
    if token.kind == "op" and token.text in ("/", "*", ".", "-") and after:
        return _is_unit_token(before) and (_is_unit_token(after[0]) or after[0].text in UNITS or token.text == ".")
    if token.kind == "op" and token.text == "^":
        return _is_unit_token(before)
    if token.kind == "num" and token.text.lstrip("-") in ("2", "3", "1"):
        return before.text == "^" and index >= 2 and _is_unit_token(tokens[index - 2])
    if token.kind == "sym" and before.kind == "op" and before.text in ("/", "*") and index >= 2:
        return _is_unit_token(tokens[index - 2]) and token.text in UNITS
    return False


def _is_unit_token(token: Token) -> bool:
    if token.kind == "word":
        return True
    return token.kind == "run" and is_unit(token.text, plain=True)


def _unit_from(tail: Tokens) -> Unit | None:
    words: list[tuple[str, int]] = []
    below, index = False, 0
    while index < len(tail):
        token = tail[index]
        if token.text in ("/", "per"):
            below = True
        elif token.kind in ("word", "run", "sym", "func"):
            words.append((token.text, -1 if below else 1))
        elif token.text == "deg":
            words.append(("celsius" if tail[index + 1].text in "Cc" else "fahrenheit", 1))
            index += 1
        elif token.text == "^" and words:
            power = next((t for t in tail[index + 1 : index + 3] if t.kind == "num"), None)
            if power is not None and power.value is not None:
                words[-1] = (words[-1][0], words[-1][1] * int(power.value))
        index += 1
    unit = unit_of(words)
    nouns = [word for word, _ in words if not is_unit(word, plain=False) or word.lower() in ("squared", "cubed")]
    if (unit is not None and unit.nouns & {"squared", "cubed"}) or any(
        counts_nothing(word) and not _is_spelt_power(word, unit) for word in nouns
    ):
        raise NotMathError("words that change the value")
    return unit


def _is_spelt_power(word: str, unit: Unit | None) -> bool:
    """`squared` that belongs to a unit before it: `5 meters squared`."""
    return word.lower() in ("squared", "cubed") and unit is not None and bool(unit.known)
