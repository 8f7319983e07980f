"""LaTeX or plain text -> tokens. Unknown commands become tokens too: they stop the parser, not the
tokenizer.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from rewards.maths.limits import LimitError, Limits
from rewards.maths.text.notation import derivative_at, group_at, usual_notation
from rewards.maths.text.symbols import (
    ACCENTS,
    BOARD,
    CLOSERS,
    FUNCTIONS,
    GREEK,
    MATH_FONTS,
    OPENERS,
    OPERATORS,
    SYMBOLS,
    TEXT_FONTS,
    TRANSPARENT,
    UNICODE,
    UNIT_COMMANDS,
    WORDS,
)


class Token(NamedTuple):
    """kind: num, sym, func, run (two or more plain letters), word (letters of text), op, open,
    close, cmd.

    A TeX group is the pair (open, G), (close, G). `value` is the number of a `num`; a run `is_name`
    where nothing but capitals is in the text.
    """

    kind: str
    text: str
    value: Fraction | None = None
    spaced: bool = False  # a blank came before it
    is_name: bool = False


_SPACING = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?![\d])"
    r"|\\(?:quad|qquad|displaystyle|textstyle|scriptstyle|tiny|small|large|Large|LARGE|huge|limits|nolimits|thinspace|enspace|hfill|notag|nonumber|blacksquare|qed"
    r"|noindent|centering|hline|,)(?![A-Za-z])"
    r"|\\(?:text)?color\s*\{[^{}]*\}"
    r"|\\[,;:!> \n]|~|\\(?:hspace|vspace|phantom|hphantom|vphantom|tag|label)\*?\s*\{[^{}]*\}"
)
_EDGES = re.compile(r"^(?:\\[,;:! ]|\s)+|(?<!\\)(?:\\[,;:! ]|\s)+$|(?<!\\)\\$", re.ASCII)
_SIZED_FRACTION = re.compile(r"\\(?:[dtcsx]|nice)(frac|binom)(?![A-Za-z])")
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))", re.ASCII)
_DEGREE = re.compile(
    r"(?:\{\s{0,4}\})?\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![A-Za-z]))|(?<=\d)\s*\\circ(?![A-Za-z])"
)
_SURE_COMMA = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!|\\!\s*,|,\\,)\s*(?=\d{3}(?!\d))", re.ASCII)
_SPACED_THOUSANDS = re.compile(
    r"(?<![\d.,\w])\d{1,3}(?:(?:\\[,;:! ]|~| )\d{3})+(?!\w|\.\d)", re.ASCII
)
_COMMA_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)", re.ASCII)
_LETTER = re.compile(r"\s*([A-Za-z]|\\[A-Za-z]+)(?![A-Za-z])", re.ASCII)
_SINGLE_LETTER_FONTS = frozenset({"text", "mathrm", "mathbb"})
_FACE = re.compile(r"\\(?:mathbf|boldsymbol|bm|mathrm)(?![A-Za-z])|[{}]")
_ENVIRONMENT = re.compile(r"\s*\{\s*([a-zA-Z]+)\*?\s*\}")
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>\d+\.\d+[eE][+-]?\d{1,4}(?!\w|\.\d)|\d+[eE][+-]?\d{1,4}(?!\w|\.\d)|\d+\.\d+|\.\d+|\d+\.(?=/)|\d+)"
    r"|(?P<run>[A-Za-z]+)"
    r"|(?P<han>[\u0400-\u04ff]{2,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+)"
    r"|\\(?P<cmd>[A-Za-z]+)"
    r"|(?P<pair>\\.|<=|>=|!=|==|\*\*|\.\.\.|->|<>|=<|''')"
    r"|(?P<char>.)",
    re.DOTALL | re.ASCII,
)
_PAIRS = {
    "<=": "<=", ">=": ">=", "!=": "!=", "==": "=", "**": "^", "->": "to", "<>": "!=", "=<": "<=", r"\%": "%",
    r"\$": "$", "\\\\": "row", r"\&": "&", r"\|": "|", r"\_": "_", r"\#": "#", r"\=": "=",
}  # fmt: skip
_FACTORIAL_IS = re.compile(r"(?<=\d)!=", re.ASCII)
_DECIMAL_COMMA = re.compile(r"(?<=\b0)\{,\}(?=\d)|(?<=\d)\{,\}(?=\d{1,2}(?!\d|\{,\}))", re.ASCII)
_CIRCLED = re.compile("[①-⑳]")
_BETWEEN_CIRCLED = re.compile(r"[①-⑳\s,，、;；和与及{}$]|\\text|and")
_DAY = re.compile(r"第\s*(\d+)", re.ASCII)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣʸᵗᵏᵐ]+")
_RAISED_SIGNS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣʸᵗᵏᵐ", "0123456789+-nxytkm")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₖₘᵢⱼ]+")
_LOWERED_SIGNS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₖₘᵢⱼ", "0123456789+-nxkmij")
# A word with an accent; letters without one are symbols.
_GREEK_WORD = re.compile("((?<=\\s)(?=[α-ωά-ώ]*[άέήίόύώϊϋ])[α-ωά-ώϊϋ]{3,40})")
_BETWEEN_NAMES = frozenset(",;.")
_CHARS = frozenset("+-*/^_!%'=<>,;:|&.\"?")
_OPEN, _CLOSE = {"(": "(", "[": "[", "{": "G"}, {")": ")", "]": "]", "}": "G"}
_REPEATING = re.compile(
    r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?((?:\d*\\dot\s*\{?\s*\d\s*\}?)*)",
    re.ASCII,
)
_REPEATING_PARENS = re.compile(r"(?<![\d\w)])(\d*)\.(\d*)\((\d+)\)(?![\d\w(])", re.ASCII)


def ambiguous_commas(text: str) -> bool:
    """Could `1,234` in the text be two numbers?"""
    return "," in text and _COMMA_THOUSANDS.search(text) is not None


def clean(text: str, *, comma_lists: bool = False) -> str:
    """One spelling for spacing, sizes, thousands separators, degrees and Unicode signs.

    With `comma_lists`, `1,234` stays two numbers; otherwise it is one, unless brackets hold nothing
    else.
    """
    text = _EDGES.sub("", text)
    if not text.isascii():
        text = _from_unicode(text)
    if "\\\\" in text and r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    if "!=" in text:
        text = _FACTORIAL_IS.sub("! =", text)
    text = usual_notation(text)
    if "\\" in text:
        text = text.replace(
            "\\\\", r"\cr "
        )  # a row ends; its second backslash must not take the blank after it
        text = text.replace(r"\(", " ").replace(r"\)", " ").replace(r"\[", " ").replace(r"\]", " ")
        text = _EDGES.sub("", text)
    if "$" in text:
        text = _dollars(text)
    if "," in text:
        text = _DECIMAL_COMMA.sub(".", text)
        text = _SURE_COMMA.sub("", text)
        if not comma_lists:
            text = _COMMA_THOUSANDS.sub(lambda match: _join_thousands(text, match), text)
    if "10" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    if " " in text or "\\" in text or "~" in text:
        text = _SPACED_THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    if "\\" in text:
        text = _SIZED_FRACTION.sub(r"\\\1", text)
        text = _DEGREE.sub(r"\\degree ", text)
        text = _SPACING.sub(" ", text)
    elif "~" in text:
        text = text.replace("~", " ")
    return text


def _from_unicode(text: str) -> str:
    """Signs in ASCII; runs of small digits as one script, circled numbers as statements."""
    circled = _CIRCLED.findall(text)
    if len(circled) > 1 and not _BETWEEN_CIRCLED.sub("", text):
        numbers = sorted({ord(sign) - ord("①") + 1 for sign in circled})
        return "".join(f"({number})" for number in numbers)
    text = _DAY.sub(r"\1", text)
    text = _RAISED.sub(lambda match: "^{" + match[0].translate(_RAISED_SIGNS) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + match[0].translate(_LOWERED_SIGNS) + "}", text)
    parts = _GREEK_WORD.split(text)
    return "".join(
        rf"\text{{{len(part) * 'q'}}}" if index % 2 else part.translate(UNICODE)
        for index, part in enumerate(parts)
    )


def tokenize(text: str, limits: Limits) -> list[Token]:
    """Tokens of cleaned text.

    Raises:
        LimitError: the text is too long, too deep, or holds too long a number.
    """
    if len(text) > limits.max_chars:
        raise LimitError("chars")
    tokens: list[Token] = []
    _scan(text, tokens, limits, in_text=False, depth=0)
    if all(
        (token.kind == "run" and token.text.isupper()) or token.text in _BETWEEN_NAMES
        for token in tokens
    ):
        return [token._replace(is_name=token.kind == "run") for token in tokens]
    return tokens


def _dollars(text: str) -> str:
    """Mathematics mode signs go, a currency sign (`$30`, `\\$`) stays as `\\$`."""
    plain = text.replace(r"\$", "\0")
    if plain.count("$") % 2:  # an odd one out is money
        plain = re.sub(r"\$(?=\s*[\d.])", "\0", plain, count=1)
    return plain.replace("$", " ").replace("\0", r"\$ ")


def _join_thousands(text: str, match: re.Match[str]) -> str:
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()[:1]
    bracketed = before.endswith(("(", "[", r"\{")) and after in (")", "]", "\\")
    surely_one = any(group.startswith("0") and group != "0" for group in match[0].split(",")[1:])
    return match[0] if bracketed and not surely_one else match[0].replace(",", "")


def _scan(text: str, out: list[Token], limits: Limits, *, in_text: bool, depth: int) -> None:
    if depth > limits.max_depth:
        raise LimitError("depth")
    position, spaced = 0, False
    while position < len(text):
        if len(out) > limits.max_tokens:
            raise LimitError("tokens")
        char = text[position]
        if (char in "0123456789.") and (repeat := _repeating(text, position, limits)):
            out.append(Token("num", repeat[2], repeat[0], spaced))
            position, spaced = repeat[1], False
            continue
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        position, kind, found = match.end(), match.lastgroup, match[0]
        if kind == "space":
            spaced = True
            continue
        if kind == "cmd":
            position = _command(
                text, found[1:], position, out, limits, spaced=spaced, in_text=in_text, depth=depth
            )
        elif kind == "num":
            out.append(Token("num", found, _number(found, limits), spaced))
        elif kind == "run":
            _letters(found, out, spaced=spaced, in_text=in_text)
        elif kind == "han":
            out.append(Token("word", found, None, spaced))
        elif kind == "pair":
            out.append(_pair(found, spaced))
        else:
            out.append(_char(found, spaced))
        spaced = False


def _number(text: str, limits: Limits) -> Fraction:
    if len(text) > limits.max_digits or not text.isascii():
        raise LimitError("digits")
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, decimals = mantissa.partition(".")
    shift = int(exponent or 0) - len(decimals)
    if abs(shift) > limits.max_digits:
        raise LimitError("digits")
    digits = int((whole + decimals) or 0)
    return Fraction(digits * 10**shift) if shift >= 0 else Fraction(digits, 10**-shift)


def _repeating(text: str, position: int, limits: Limits) -> tuple[Fraction, int, str] | None:
    """A repeating decimal at `position`: its value, the index after it, a canonical text."""
    match = _REPEATING.match(text, position) or _REPEATING_PARENS.match(text, position)
    if match is None:
        return None
    if match.end() - position > limits.max_digits:
        raise LimitError("digits")
    whole, decimals, cycle = match[1], match[2], match[3]
    if match.re is _REPEATING and match[4]:
        cycle += re.sub(r"\D", "", match[4])
    if not cycle.isascii():
        return None
    value = Fraction(int((whole + decimals) or 0)) + Fraction(int(cycle), 10 ** len(cycle) - 1)
    return value / 10 ** len(decimals), match.end(), f"{whole}.{decimals}({cycle})"


def _letters(run: str, out: list[Token], *, spaced: bool, in_text: bool) -> None:
    if in_text or run.lower() in WORDS:
        out.append(Token("word", run, None, spaced))
    elif len(run) == 1:
        out.append(Token("sym", run, None, spaced))
    elif run in ("frac", "dfrac", "tfrac"):  # a lost backslash
        out.append(Token("cmd", "frac", None, spaced))
    elif run in FUNCTIONS:
        out.append(Token("func", FUNCTIONS[run], None, spaced))
    elif run in GREEK:
        out.append(Token("sym", run, None, spaced))
    elif run.lower() in ("inf", "infty", "infinity", "oo"):
        out.append(Token("sym", "oo", None, spaced))
    elif run[:-1] in FUNCTIONS and len(run) > 3:  # sinx, cosx, lnx
        out += [Token("func", FUNCTIONS[run[:-1]], None, spaced), Token("sym", run[-1])]
    else:
        out.append(Token("run", run, None, spaced))


def _pair(found: str, spaced: bool) -> Token:
    if found in (r"\{", r"\}"):
        return (
            Token("open", "{", None, spaced)
            if found == r"\{"
            else Token("close", "}", None, spaced)
        )
    if found == "...":
        return Token("sym", "dots", None, spaced)
    return (
        Token("op", _PAIRS[found], None, spaced)
        if found in _PAIRS
        else Token("cmd", found, None, spaced)
    )


def _char(char: str, spaced: bool) -> Token:
    if char in _OPEN:
        return Token("open", _OPEN[char], None, spaced)
    if char in _CLOSE:
        return Token("close", _CLOSE[char], None, spaced)
    return Token("op" if char in _CHARS else "cmd", char, None, spaced)


def _command(
    text: str,
    name: str,
    position: int,
    out: list[Token],
    limits: Limits,
    *,
    spaced: bool,
    in_text: bool,
    depth: int,
) -> int:
    """Append what the command stands for; returns the index after it and what it took."""
    if name in TEXT_FONTS or name in MATH_FONTS or name in TRANSPARENT or name == "mathbb":
        return _font(text, name, position, out, limits, spaced=spaced, depth=depth)
    if (
        name in ACCENTS
        and (under := group_at(text, position) or _one_letter(text, position)) is not None
    ):
        out.append(Token("sym", _accented(ACCENTS[name], under[0]), None, spaced))
        return under[1]
    if name == "frac" and (derivative := derivative_at(text, position)) is not None:
        out.append(Token("sym", derivative[0], None, spaced))
        return derivative[1]
    if name in ("begin", "end") and (environment := _ENVIRONMENT.match(text, position)):
        out.append(Token("cmd", name, None, spaced))
        out.append(Token("cmd", environment[1]))
        position = environment.end()
        if environment[1] == "array" and name == "begin" and (columns := group_at(text, position)):
            position = columns[1]
        return position
    if name == "not":
        return _negated(text, position, out, spaced)
    out.append(_named(name, spaced))
    return position


def _font(
    text: str,
    name: str,
    position: int,
    out: list[Token],
    limits: Limits,
    *,
    spaced: bool,
    depth: int,
) -> int:
    """Append the content of a font command or wrapper."""
    group = group_at(text, position)
    if group is None and name in _SINGLE_LETTER_FONTS:
        group = _one_letter(text, position)
    if group is None:  # \bf 5, \rm R: it only changes the face
        return position
    content, position = group
    if name in TRANSPARENT:
        out.append(Token("open", "G", None, spaced))
        _scan(content, out, limits, in_text=False, depth=depth + 1)
        out.append(Token("close", "G"))
    elif name == "mathbb":
        out.append(Token("sym", BOARD.get(content.strip(), content.strip()), None, spaced))
    else:
        in_text = (
            name in TEXT_FONTS
            and content.strip() not in ("e", "i", "d")
            and content.strip() not in FUNCTIONS
        )
        first = len(out)
        _scan(content, out, limits, in_text=in_text, depth=depth + 1)
        if spaced and len(out) > first:
            out[first] = out[first]._replace(spaced=True)
    return position


def _one_letter(text: str, position: int) -> tuple[str, int] | None:
    """The letter, or the command of one, that a command without braces takes."""
    match = _LETTER.match(text, position)
    return (
        (match[1], match.end())
        if match and (len(match[1]) == 1 or match[1][1:] in SYMBOLS)
        else None
    )


def _accented(accent: str, letter: str) -> str:
    """One name for `\\bar z` and `\\overline{z}`, whatever the face of the letter."""
    letter = _FACE.sub("", letter).strip()
    name = SYMBOLS.get(letter[1:], letter[1:]) if letter.startswith("\\") else letter
    return f"{accent}({name})" if accent else name


def _negated(text: str, position: int, out: list[Token], spaced: bool) -> int:
    match = re.compile(r"\s*(?:(=)|\\(in)(?![A-Za-z]))").match(text, position)
    if match is None:
        out.append(Token("cmd", "not", None, spaced))
        return position
    out.append(Token("op", "!=" if match[1] else "notin", None, spaced))
    return match.end()


def _named(name: str, spaced: bool) -> Token:
    for kind, table in (
        ("func", FUNCTIONS), ("sym", SYMBOLS), ("op", OPERATORS), ("open", OPENERS), ("close", CLOSERS)
    ):  # fmt: skip
        if name in table and name != "sqrt":
            return Token(kind, table[name], None, spaced)
    if name in UNIT_COMMANDS:
        return Token("word", UNIT_COMMANDS[name], None, spaced)
    return Token("cmd", name, None, spaced)
