"""LaTeX or plain text -> tokens. Unknown commands become tokens too: they stop the parser, not the
tokenizer.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from rewards.maths.limits import LimitError, Limits, NotMathError
from rewards.maths.text import vocabulary as known
from rewards.maths.text.notation import derivative_at, group_at
from rewards.maths.text.vocabulary import Sign


class Kind(StrEnum):
    """What a token is."""

    NUM = "num"
    SYM = "sym"
    FUNC = "func"
    RUN = "run"  # two or more plain letters
    WORD = "word"  # letters of text
    OP = "op"
    OPEN = "open"
    CLOSE = "close"
    CMD = "cmd"
    END = "end"


LETTERS = (Kind.WORD, Kind.RUN)


class Token(NamedTuple):
    """A TeX group is the pair (OPEN, G), (CLOSE, G). `value` is the number of a NUM. A run
    `is_name` where nothing but capitals is in the text.
    """

    kind: Kind
    text: str
    value: Fraction | None = None
    spaced: bool = False  # a blank came before it
    is_name: bool = False

    def is_op(self, *signs: Sign) -> bool:
        """Is it one of these operators?"""
        return self.kind is Kind.OP and self.text in signs

    @property
    def word(self) -> str:
        """Its letters in lower case; '' for anything but words and runs."""
        return self.text.lower() if self.kind in LETTERS else ""


Tokens = list[Token]

_ENVIRONMENT = re.compile(r"\s*\{\s*([a-zA-Z]+)\*?\s*\}")
_LETTER = re.compile(r"\s*([A-Za-z]|\\[A-Za-z]+)(?![A-Za-z])", re.ASCII)
_FACE = re.compile(r"\\(?:mathbf|boldsymbol|bm|mathrm)(?![A-Za-z])|[{}]")
_NEGATED = re.compile(r"\s*(?:(=)|\\(in)(?![A-Za-z]))")
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
_REPEATING = re.compile(
    r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?((?:\d*\\dot\s*\{?\s*\d\s*\}?)*)",
    re.ASCII,
)
_REPEATING_PARENS = re.compile(r"(?<![\d\w)])(\d*)\.(\d*)\((\d+)\)()(?![\d\w(])", re.ASCII)
# Signs of one or two characters.
_SIGNS: dict[str, tuple[Kind, str]] = {
    **{sign: (Kind.OP, sign) for sign in "+-*/^_!%'=<>,;:|&.\"?"},
    **{sign: (Kind.OP, sign) for sign in ("<=", ">=", "!=")},
    **{sign: (Kind.OP, sign[1]) for sign in (r"\%", r"\$", r"\&", r"\|", r"\_", r"\#", r"\=")},
    "==": (Kind.OP, "="), "**": (Kind.OP, "^"), "->": (Kind.OP, "to"), "<>": (Kind.OP, "!="), "=<": (Kind.OP, "<="),
    "\\\\": (Kind.OP, "row"), "...": (Kind.SYM, "dots"),
    "(": (Kind.OPEN, "("), "[": (Kind.OPEN, "["), "{": (Kind.OPEN, "G"), r"\{": (Kind.OPEN, "{"),
    ")": (Kind.CLOSE, ")"), "]": (Kind.CLOSE, "]"), "}": (Kind.CLOSE, "G"), r"\}": (Kind.CLOSE, "}"),
}  # fmt: skip
_FONTS = known.TEXT_FONTS | known.MATH_FONTS | known.TRANSPARENT | {"mathbb"}
_COMMANDS: dict[str, tuple[Kind, str]] = {
    **{name: (Kind.WORD, word) for name, word in known.UNIT_COMMANDS.items()},
    **{name: (Kind.CLOSE, sign) for name, sign in known.CLOSERS.items()},
    **{name: (Kind.OPEN, sign) for name, sign in known.OPENERS.items()},
    **{name: (Kind.OP, sign) for name, sign in known.OPERATORS.items()},
    **{name: (Kind.SYM, symbol) for name, symbol in known.SYMBOLS.items()},
    **{name: (Kind.FUNC, function) for name, function in known.FUNCTIONS.items()},
    "sqrt": (Kind.CMD, "sqrt"),
}


def tokenize(text: str, limits: Limits) -> Tokens:
    """Tokens of cleaned text.

    Raises:
        LimitError: the text is too long, too deep, or holds too long a number.
    """
    if len(text) > limits.max_chars:
        raise LimitError("chars")
    tokenizer = _Tokenizer(limits)
    tokenizer.scan(text, in_text=False)
    tokens = tokenizer.found
    if all((t.kind is Kind.RUN and t.text.isupper()) or t.text in (",", ";", ".") for t in tokens):
        return [token._replace(is_name=token.kind is Kind.RUN) for token in tokens]
    return tokens


class _Tokenizer:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.found: Tokens = []
        self.spaced = False
        self.depth = 0

    def add(self, kind: Kind, text: str, value: Fraction | None = None) -> None:
        self.found.append(Token(kind, text, value, self.spaced))
        self.spaced = False

    def scan(self, text: str, *, in_text: bool) -> None:
        """Append the tokens of `text`, which is prose where it is `in_text`."""
        self.depth += 1
        if self.depth > self.limits.max_depth + 1:
            raise LimitError("depth")
        position = 0
        while position < len(text):
            if len(self.found) > self.limits.max_tokens:
                raise LimitError("tokens")
            if text[position] in "0123456789." and (end := self.repeating(text, position)):
                position = end
                continue
            match = _TOKEN.match(text, position)
            assert match is not None  # the last alternative takes any character
            position, found = match.end(), match[0]
            match match.lastgroup:
                case "space":
                    self.spaced = True
                case "num":
                    self.add(Kind.NUM, found, _number(found, self.limits))
                case "run":
                    self.letters(found, in_text=in_text)
                case "han":
                    self.add(Kind.WORD, found)
                case "cmd":
                    position = self.command(text, found[1:], position)
                case _:
                    self.add(*_SIGNS.get(found, (Kind.CMD, found)))
        self.depth -= 1

    def repeating(self, text: str, position: int) -> int:
        """Append a repeating decimal if one begins here; the index after it, else 0."""
        match = _REPEATING.match(text, position) or _REPEATING_PARENS.match(text, position)
        if match is None:
            return 0
        if match.end() - position > self.limits.max_digits:
            raise LimitError("digits")
        whole, decimals = match[1], match[2]
        cycle = match[3] + re.sub(r"\D", "", match[4])
        value = Fraction(int((whole + decimals) or 0)) + Fraction(int(cycle), 10 ** len(cycle) - 1)
        self.add(Kind.NUM, f"{whole}.{decimals}({cycle})", value / 10 ** len(decimals))
        return match.end()

    def letters(self, run: str, *, in_text: bool) -> None:
        lower, functions = run.lower(), known.FUNCTIONS
        if in_text or lower in known.PLAIN_WORDS:
            self.add(Kind.WORD, run)
        elif len(run) == 1 or run in known.GREEK:
            self.add(Kind.SYM, run)
        elif run in ("frac", "dfrac", "tfrac"):  # a lost backslash
            self.add(Kind.CMD, "frac")
        elif run in functions:
            self.add(Kind.FUNC, functions[run])
        elif lower in ("inf", "infty", "infinity", "oo"):
            self.add(Kind.SYM, "oo")
        elif run[:-1] in functions and len(run) > 3:  # sinx, cosx, lnx
            self.add(Kind.FUNC, functions[run[:-1]])
            self.add(Kind.SYM, run[-1])
        else:
            self.add(Kind.RUN, run)

    def command(self, text: str, name: str, position: int) -> int:
        """Append what the command stands for; the index after it and what it took."""
        if name in _FONTS:
            return self.font(text, name, position)
        if name in known.ACCENTS and (under := _argument(text, position)):
            # One name for `\bar z` and `\overline{z}`, whatever the face of the letter.
            letter, accent = _FACE.sub("", under[0]).strip(), known.ACCENTS[name]
            if letter.startswith("\\"):
                letter = known.SYMBOLS.get(letter[1:], letter[1:])
            self.add(Kind.SYM, f"{accent}({letter})" if accent else letter)
            return under[1]
        if name == "frac" and (derivative := derivative_at(text, position)):
            self.add(Kind.SYM, derivative[0])
            return derivative[1]
        if name in ("begin", "end") and (environment := _ENVIRONMENT.match(text, position)):
            self.add(Kind.CMD, name)
            self.add(Kind.CMD, environment[1])
            columns = None
            if environment[1] == "array" and name == "begin":
                columns = group_at(text, environment.end())
            return columns[1] if columns else environment.end()
        if name == "not" and (negated := _NEGATED.match(text, position)):
            self.add(Kind.OP, "!=" if negated[1] else "notin")
            return negated.end()
        self.add(*_COMMANDS.get(name, (Kind.CMD, name)))
        return position

    def font(self, text: str, name: str, position: int) -> int:
        """Append the content of a font command or wrapper."""
        group = group_at(text, position)
        if group is None and name in ("text", "mathrm", "mathbb"):
            group = _argument(text, position)
        if group is None:  # \bf 5, \rm R: it only changes the face
            return position
        content, after = group
        if name == "mathbb":
            self.add(Kind.SYM, known.BOARD.get(content.strip(), content.strip()))
            return after
        is_prose = name in known.TEXT_FONTS and content.strip() not in ("e", "i", "d")
        if name in known.TRANSPARENT:
            self.add(Kind.OPEN, "G")
        self.scan(content, in_text=is_prose and content.strip() not in known.FUNCTIONS)
        self.spaced = False
        if name in known.TRANSPARENT:
            self.add(Kind.CLOSE, "G")
        return after


def _argument(text: str, position: int) -> tuple[str, int] | None:
    """A group, or the letter (or the command of one) that a command without braces takes."""
    if group := group_at(text, position):
        return group
    match = _LETTER.match(text, position)
    is_letter = match and (len(match[1]) == 1 or match[1][1:] in known.SYMBOLS)
    return (match[1], match.end()) if match and is_letter else None


def _number(text: str, limits: Limits) -> Fraction:
    if len(text) > limits.max_digits:
        raise LimitError("digits")
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, decimals = mantissa.partition(".")
    shift = int(exponent or 0) - len(decimals)
    if abs(shift) > limits.max_digits:
        raise LimitError("digits")
    digits = int((whole + decimals) or 0)
    return Fraction(digits * 10**shift) if shift >= 0 else Fraction(digits, 10**-shift)


# --- stretches of tokens: cut at the top level, stripped of what carries no meaning, spelt as text


def texts(tokens: Tokens) -> list[str]:
    """Their texts, without TeX groups."""
    return [token.text for token in tokens if token.text != "G"]


def plain_text(tokens: Tokens) -> str:
    """One spelling of tokens as text: words in lower case, one blank between tokens, quotes gone."""
    return " ".join(
        token.text.lower() if token.kind in LETTERS else token.text
        for token in tokens
        if token.text not in (".", '"')
    )


def strip(tokens: Tokens) -> Tokens:
    """Without outer groups, quotes, and marks around it that carry no meaning."""
    while tokens:
        first, last = tokens[0], tokens[-1]
        if len(tokens) > 1 and last.is_op(".", ",", ";", ":", '"', "_", "'"):
            if last.text == "'" and first.text != "'":
                break
            tokens = tokens[:-1]
        elif first.is_op("=", "~~", ":", '"', ".", ",", "*", "'", "_", "^"):
            tokens = tokens[1:]
        elif last.is_op("*", "^"):
            tokens = tokens[:-1]
        elif first.text == "G" and is_enclosed(tokens):
            tokens = tokens[1:-1]
        else:
            break
    return tokens


def _depth_change(token: Token) -> int:
    if token.kind is Kind.OPEN or (token.kind is Kind.CMD and token.text == "begin"):
        return 1
    if token.kind is Kind.CLOSE or (token.kind is Kind.CMD and token.text == "end"):
        return -1
    return 0


def closing(tokens: Tokens, start: int) -> int | None:
    """Index of the bracket that closes the one at `start`. Any closer ends any opener, as in
    `[1, 2)`.
    """
    depth = 0
    for index in range(start, len(tokens)):
        depth += _depth_change(tokens[index])
        if depth == 0:
            return index
    return None


def opening(tokens: Tokens) -> int:
    """Index of the bracket that the last token closes; -1 where there is none."""
    depth = 0
    for index in range(len(tokens) - 1, -1, -1):
        depth += _depth_change(tokens[index])
        if depth == 0:
            return index
    return -1


def is_enclosed(tokens: Tokens) -> bool:
    """Is it one pair of brackets around all the rest?"""
    is_open = bool(tokens) and tokens[0].kind is Kind.OPEN
    return is_open and closing(tokens, 0) == len(tokens) - 1


def top_level(tokens: Tokens) -> list[int]:
    """Indices of the tokens outside of all brackets.

    Raises:
        NotMathError: brackets do not match.
    """
    depth, found = 0, []
    for index, token in enumerate(tokens):
        change = _depth_change(token)
        if depth == 0 and change == 0:
            found.append(index)
        depth += change
        if depth < 0:
            break
    if depth:
        raise NotMathError("brackets")
    return found


def top_ops(tokens: Tokens, *signs: Sign) -> list[int]:
    """Indices of these operators outside of all brackets."""
    return [index for index in top_level(tokens) if tokens[index].is_op(*signs)]


def split_at(tokens: Tokens, cuts: list[int]) -> list[Tokens]:
    """The stretches between the cuts."""
    edges = [-1, *cuts, len(tokens)]
    return [tokens[a + 1 : b] for a, b in pairwise(edges)]


def is_tuple(tokens: Tokens) -> bool:
    """Is it one pair of round or angle brackets around several places?"""
    is_bracketed = is_enclosed(tokens) and tokens[0].text in ("(", "<")
    return is_bracketed and bool(top_ops(tokens[1:-1], ","))


def usual_brackets(tokens: Tokens) -> Tokens:
    """`]0, 1[` as `(0, 1)`."""
    shown = texts(tokens)
    if not shown or not (shown[0] == "]" or shown[-1] == "["):
        return tokens
    depth, turned = 0, []
    for token in tokens:
        if token.text == "]" and depth == 0:
            token = token._replace(kind=Kind.OPEN, text="(")
        elif token.text == "[" and depth == 1:
            token = token._replace(kind=Kind.CLOSE, text=")")
        depth += _depth_change(token) if token.text != "G" else 0
        turned.append(token)
    return turned
