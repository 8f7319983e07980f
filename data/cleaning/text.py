r"""When are two problem texts the same, and when nearly? Normal forms, token sets and number sets.

Problems travel between data sets with small changes: another case, `\dfrac` for `\frac`, `\(` for
`$`, more blanks, `80,000` for `80000`. Normalising removes those. What stays are words, numbers,
operators and brackets.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

# on lower-case text
_FONTS = "mathrm|mathbf|mathit|mathsf|mathcal|textbf|textit|textrm|text|mbox|rm|bf|it|operatorname"
_COSMETIC = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|nolimits|quad|qquad|bigg?[lr]?"
    rf"|{_FONTS}|hspace|vspace|hfill|noindent)(?![a-z])"
    r"|(?<!\\)\\[,;:!> ()\[\]]"  # `\\\\ ` is the end of a row, and no `\ `
)
_SYNONYMS = (
    (re.compile(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}"), r" \1 "),  # braces of a font group nothing
    (re.compile(r"\\([$%&#_])"), r"\1"),
    (re.compile(r"\\[dtc]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\([lg])eq?(?:slant)?(?![a-z])"), r"\\\1e"),
    (re.compile(r"\\neq?(?![a-z])"), r"\\ne"),
    (re.compile(r"\\[lc]?dots[a-z]?(?![a-z])"), " ... "),
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\})\d{3})+(?![\d,])")
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_RAW_WORDS = re.compile(r"\w+")
_SYMBOLS = re.compile(r"\w+|[^\w\s]")
_NUMBERS = re.compile(r"\d+")  # 1.5 is 1 and 5: a set of pieces is equal whenever the numbers are
_NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_IN_DIGITS = {
    word: str(number) for number, word in enumerate(_NUMBER_WORDS)
}  # larger ones are rarely spelled out
# NFKC would make 52 of 5², and 31/2 of 3½
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR_FRACTION = re.compile("(?=[¼½¾⅐-⅞])")
_DASHES = {ord(dash): "-" for dash in "‐‑–−"}
_ARGUMENTS = re.compile(r"(?<!\\)\}\s*\{")
_NEEDLESS_BRACES = re.compile(r"(?<!\\)\{\s*((?:[+-]?(?:[^\W\d_]|\d+(?:\.\d+)?|\\[a-z]+))?)\s*\}")
# a number, a command, a word, an ellipsis, or any symbol that is not there for the reader of prose
# alone
_KEY_TOKEN = re.compile(
    r"\d+(?:\.\d+)?|(?<!\w)\.\d+|\\[a-z]+|\\\S|[^\W\d_]+|\.{3}"
    r"|[^\w\s$&.?\"“”‘’`~—\u00ad\u200b-\u200d\u2060\ufeff]"
)
_BETWEEN = frozenset(",;:")  # (x, y) is not (xy)
_AFTER = frozenset("!'")  # 5! is not 5, f'(0) not f(0)
_NO_END = frozenset(["=", "\\", "\\\\", "..."])  # "3 + 4 =" asks for 3 + 4


class View(NamedTuple):
    """One way of reading a text: its token set and its numbers. Other numbers make another
    problem.
    """

    tokens: frozenset[str]
    numbers: frozenset[str]


class Reading(NamedTuple):
    """All that is compared of one text.

    `key` is equal for two texts exactly when they have the same letters, numbers, operators and
    brackets in order. Similarity is measured in each of the `views`, and two texts are as similar
    as the most similar of them. The first is the normal form, the second the same with small
    numbers in digits (`two` is 2). The others take the text as it stands, split into words (with
    and without capitals), at blanks, and into words and
    symbols: an overlap under any usual tokenisation is one here.
    """

    key: str
    words: list[str]  # words and whole numbers of the normal form, in order; `x2` is two
    views: tuple[View, ...]


def read(text: str) -> Reading:
    """Normalise and split one text."""
    cleaned, raw = normal(text), text.lower()
    words = _WORDS.findall(cleaned)
    numbers, raw_numbers = frozenset(_NUMBERS.findall(cleaned)), frozenset(_NUMBERS.findall(raw))
    in_digits = frozenset(_IN_DIGITS.get(word, word) for word in words)
    views = (
        View(frozenset(words), numbers),
        View(in_digits, frozenset(filter(str.isdecimal, in_digits))),
        View(frozenset(_RAW_WORDS.findall(raw)), raw_numbers),
        View(frozenset(_RAW_WORDS.findall(text)), raw_numbers),  # X and x may be two unknowns
        View(frozenset(raw.split()), raw_numbers),
        View(frozenset(_SYMBOLS.findall(raw)), raw_numbers),
    )
    return Reading(_key(cleaned), words, views)


def key(text: str) -> str:
    """`read(text).key`, when nothing else is needed."""
    return _key(normal(text))


def first_view(text: str) -> View:
    """`read(text).views[0]`, when nothing else is needed."""
    cleaned = normal(text)
    return View(frozenset(_WORDS.findall(cleaned)), frozenset(_NUMBERS.findall(cleaned)))


def normal(text: str) -> str:
    """The text in lower case, without what only changes the looks of a formula."""
    text = text.lower() if text.isascii() else _plain_characters(text).lower()
    if "\\" in text:
        for pattern, replacement in _SYNONYMS:
            text = pattern.sub(replacement, text)
        text = _COSMETIC.sub(" ", text)
    return _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text) if "," in text else text


def _plain_characters(text: str) -> str:
    """The usual one of several characters for the same; superscripts as `^{...}`."""
    text = _VULGAR_FRACTION.sub(" ", _SUPERSCRIPT.sub(r"^{\g<0>}", text))
    return unicodedata.normalize("NFKC", text).translate(_DASHES)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|a & b| / |a | b|; 0 for two empty sets, which say nothing about their texts."""
    shared = len(a & b)
    return shared / max(1, len(a) + len(b) - shared)


def _key(cleaned: str) -> str:
    """The tokens, run together: `$x y$` is `$xy$`. A number or command ends in a blank: `12, 3` is
    not `1, 23`.
    """
    cleaned = _NEEDLESS_BRACES.sub(
        r" \1 ", _ARGUMENTS.sub("},{", cleaned)
    )  # x^{2} is x^2; but 2^{n+1} not 2^n+1
    tokens = _KEY_TOKEN.findall(cleaned)
    kept = [
        token
        for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)
        if (token not in _BETWEEN or (_is_operand(before) and _is_operand(after)))
        and (token not in _AFTER or _is_operand(before) or before == token)
    ]
    while kept and kept[-1] in _NO_END:
        kept.pop()
    return "".join(
        token + " " if token[-1].isdigit() or token[0] == "\\" else token for token in kept
    )


def _is_operand(token: str) -> bool:
    """Does a formula stand here? A mark beside a word of prose is punctuation, and texts differ in
    that freely.
    """
    return len(token) == 1 or token[:1] == "\\" or token[-1:].isdigit()
