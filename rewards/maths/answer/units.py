"""Quantities: where the expression ends and its unit, currency or magnitude begins. Another spelling
is the same unit; another unit is another answer.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from rewards.maths.answer.kinds import Scalar, Unit
from rewards.maths.expression.parser import parsed
from rewards.maths.limits import Limits, NotMathError
from rewards.maths.text import vocabulary as known
from rewards.maths.text.tokens import LETTERS, Kind, Token, Tokens, closing, texts
from rewards.maths.text.vocabulary import UNITS

_ANY = "unit"
_BELOW = ("/", "per", "every")
_ONE = Fraction(1)


def split_unit(tokens: Tokens) -> tuple[Tokens, Unit | None, Fraction]:
    """The expression, its unit or currency sign, and the factor of a `percent` or `million` after
    it.

    Raises:
        NotMathError: what follows the expression changes its value.
    """
    signs = [k for k, token in enumerate(tokens) if token.text == "$"]
    if signs == [0, len(tokens) - 1] and len(tokens) > 2:
        return split_unit(tokens[1:-1])  # a formula between dollar signs
    if signs:  # `$18 per day`
        if len(signs) > 1 or len(tokens) == 1:
            raise NotMathError("currency")
        at = signs[0]
        rest, unit, factor = split_unit([*tokens[:at], *tokens[at + 1 :]])
        per, nouns = unit or Unit()
        return rest, Unit(tuple(sorted({("dollar", 1), *per})), nouns), factor
    first = tokens[0] if tokens else Token(Kind.END, "")
    marks = len(tokens) - 1
    if marks in (1, 2) and first.kind is Kind.NUM and all(t.text == "'" for t in tokens[1:]):
        return tokens[:1], Unit((("prime", marks),)), _ONE  # feet or minutes, inches or seconds
    if not any(_begins_unit(t) or t.text in ("Omega", "m") for t in tokens):
        return tokens, None, _ONE
    if _is_ordinal(tokens):
        return tokens[:1], None, _ONE
    tokens = _on_one_line(_spelt_out(tokens))
    if first.word in known.CURRENCIES:  # `USD 12`
        rest = tokens[2:] if tokens[1:] and tokens[1].text == "." else tokens[1:]
        tokens = [*rest, first] if rest and rest[0].kind is Kind.NUM else tokens
    start = len(tokens)
    while start > 1 and _may_be_unit(tokens, start - 1):
        start -= 1
    while start < len(tokens) and not _begins_unit(tokens[start]):
        start += 1
    expression, tail = tokens[:start], tokens[start:]
    if [token.text.lower() for token in tail] in (["percent"], ["per", "cent"], ["pct"]):
        return expression, None, Fraction(1, 100)
    factor = _ONE
    while tail and tail[0].text.lower() in known.MAGNITUDES:
        factor *= known.MAGNITUDES[tail[0].text.lower()]
        tail = tail[1:]
    unit = _unit_from(tail)
    is_letter = len(expression) == 1 and expression[0].kind is not Kind.NUM
    both = [*expression, *tail]
    letters_only = all(token.kind is Kind.WORD and len(token.text) == 1 for token in both)
    if unit is not None and is_letter and (unit.nouns or letters_only):
        raise NotMathError("words after a letter")  # `C maybe D` counts no D, `A C` measures no A
    return expression, unit, factor


def _is_ordinal(tokens: Tokens) -> bool:
    """`23rd` and `23^{\\text{rd}}`; `2^{nd}` is a power."""
    ending = [token for token in tokens[1:6] if token.text not in ("G", "^")]
    if len(tokens) > 5 or len(ending) != 1 or tokens[0].kind is not Kind.NUM:
        return False
    if len(tokens) > 2 and ending[0].kind is not Kind.WORD:
        return False
    number = tokens[0].text
    last = "" if number[-2:-1] == "1" else number[-1:]
    return ending[0].text == {"1": "st", "2": "nd", "3": "rd"}.get(last, "th")


def _spelt_out(tokens: Tokens) -> Tokens:
    """Signs and letters that are units where they stand, as words: `25^\\circ C`, `5\\ \\Omega`,
    `5 \\mu\\text{m}`, `5 m/s`.
    """
    spelt: Tokens = []
    for index, token in enumerate(tokens):
        before = spelt[-1] if spelt else Token(Kind.END, "")
        has_prefix = (before.kind, before.text) in (
            (Kind.SYM, "mu"), (Kind.WORD, "k"), (Kind.WORD, "M")
        )  # fmt: skip
        if token.kind is Kind.SYM and token.text in ("Omega", "m", "C", "F"):
            is_speed = texts(tokens[index:]) in (["m", "/", "s"], ["m", "/", "s", "^", "2"])
            after_number = before.kind in (Kind.NUM, Kind.CLOSE) and token.spaced
            stands = {
                "Omega": after_number or has_prefix,
                "m": after_number and before.kind is Kind.NUM and is_speed,
                "C": before.is_op("deg"),
                "F": before.is_op("deg"),
            }
            if stands.get(token.text):
                token = token._replace(kind=Kind.WORD)
        if token.kind is Kind.WORD and has_prefix and before.text + token.text in UNITS:
            spelt[-1] = token._replace(text=before.text + token.text)
        else:
            spelt.append(token)
    return spelt


def _on_one_line(tokens: Tokens) -> Tokens:
    """`60 \\frac{\\text{miles}}{\\text{hour}}` as `60 miles/hour`, `18 (dollars)` as `18 dollars`,
    `2 J/(kg * K)` as `2 J/kg * K` (all that follows a slash is below it), `cm^{2}` as `cm^2`.
    """
    start = next((k for k, t in enumerate(tokens) if t.kind is Kind.CMD and t.text == "frac"), 0)
    middle = (closing(tokens, start + 1) or 0) if start else 0
    end = (closing(tokens, middle + 1) or 0) if 0 < middle < len(tokens) - 1 else 0
    above, below = tokens[start + 2 : middle], tokens[middle + 2 : end]
    if end and _is_unit_group(above) and _is_unit_group(below):
        tokens = [*tokens[:start], *above, Token(Kind.OP, "/"), *below, *tokens[end + 1 :]]
    opener = next((k for k, t in enumerate(tokens) if t.kind is Kind.OPEN and t.text == "("), 0)
    inner = tokens[opener + 1 : -1]
    is_unit_only = _is_unit_group(inner) or all(_is_unit_token(token) for token in inner)
    if opener and tokens[-1].text == ")" and inner and len(inner[0].text) > 1 and is_unit_only:
        tokens = [*tokens[:opener], *inner]
    flat: Tokens = []
    for token in tokens:
        flat.append(token)
        for size in (4, 5):  # ^ { 2 }, ^ { - 1 }
            number = flat[-2] if len(flat) > size else token
            group = [t.text for t in flat[-size:-2]]
            if token.text != "G" or group != ["^", "G", "-"][: size - 2] or number.value is None:
                continue
            if flat[-size - 1].kind in LETTERS:
                negated = number._replace(text="-" + number.text, value=-number.value)
                flat[1 - size :] = [number if size == 4 else negated]
                break
    return flat


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


def _begins_unit(token: Token) -> bool:
    return token.kind in (Kind.WORD, Kind.RUN, Kind.FUNC) or token.is_op("deg")


def _is_unit_token(token: Token) -> bool:
    return token.kind is Kind.WORD or (token.kind is Kind.RUN and is_unit(token.text, plain=True))


def _may_be_unit(tokens: Tokens, index: int) -> bool:
    """Can a token be part of a unit that goes on to the end?"""
    token, before, after = tokens[index], tokens[index - 1], tokens[index + 1 :]
    match token.kind:
        case Kind.WORD:  # a letter after a sign is a variable
            is_variable = len(token.text) == 1 and before.text in ("+", "-")
            return before.text not in ("_", "^") and not is_variable
        case Kind.RUN if is_unit(token.text, plain=True) or token.text in _BELOW:
            return before.text not in ("_", "^")
        case Kind.RUN:  # a noun
            wordy = len(token.text) > 3 and re.search("[aeiouy]", token.text.lower()) is not None
            counted = (t.kind in (Kind.NUM, *LETTERS) or t.text in "/-." for t in tokens[:index])
            return wordy and token.spaced and all(counted)
        case Kind.FUNC:
            return token.text == "min" and before.kind is Kind.NUM
        case Kind.NUM:
            is_power = before.text == "^" and token.text.lstrip("-") in ("1", "2", "3")
            return is_power and index >= 2 and _is_unit_token(tokens[index - 2])
        case Kind.SYM:
            is_factor = before.is_op("/", "*") and index >= 2 and _is_unit_token(tokens[index - 2])
            return is_factor and token.text in UNITS
    if token.is_op("deg"):
        return bool(after) and after[0].text in ("C", "F", "c", "f")
    if token.is_op("/", "*", ".", "-") and after:
        if index > 2 and before.kind is Kind.NUM and tokens[index - 2].text == "^":
            before = tokens[index - 3]  # cm^3
        follows = _is_unit_token(after[0]) or after[0].text in UNITS or token.text == "."
        return follows and _is_unit_token(before)
    return token.is_op("^") and _is_unit_token(before)


def _unit_from(tail: Tokens) -> Unit | None:
    """The unit that tokens spell."""
    lower = [token.text.lower() for token in tail]
    said = (k for k in range(len(tail)) if lower[k : k + 3] == ["to", "the", "nearest"])
    tail = tail[: next(said, len(tail))]  # what follows says how the value was rounded
    if not tail:
        return None
    if tail[-1].text in _BELOW:
        raise NotMathError("nothing after per")
    words: list[tuple[str, int]] = []
    sign = 1
    for index, token in enumerate(tail):
        if token.text in _BELOW:
            sign = -1
        elif token.kind in (Kind.WORD, Kind.RUN, Kind.SYM, Kind.FUNC):
            words.append((token.text, sign))
        elif token.text == "deg":
            words.append(("degree", 1))
        elif token.text == "^" and words:
            power = next((t.value for t in tail[index + 1 : index + 3] if t.value is not None), 1)
            words[-1] = (words[-1][0], words[-1][1] * int(power))
    return _unit_of(words)


def _unit_of(words: list[tuple[str, int]]) -> Unit | None:
    """The unit that words with their powers spell; None when nothing is left of them (`units`,
    filler words).
    """
    powers: Counter[str] = Counter()
    nouns: set[str] = set()
    words = _with_powers(words)
    for left, (word, power) in zip(range(len(words) - 1, -1, -1), words, strict=True):
        lower, name = word.lower(), _unit_name(word)
        if lower in ("c", "f") and len(word) == 1 and "degree" in powers:
            name = "celsius" if lower == "c" else "fahrenheit"
        if lower == "in" and left:
            continue  # `5 ways in total`
        if name is not None or lower in (_ANY, "units"):
            for part, part_power in known.COMPOUND_UNITS.get(name or "", ((name or _ANY, 1),)):
                powers[part] += part_power * power
            continue
        counts_nothing = (
            lower in known.NO_NOUNS
            or lower.startswith(known.TENS)
            or (len(word) == 1 and lower not in known.FILLER)
            if word.isascii()
            else not known.NO_NOUN_SIGNS.isdisjoint(word)
        )
        if counts_nothing or (lower in known.UNFINISHED and not left):
            raise NotMathError("words that change the value")
        if lower not in known.FILLER:
            nouns.add(word if _is_prefixed(word) else _singular(lower))
    if "celsius" in powers or "fahrenheit" in powers:
        del powers["degree"]  # degrees Celsius
    if powers[_ANY] < 2:
        del powers[_ANY]
    spelt = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(spelt, frozenset(nouns)) if spelt or nouns else None


def _with_powers(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """`square` and `cubic` as the power of the next word, `squared` of the unit before it, or else
    after it.
    """
    found: list[tuple[str, int]] = []
    pending = 1
    for (word, power), (after, _) in zip(words, [*words[1:], ("", 0)], strict=True):
        exponent = known.POWER_WORDS.get(word.lower(), 0)
        follows = word.lower().endswith("ed")
        if not exponent:
            found.append((word, power * pending))
            pending = 1
        elif follows and found and is_unit(found[-1][0], plain=False):
            found[-1] = (found[-1][0], found[-1][1] * exponent)
        elif not after or (follows and not is_unit(after, plain=False)):
            raise NotMathError("a power of nothing")
        else:
            pending = exponent
    return found


def is_unit(word: str, *, plain: bool) -> bool:
    """Is the word a unit (in plain mathematics: surely one, not a product of variables)?"""
    if plain and word in known.NOT_PLAIN_UNITS:
        return word == "min"
    lower = word.lower()
    return _unit_name(word) is not None or lower in known.POWER_WORDS or lower in (_ANY, "units")


def _is_prefixed(word: str) -> bool:
    """`mJ`, `MW`: short words in which M is mega and m is milli."""
    is_short = len(word) <= 3 and word[:1] in "mM" and not word.islower()
    return is_short and word not in ("MIN", "Min")


def _unit_name(word: str) -> str | None:
    """The canonical name; case counts only where it tells milli from mega."""
    return UNITS.get(word) or (None if _is_prefixed(word) else UNITS.get(word.lower()))


def _singular(word: str) -> str:
    for ending, singular in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("sses", "ss"),
    ):
        if word.endswith(ending):
            return word[: -len(ending)] + singular
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def compatible(left: Unit | None, right: Unit | None) -> bool:
    """Equal units, or one of them missing; counted nouns agree when one list of words contains the
    other. `square units` may be any unit to the power of two.
    """
    if left is None or right is None:
        return True
    if not left.known and not right.known:
        return left.nouns <= right.nouns or right.nouns <= left.nouns
    return left.known == right.known or any(
        some.known[:1] == tuple((_ANY, power) for _, power in unit.known)
        for some, unit in ((left, right), (right, left))
    )


def normal_unit(unit: Unit) -> tuple[Fraction, Unit]:
    """The factor and the unit in which all units of one dimension are told: 1/100 and meter of cm."""
    factor, powers = _ONE, Counter[str]()
    for name, power in unit.known:
        base, size = known.SCALES.get(name, (name, _ONE))
        factor *= size**power
        powers[base] += power
    spelt = tuple(sorted((name, power) for name, power in powers.items() if power))
    return factor, unit._replace(known=spelt)


def with_commas(tokens: Tokens) -> Tokens:
    """`7 minutes 5 seconds` as `7 minutes, 5 seconds`: a number after a unit begins another
    quantity (not in `1A3`).
    """
    parts: Tokens = []
    for token in tokens:
        before = parts[-1] if len(parts) > 1 and token.kind is Kind.NUM else None
        if before is not None and before.kind in LETTERS:
            is_digit = len(before.text) == 1 and not before.spaced and not token.spaced
            if is_unit(before.text, plain=before.kind is Kind.RUN) and not is_digit:
                parts.append(Token(Kind.OP, ","))
        parts.append(token)
    return parts


# --- units in bare letters, a second reading


def _bare_name(letters: str) -> str:
    """The canonical name of a unit, `M-electronvolt` of `MeV`; else ''."""
    prefix, rest = letters[:1], letters[1:]
    if letters in known.BARE_UNITS:
        return known.BARE_UNITS[letters]
    is_prefixed = prefix in set("kMGTmnpfPcd") and rest in known.BARE_UNITS
    return f"{prefix}-{known.BARE_UNITS[rest]}" if is_prefixed and rest not in ("min", "ly") else ""


def bare_quantity(tokens: Tokens, limits: Limits) -> Scalar | None:
    """`9.8 m/s^2` as a number and its unit: all before the first letter is a plain number, all that
    follows are units.
    """
    letters = (Kind.SYM, Kind.RUN, Kind.WORD, Kind.FUNC)
    start = next((i for i, token in enumerate(tokens) if token.kind in letters), 0)
    while start and tokens[start - 1].kind is Kind.OPEN and tokens[start - 1].text in ("G", "("):
        start -= 1
    front, tail = tokens[:start], tokens[start:]
    is_number = all(
        t.kind is Kind.NUM or t.text in ("+", "-", "*", "/", "^", ".", "G", "frac", "(", ")")
        for t in front
    )
    if not front or not is_number or front[-1].text in ("*", "/", "^", "+", "-"):
        return None
    if not (tail[0].spaced or len(tail) > 2 or len(tail[0].text) > 1):
        return None
    spelt = " ".join(token.text for token in tail if token.text != "G")
    powers: Counter[str] = Counter()
    sign, in_brackets = 1, False
    for part in re.finditer(r"(\S+)(?: \^ (?:([-+]) )?(\d))?", spelt):
        word, below, digit = part.groups()
        if word in ("/", "("):
            sign = -1 if word == "/" else sign
            in_brackets = word == "("
        elif word not in ("*", ".", ")"):
            if not (name := _bare_name(word)):
                return None
            powers[name] += sign * int(digit or 1) * (-1 if below == "-" else 1)
        if word != "/" and not in_brackets:
            sign = 1
    node = parsed(front, limits)
    unit = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Scalar(node, Unit(unit)) if node is not None and unit else None
