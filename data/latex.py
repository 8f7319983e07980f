"""The little LaTeX that `data` must read: braces, boxes, and wrappers around a whole answer."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\f?box(?:ed)?\s*(?=\{)")
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def closing_brace(text: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1; escaped braces do not count."""
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position
        position += 1
    return -1


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{...}` (or `\fbox{...}`), or None."""
    for match in reversed(list(_BOX.finditer(text))):
        end = closing_brace(text, match.end())
        if end > 0:
            return text[match.end() + 1 : end].strip()
    return None


def strip_wrappers(answer: str) -> str:
    r"""The answer without a final full stop and without blanks, `$`, `\(`, `\[` and `\boxed{}`
    around it.

    >>> strip_wrappers(r"\[ \boxed{2, 3} \]")
    '2, 3'
    """
    while True:
        inner = _strip_once(answer.strip())
        if inner == answer:
            return answer
        answer = inner


def _strip_once(answer: str) -> str:
    if answer.endswith(".") and not answer.endswith(("..", r"\.", ".m.")) and len(answer) > 1:
        return answer[:-1].rstrip()
    for opening, closing in _PAIRS:
        if (
            len(answer) > len(opening) + len(closing)
            and answer.startswith(opening)
            and answer.endswith(closing)
        ):
            inner = answer[len(opening) : -len(closing)]
            # `$a$ and $b$` is two formulas; and `\$` at the end is a dollar, not a delimiter
            if opening not in inner and closing not in inner and not inner.endswith("\\"):
                return inner.strip()
    match = _BOX.match(answer)
    if match and closing_brace(answer, match.end()) == len(answer) - 1:
        return answer[match.end() + 1 : -1].strip()
    return answer
