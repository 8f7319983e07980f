"""What an answer means beside its question: 17 where a percentage is asked for, digits where the
base is named, `b^2 = 7` where b^2 is asked for, and lists that are to be put in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewards.maths.text.vocabulary import NUMBER_WORDS

_ASKS_PERCENT = re.compile(
    r"\b(?:what|which|how many|in|as a|what (?:is|was|will be) the"
    r"|(?:find|calculate|determine|compute) the)\s+percent|\bhow many percentage points"
    r"|\brate of (?:markup|discount|interest|return|profit|growth|increase|decrease|change)\b",
    re.IGNORECASE,
)
_PERCENT = re.compile(
    r"\s*(?:\\?%|percent|\\text\s*\{\s*percent\s*\})\s*(?=(?:\$|\\\))?$)", re.IGNORECASE
)
_BASED = re.compile(r"\$?-?[0-9A-F]+_\{?(\d{1,2}|[a-z]+)\}?\$?", re.ASCII)
_DIGITS = re.compile(r"[\s*$`]*(-?[0-9A-F]{1,60})[\s*$`]*", re.ASCII)
_BASE = re.compile(r"\bbase[-\s$_{]{0,4}(\d{1,2}|[a-z]+)|\b(binary|octal|hexadecimal)\b", re.I)
_BASE_NAMES = {"binary": 2, "octal": 8, "hexadecimal": 16}
_BLANKS = re.compile(r"\\[,;:! ]|[\s${}]|\\(?:left|right)(?![A-Za-z])")
_ASKING = ("find", "compute", "determine", "evaluate", "is", "of")
_ASKS_ORDER = re.compile(
    r"(?:^|[.:;!?\n]\s*)(?:arrange|order|sort|rank|put|place)\b.{0,400}?\b(?:(?:increasing|decreasing|ascending|descending)"
    r"\s+order|in\s+order|from\s+(?:the\s+)?(?:least|smallest|lowest|greatest|largest|highest))\b",
    re.IGNORECASE | re.DOTALL,
)
_BETWEEN = re.compile(r"\s*(?:<|>|\\[lg]t(?![A-Za-z])|,?\s*(?:\\text\s*\{\s*and\s*\}|\band\b))\s*")


def meanings(answer: str, gold: str, question: str, suffix: str = "") -> Iterator[str]:
    """An answer, and what else it may mean where `question` asks for `gold`.

    Args:
        suffix: a percent sign that stands behind the box of the answer.
    """
    yield answer
    if suffix:
        yield from (answer + suffix, f"({answer}){suffix}")
    if not question:
        return
    if _ASKS_PERCENT.search(question):
        if gold[-1:].isdigit():
            yield _PERCENT.sub("", answer + suffix)
        elif answer[-1:].isdigit() and _PERCENT.search(gold):
            yield answer + r"\%"
    if (based := _BASED.fullmatch(gold.strip())) and (digits := _DIGITS.fullmatch(answer)):
        base = NUMBER_WORDS.get(based[1], based[1])
        named = [word or name for word, name in _BASE.findall(question.lower())]
        known = {str(_BASE_NAMES.get(name, NUMBER_WORDS.get(name, name))) for name in named}
        if str(base) in known:
            yield f"{digits[1]}_{{{base}}}"
    name, _, value = answer.partition("=")
    if value and "=" not in value and "=" not in gold and _is_asked(name, question):
        yield value


def _is_asked(name: str, question: str) -> bool:
    """Is `name` all that is asked for, as in "Find b^2."?"""
    name, text = (_BLANKS.sub("", part) for part in (name, question))
    lower, at = text.lower(), text.find(name) if name else -1
    while at >= 0:
        end = at + len(name)
        if lower.endswith(_ASKING, 0, at) and (
            end == len(text) or text.startswith((".", "?", ",", r"\]"), end)
        ):
            return True
        at = text.find(name, at + 1)
    return False


def asks_order(gold: str, question: str) -> bool:
    """Are several things to be put in order, as in "Arrange ... in increasing order"?"""
    is_list = _BETWEEN.search(gold) or ("," in gold and not re.fullmatch(r"[\d,]*", gold))
    return bool(question and is_list and _ASKS_ORDER.search(question))


def in_a_row(text: str) -> str:
    """`a < b < c` and `a, b, c` as the tuple `(a, b, c)`, in which the order counts."""
    text = text.strip().strip("$").strip()
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    return f"({_BETWEEN.sub(', ', text)})"
