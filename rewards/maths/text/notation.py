"""Rarer spellings of a notation -> the usual one, as text, before it is cut into tokens."""

from __future__ import annotations

import re
from typing import NamedTuple


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
        (r"\prime", r"\^\s{0,4}(?:\{\s{0,4}\\prime\s{0,4}\}|\\prime(?![A-Za-z]))", "'"),
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


def usual_notation(text: str) -> str:
    """The text with row spacings, systems in a brace, `{}_{10}C_3`, `x^*`, `dy/dx` and the like as
    they are usually written.
    """
    for mark, pattern, usual in _SPELLINGS:
        if mark in text:
            text = pattern.sub(usual, text)
    return text


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
    top, bottom = _bare(above[0]), _bare(below[0])
    start, parts = _ABOVE.match(top), list(_BELOW.finditer(bottom))
    if (
        start is None
        or "".join(part[0] for part in parts) != bottom
        or any(part[1] != start[1] for part in parts)
    ):
        return None
    orders = [part[2] or "1" for part in parts]
    if len(orders) > 1 and all(order.isdecimal() for order in orders):
        orders = [str(sum(map(int, orders)))]
    return (f"{top}/{bottom}", position + below[1]) if orders == [start[2] or "1"] else None


def _bare(text: str) -> str:
    """Without upright letters, groups and blanks."""
    text = _PARTIAL.sub("∂", _UPRIGHT_D.sub("d", text))
    return re.sub(r"[\s{}]", "", text)
