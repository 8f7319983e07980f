"""Quantities: where the expression ends and its unit, currency or magnitude begins."""

from __future__ import annotations
from rewards.maths.text.tokens import Kind

import re
from fractions import Fraction

from rewards.maths.answer.units import CURRENCIES, MAGNITUDES, UNITS, Unit, is_unit, unit_of
from rewards.maths.limits import NotMathError
from rewards.maths.text.tokens import Tokens, closing
from rewards.maths.text.tokens import Token

_ORDINALS = {"1": "st", "2": "nd", "3": "rd"}
_PREFIXES = frozenset({("sym", "mu"), ("word", "k"), ("word", "M")})
_ROUNDED = ["to", "the", "nearest"]  # what follows says how the value was rounded
_BELOW = frozenset({"/", "per", "every"})


def split_unit(tokens: Tokens) -> tuple[Tokens, Unit | None, Fraction]:
    """The expression, its unit or currency sign, and the factor of a `percent` or `million` after
    it.
    """
    money = [k for k, token in enumerate(tokens) if token.text == "$" and token.kind == "op"]
    if money:
        return _split_money(tokens, money)
    if (
        len(tokens) in (2, 3)
        and tokens[0].kind == "num"
        and all(token.text == "'" for token in tokens[1:])
    ):
        return (
            tokens[:1],
            Unit((("prime", len(tokens) - 1),)),
            Fraction(1),
        )  # feet or minutes, inches or seconds
    if not any(_may_spell_unit(token) for token in tokens):
        return tokens, None, Fraction(1)
    for usual in (
        _without_ordinal,
        _spelt_out,
        _on_one_line,
        _currency_last,
        _without_brackets,
        _flat_powers,
    ):
        tokens = usual(tokens)
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
    is_letter = len(expression) == 1 and expression[0].kind != "num"
    letters_only = all(
        token.kind == "word" and len(token.text) == 1 for token in [*expression, *tail]
    )
    if unit is not None and is_letter and (unit.nouns or letters_only):
        raise NotMathError("words after a letter")  # `C maybe D` counts no D, `A C` measures no A
    return expression, unit, factor


def _split_money(tokens: Tokens, signs: list[int]) -> tuple[Tokens, Unit | None, Fraction]:
    """`$18 per day`; `\\$5\\$` is a formula between dollar signs."""
    if signs == [0, len(tokens) - 1] and len(tokens) > 2:
        return split_unit(tokens[1:-1])
    rest = [token for k, token in enumerate(tokens) if k != signs[0]]
    if len(signs) > 1 or not rest:
        raise NotMathError("currency")
    rest, unit, factor = split_unit(rest)
    known, nouns = unit or Unit()
    dollars = Unit(tuple(sorted({("dollar", 1), *known})), nouns)
    return rest, dollars, factor


def _may_spell_unit(token: Token) -> bool:
    return _begins_unit(token) or (token.kind == "sym" and token.text in ("Omega", "m"))


def _without_ordinal(tokens: Tokens) -> Tokens:
    """`23rd` and `23^{\\text{rd}}` as 23; `2^{nd}` is a power."""
    ending = [token for token in tokens[1:6] if token.text not in ("G", "^")]
    if len(tokens) > 5 or len(ending) != 1 or (len(tokens) > 2 and ending[0].kind != "word"):
        return tokens
    number = tokens[0].text
    ordinal = "th" if number[-2:-1] == "1" else _ORDINALS.get(number[-1:], "th")
    return tokens[:1] if tokens[0].kind == "num" and ending[0].text == ordinal else tokens


def _spelt_out(tokens: Tokens) -> Tokens:
    """Signs and letters that are units where they stand, as words: `25^\\circ C`, `5\\ \\Omega`, `5
    \\mu\\text{m}`,
    `5 m/s`.
    """
    spelt: Tokens = []
    for index, token in enumerate(tokens):
        before = spelt[-1] if spelt else Token(Kind.END, "")
        if token.kind == "sym" and _stands_as_unit(tokens[index:], before):
            token = token._replace(kind=Kind.WORD)
        has_prefix = (before.kind, before.text) in _PREFIXES and before.text + token.text in UNITS
        if token.kind == "word" and has_prefix:
            spelt[-1] = token._replace(text=before.text + token.text)
        else:
            spelt.append(token)
    return spelt


def _stands_as_unit(tokens: Tokens, before: Token) -> bool:
    letter = tokens[0]
    if letter.text == "Omega":
        return (letter.spaced and before.kind in ("num", "close")) or (
            before.kind,
            before.text,
        ) in _PREFIXES
    if letter.text == "m":
        return letter.spaced and before.kind == "num" and _is_speed(tokens)
    return letter.text in ("C", "F") and before.kind == "op" and before.text == "deg"


def _is_speed(tokens: Tokens) -> bool:
    texts = [token.text for token in tokens if token.text != "G"]
    return texts in (["m", "/", "s"], ["m", "/", "s", "^", "2"])


def _on_one_line(tokens: Tokens) -> Tokens:
    """`60 \\frac{\\text{miles}}{\\text{hour}}` as `60 miles/hour`."""
    start = next(
        (k for k, token in enumerate(tokens) if token.kind == "cmd" and token.text == "frac"), 0
    )
    middle = (closing(tokens, start + 1) or 0) if start else 0
    end = (closing(tokens, middle + 1) or 0) if 0 < middle < len(tokens) - 1 else 0
    above, below = tokens[start + 2 : middle], tokens[middle + 2 : end]
    if not (end and _is_unit_group(above) and _is_unit_group(below)):
        return tokens
    return [*tokens[:start], *above, Token(Kind.OP, "/"), *below, *tokens[end + 1 :]]


def _is_unit_group(tokens: Tokens) -> bool:
    """Nothing but units, their products and powers: `kg * m ^ 2`."""
    return (
        bool(tokens)
        and _is_unit_token(tokens[0])
        and all(
            (_is_unit_token(token) and (len(token.text) > 1 or token.text in UNITS))
            or token.text in ("*", ".", "^", "G", "-", "1", "2", "3", "s", "/")
            for token in tokens
        )
    )


def _currency_last(tokens: Tokens) -> Tokens:
    """`USD 12` as `12 USD`."""
    first = tokens[0] if tokens else None
    if first is None or first.kind not in ("word", "run") or first.text.lower() not in CURRENCIES:
        return tokens
    rest = tokens[2:] if [token.text for token in tokens[1:2]] == ["."] else tokens[1:]
    return [*rest, first] if rest and rest[0].kind == "num" else tokens


def with_commas(tokens: Tokens) -> Tokens:
    """`7 minutes 5 seconds` as `7 minutes, 5 seconds`: a number after a unit begins another
    quantity (not in `1A3`).
    """
    parts: Tokens = []
    for token in tokens:
        if (
            token.kind == "num"
            and len(parts) > 1
            and _ends_unit(parts[-1])
            and not _is_digit(parts[-1], token)
        ):
            parts.append(Token(Kind.OP, ","))
        parts.append(token)
    return parts


def _ends_unit(token: Token) -> bool:
    return token.kind in ("word", "run") and is_unit(token.text, plain=token.kind == "run")


def _is_digit(letter: Token, after: Token) -> bool:
    return len(letter.text) == 1 and not letter.spaced and not after.spaced


def _without_brackets(tokens: Tokens) -> Tokens:
    """`18 (dollars)` as `18 dollars`, `2 J/(kg * K)` as `2 J/kg * K`: all that follows a slash is
    below it.
    """
    opener = next(
        (k for k, token in enumerate(tokens) if token.kind == "open" and token.text == "("), 0
    )
    inner = tokens[opener + 1 : -1]
    is_bracket = opener and tokens[-1].text == ")" and inner and len(inner[0].text) > 1
    if is_bracket and (_is_unit_group(inner) or all(_is_unit_token(token) for token in inner)):
        return [*tokens[:opener], *inner]
    return tokens


def _flat_powers(tokens: Tokens) -> Tokens:
    """`cm^{2}` as `cm^2`, `s^{-1}` with a negative number."""
    flat: Tokens = []
    for token in tokens:
        flat.append(token)
        if len(flat) > 5 and token.text == "G" and [t.text for t in flat[-5:-2]] == ["^", "G", "-"]:
            number = flat[-2]
            if (
                number.kind == "num"
                and number.value is not None
                and flat[-6].kind in ("word", "run")
            ):
                flat[-4:] = [number._replace(text="-" + number.text, value=-number.value)]
                continue
        if (
            len(flat) < 5
            or token.text != "G"
            or flat[-4].text != "^"
            or flat[-5].kind not in ("word", "run")
        ):
            continue
        opener, number = flat[-3:-1]
        if opener.text == "G" and number.kind == "num":
            flat[-3:] = [number]
    return flat


def _begins_unit(token: Token) -> bool:
    return token.kind in ("word", "run", "func") or (token.kind == "op" and token.text == "deg")


def _may_be_unit(tokens: Tokens, index: int) -> bool:
    token, before = tokens[index], tokens[index - 1]
    if token.kind == "word":  # a letter after a sign is a variable
        return before.text not in ("_", "^") and not (
            len(token.text) == 1 and before.text in ("+", "-")
        )
    if token.kind == "run":
        if is_unit(token.text, plain=True) or token.text in _BELOW:
            return before.text not in ("_", "^")
        wordy = len(token.text) > 3 and re.search("[aeiouy]", token.text.lower()) is not None
        return (
            wordy
            and token.spaced
            and all(t.kind in ("num", "run", "word") or t.text in "/-." for t in tokens[:index])
        )
    if token.kind == "func":
        return token.text == "min" and before.kind == "num"
    if token.kind == "op" and token.text == "deg":
        return index + 1 < len(tokens) and tokens[index + 1].text in ("C", "F", "c", "f")
    after = tokens[index + 1 :]
    if token.kind == "op" and token.text in ("/", "*", ".", "-") and after:
        return _ends_with_unit(tokens[:index]) and (
            _is_unit_token(after[0]) or after[0].text in UNITS or token.text == "."
        )
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


def _ends_with_unit(tokens: Tokens) -> bool:
    """`cm`, `cm ^ 3`."""
    if len(tokens) > 2 and tokens[-1].kind == "num" and tokens[-2].text == "^":
        tokens = tokens[:-2]
    return _is_unit_token(tokens[-1])


def _unit_from(tail: Tokens) -> Unit | None:
    texts = [token.text.lower() for token in tail]
    tail = tail[: next((k for k in range(len(tail)) if texts[k : k + 3] == _ROUNDED), len(tail))]
    if not tail:
        return None
    if tail[-1].text in _BELOW:
        raise NotMathError("nothing after per")
    words: list[tuple[str, int]] = []
    below = False
    for index, token in enumerate(tail):
        if token.text in _BELOW:
            below = True
        elif token.kind in ("word", "run", "sym", "func"):
            words.append((token.text, -1 if below else 1))
        elif token.text == "deg":
            words.append(("degree", 1))
        elif token.text == "^" and words:
            power = next((t for t in tail[index + 1 : index + 3] if t.kind == "num"), None)
            if power is not None and power.value is not None:
                words[-1] = (words[-1][0], words[-1][1] * int(power.value))
    return unit_of(words)
