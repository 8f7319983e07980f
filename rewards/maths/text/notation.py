"""Text -> text with one spelling for spacing, sizes, thousands separators, degrees, Unicode signs
and rarer notations, before it is cut into tokens.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rewards.maths.text.vocabulary import UNICODE

_SPACING = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?![\d])"
    r"|\\(?:quad|qquad|displaystyle|textstyle|scriptstyle|tiny|small|large|Large|LARGE|huge|limits|nolimits|thinspace"
    r"|enspace|hfill|notag|nonumber|blacksquare|qed|noindent|centering|hline|,)(?![A-Za-z])"
    r"|\\(?:text)?color\s*\{[^{}]*\}"
    r"|\\[,;:!> \n]|~|\\(?:hspace|vspace|phantom|hphantom|vphantom|tag|label)\*?\s*\{[^{}]*\}"
)
_EDGES = re.compile(r"^(?:\\[,;:! ]|\s)+|(?<!\\)(?:\\[,;:! ]|\s)+$|(?<!\\)\\$", re.ASCII)
_MODE = re.compile(r"\\[()\[\]]")
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
_FACTORIAL_IS = re.compile(r"(?<=\d)!=", re.ASCII)
_DECIMAL_COMMA = re.compile(r"(?<=\b0)\{,\}(?=\d)|(?<=\d)\{,\}(?=\d{1,2}(?!\d|\{,\}))", re.ASCII)
_CIRCLED = re.compile("[①-⑳]")
_BETWEEN_CIRCLED = re.compile(r"[①-⑳\s,，、;；和与及{}$]|\\text|and")
_DAY = re.compile(r"第\s*(\d+)", re.ASCII)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣʸᵗᵏᵐ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₖₘᵢⱼ]+")
_SMALL_SIGNS = str.maketrans(
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣʸᵗᵏᵐ₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₖₘᵢⱼ", "0123456789+-nxytkm0123456789+-nxkmij"
)
# A word with an accent; letters without one are symbols.
_GREEK_WORD = re.compile("((?<=\\s)(?=[α-ωά-ώ]*[άέήίόύώϊϋ])[α-ωά-ώϊϋ]{3,40})")


class _Spelling(NamedTuple):
    """`pattern` becomes `usual`; without `mark` in a text it is not searched for."""

    mark: str
    pattern: re.Pattern[str]
    usual: str


_GROUP = r"\s{0,4}(?:\{\s{0,4}([\w+-]{1,8})\s{0,4}\}|(\w))\s{0,4}"  # {10}, 3
_C = r"(?:C|\\(?:mathrm|text|rm)\s{0,4}\{\s{0,4}C\s{0,4}\})"
_BLOCK = r"\{(?:array|aligned|gathered|matrix|split)\}"
_SPELLINGS = tuple(
    _Spelling(mark, re.compile(pattern, re.ASCII | re.DOTALL), usual)
    for mark, pattern, usual in (
        ("{:}", r"\{:\}", ":"),
        # a row with its spacing
        ("\\\\", r"\\\\\*?\s{0,4}\[\s{0,4}-?[\d.]{1,8}\s{0,4}[a-z]{2}\s{0,4}\]", r"\\\\"),
        (  # a system in a brace
            r"\right",
            r"\\left\s{0,4}\\(?:\{|lbrace)\s{0,4}\\begin" + _BLOCK + r"(?:\s{0,4}\{[lcr|\s]{1,20}\})?"
            r"(.{1,2000}?)\\end" + _BLOCK + r"\s{0,4}\\right\s{0,4}\.",
            r"\\begin{cases}\1\\end{cases}",
        ),
        ("^", r"\^\s{0,4}(?:\{\s{0,4}((?:(?:\\prime|')\s{0,4}){1,4})\}|(\\prime)(?![A-Za-z]))", r"\1\2 "),
        # the reals without 0; a star at the end would be dropped as a mark
        ("R}^", r"\\mathbb\s?\{R\}\s?\^\s?(?:\{\*\}|\*)", r"\\mathbb{R}_{*}"),
        (  # x^*, but the sets of numbers without 0 stay
            "^",
            r"(?<!\\mathbb .)(?<!\\math(?:bb|bf)\{.\})(?<!\\in .)(?<=\S)\^\s{0,4}"
            r"(?:\{\s{0,4}(?:\*|\\ast|\\star)\s{0,4}\}|\*(?!\*)|\\(?:ast|star)(?![A-Za-z]))",
            r"^\\star ",
        ),
        ("C", r"(?:(?<![\w})\]'\s])|\{\s{0,4}\})[\^_]" + _GROUP + _C + r"\s{0,4}_" + _GROUP, r"\\binom{\1\2}{\3\4}"),
        (  # the product of vectors, which is none of numbers
            r"\times",
            r"(?<=\})\s{0,4}\\times\s{0,4}(?=\\(?:vec|overrightarrow|mathbf|boldsymbol)\s{0,4}\{[A-Za-z])",
            r"\\cross ",
        ),
        ("/d", r"(?<![A-Za-z\\])d([A-Za-z]?)\s{0,2}/\s{0,2}d([A-Za-z])(?![A-Za-z])", r"\\frac{d\1}{d\2}"),
        (
            r"\in",
            r"\\in\s{0,4}(?:\\mathbf\s{0,4}\{([NZQRC])\}|\\mathbf\s{1,4}([NZQRC])(?![A-Za-z])"
            r"|(?<=\s)([NZQR])(?![A-Za-z_^'(]))",
            r"\\in \\mathbb{\1\2\3}",
        ),
    )
)  # fmt: skip


def ambiguous_commas(text: str) -> bool:
    """Could `1,234` in the text be two numbers?"""
    return "," in text and _COMMA_THOUSANDS.search(text) is not None


def clean(text: str, *, comma_lists: bool = False) -> str:
    """The text in usual notation.

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
    for mark, pattern, usual in _SPELLINGS:
        if mark in text:
            text = pattern.sub(usual, text)
    if "\\" in text:
        # A row ends. Its second backslash must not take the blank after it.
        text = _MODE.sub(" ", text.replace("\\\\", r"\cr "))
        text = _EDGES.sub("", text)
    if "$" in text:  # modes of mathematics go, a currency sign (`$30`, `\$`) stays as `\$`
        plain = text.replace(r"\$", "\0")
        if plain.count("$") % 2:  # an odd one out is money
            plain = re.sub(r"\$(?=\s*[\d.])", "\0", plain, count=1)
        text = plain.replace("$", " ").replace("\0", r"\$ ")
    if "," in text:
        text = _SURE_COMMA.sub("", _DECIMAL_COMMA.sub(".", text))
        if not comma_lists:
            text = _COMMA_THOUSANDS.sub(_join_thousands, text)
    if "10" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    if " " in text or "\\" in text or "~" in text:
        text = _SPACED_THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    if "\\" in text:
        text = _DEGREE.sub(r"\\degree ", _SIZED_FRACTION.sub(r"\\\1", text))
        text = _SPACING.sub(" ", text)
    return text.replace("~", " ")


def _join_thousands(match: re.Match[str]) -> str:
    """`1,234` as 1234; between brackets it is two places, unless a group such as `034` is none."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    is_bracketed = before.rstrip().endswith(("(", "[", r"\{")) and after.lstrip()[:1] in (
        ")",
        "]",
        "\\",
    )
    is_one = any(group.startswith("0") and group != "0" for group in match[0].split(",")[1:])
    return match[0] if is_bracketed and not is_one else match[0].replace(",", "")


def _from_unicode(text: str) -> str:
    """Signs in ASCII; runs of small digits as one script, circled numbers as statements."""
    circled = _CIRCLED.findall(text)
    if len(circled) > 1 and not _BETWEEN_CIRCLED.sub("", text):
        numbers = sorted({ord(sign) - ord("①") + 1 for sign in circled})
        return "".join(f"({number})" for number in numbers)
    text = _DAY.sub(r"\1", text)
    text = _RAISED.sub(lambda match: "^{" + match[0].translate(_SMALL_SIGNS) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + match[0].translate(_SMALL_SIGNS) + "}", text)
    parts = _GREEK_WORD.split(text)
    return "".join(
        rf"\text{{{len(part) * 'q'}}}" if index % 2 else part.translate(UNICODE)
        for index, part in enumerate(parts)
    )


def group_at(text: str, start: int) -> tuple[str, int] | None:
    """Content of the brace group that begins at or after blanks from `start`, and the index after
    it.
    """
    while start < len(text) and text[start].isspace():
        start += 1
    if start >= len(text) or text[start] != "{":
        return None
    depth, index = 0, start
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : index], index + 1
        index += 1
    return None


_UPRIGHT_D = re.compile(r"\\(?:mathrm|text|rm)\s{0,4}(?:\{\s{0,4}d\s{0,4}\}|d(?![A-Za-z]))")
_PARTIAL = re.compile(r"\\partial(?![A-Za-z])")
_ABOVE = re.compile(r"([d∂])(?:\^(\w))?(?!\^)")
_BELOW = re.compile(r"([d∂])(?:[A-Za-z]|\\[A-Za-z]+)(?:\^(\w))?")
_MAYBE_DERIVATIVE = re.compile(r"\s{0,4}\{\s{0,4}[d\\]")
_MAX_DERIVATIVE = 120  # characters


def derivative_at(text: str, position: int) -> tuple[str, int] | None:
    r"""The name of the derivative in the arguments of a `\frac`, and the index after them: its d do
    not cancel.
    """
    if not _MAYBE_DERIVATIVE.match(text, position):
        return None
    text = text[position : position + _MAX_DERIVATIVE]
    above = group_at(text, 0)
    below = group_at(text, above[1]) if above else None
    if above is None or below is None:
        return None
    top, bottom = (
        re.sub(r"[\s{}]", "", _PARTIAL.sub("∂", _UPRIGHT_D.sub("d", group[0])))
        for group in (above, below)
    )
    start, parts = _ABOVE.match(top), list(_BELOW.finditer(bottom))
    if start is None or "".join(part[0] for part in parts) != bottom:
        return None
    orders = [part[2] or "1" for part in parts]
    if len(orders) > 1 and all(order.isdecimal() for order in orders):
        orders = [str(sum(map(int, orders)))]
    agree = orders == [start[2] or "1"] and all(part[1] == start[1] for part in parts)
    return (f"{top}/{bottom}", position + below[1]) if agree else None
