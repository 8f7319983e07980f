r"""When are two problem texts the same, and when nearly? Normal forms, token sets and number sets.

Problems travel between data sets with small changes: another case, `\dfrac` for `\frac`, `\(` for `$`, more
blanks, `80,000` for `80000`. Normalising removes those. What stays are words, numbers and operators.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_COSMETIC = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|nolimits|quad|qquad|bigl?|bigr?|Bigl?|Bigr?|mathrm|mathbf|mathit"
    r"|mathsf|mathcal|textbf|textit|textrm|text|mbox|rm|bf|it|operatorname|hspace|vspace|hfill|noindent)(?![A-Za-z])"
    r"|\\[,;:!> ]"
)
_SYNONYMS = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\leq?(?:slant)?(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\geq?(?:slant)?(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"\\neq?(?![A-Za-z])"), r"\\ne"),
    (re.compile(r"\\l?dots[a-z]?(?![A-Za-z])|\\cdots(?![A-Za-z])"), " ... "),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\})\d{3})+(?![\d,])")
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_RAW_WORDS = re.compile(r"\w+")
_SYMBOLS = re.compile(r"\w+|[^\w\s]")
_NUMBERS = re.compile(r"\d+")  # 1.5 is 1 and 5: a set of pieces is equal whenever the numbers are
_KEY = re.compile(r"[^\w+\-*/=<>^!%|\\]+|_")
_KEY_END = re.compile(r"[=\\!|\-]+$")


class View(NamedTuple):
    """One way of reading a text: its token set and its numbers. Texts with other numbers are other
    problems.
    """

    tokens: frozenset[str]
    numbers: frozenset[str]


def normal(text: str) -> str:
    """The text in lower case, without what only changes the looks of a formula."""
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    text = _COSMETIC.sub(" ", text)
    return _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text).lower()


def key(text: str) -> str:
    """A string that is equal for two texts exactly when they are the same words, numbers and operators in
    order.
    """
    joined = _KEY.sub("", normal(text))
    return _KEY_END.sub("", joined)


def words(text: str) -> list[str]:
    """Words and whole numbers of the normal form, in order; `x2` is two tokens."""
    return _WORDS.findall(normal(text))


def views(text: str) -> tuple[View, ...]:
    """The token sets in which similarity is measured. Two texts are as similar as the most similar of their
    views.

    The first is the normal form. The others take the text as it stands, split into words, at blanks, and into
    words and symbols, so that an overlap under any usual tokenisation is an overlap here.
    """
    cleaned, raw = normal(text), text.lower()
    raw_numbers = frozenset(_NUMBERS.findall(raw))
    return (
        View(frozenset(_WORDS.findall(cleaned)), frozenset(_NUMBERS.findall(cleaned))),
        View(frozenset(_RAW_WORDS.findall(raw)), raw_numbers),
        View(frozenset(raw.split()), raw_numbers),
        View(frozenset(_SYMBOLS.findall(raw)), raw_numbers),
    )


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|a & b| / |a | b|; two empty sets are equal."""
    if not a and not b:
        return 1.0
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
