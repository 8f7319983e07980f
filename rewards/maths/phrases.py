"""Phrases around an answer: `the answer is`, `option C`, `for all x`, `p.m.`."""

from __future__ import annotations

from rewards.maths.stretches import Tokens

RELATIONS = frozenset({"=", "!=", "<", ">", "<=", ">=", "in", "notin", "~~", "equiv", "to", "iff"})
_BEFORE_ANSWER = frozenset({"so", "thus", "hence", "the", "my", "our", "final", "correct"})
LABELS = frozenset({"option", "choice", "answer"})


def choice_letter(tokens: Tokens) -> str:
    """C in `option C`, `option (C)`, `C)`; else ''."""
    labelled = bool(tokens) and tokens[0].kind in ("word", "run") and tokens[0].text.lower() in LABELS
    texts = [token.text for token in tokens[labelled:] if token.text != "G"]  # the bracket spoils the groups around it
    if labelled and texts[:1] == ["("]:
        texts = texts[1:]
    bracketed = texts[1:] == [")"]
    if (not labelled and not bracketed) or len(texts) not in (1, 2) or (len(texts) == 2 and not bracketed):
        return ""
    return texts[0] if len(texts[0]) == 1 and texts[0].isalpha() else ""


def without_lead_in(tokens: Tokens) -> Tokens:
    """`The answer is 5` as 5."""
    words = []
    for token in tokens:
        if token.kind not in ("word", "run"):
            break
        words.append(token.text.lower())
    if "is" not in words or words.index("is") == len(tokens) - 1:
        return tokens
    at = words.index("is")
    return tokens[at + 1 :] if words[at - 1 : at] == ["answer"] and {*words[: at - 1]} <= _BEFORE_ANSWER else tokens


def without_quantifier(tokens: Tokens) -> Tokens:
    """`f(x) = x for all x` without its end, which says nothing new about a function."""
    texts = [token.text for token in tokens]
    start = next(
        (
            i
            for i in range(1, len(texts))
            if texts[i] == "forall" or texts[i : i + 2] in (["for", "all"], ["for", "any"])
        ),
        None,
    )
    if start is None or "=" not in texts[:start]:
        return tokens
    rest = [
        token for token in tokens[start:] if token.kind in ("num", "open", "close") or token.text in RELATIONS - {"in"}
    ]
    return tokens if rest else tokens[:start]


def hour_of_day(tokens: Tokens) -> int | None:
    """6 in `6 PM`, `6 p.m.`."""
    front, half = half_of_day(tokens)
    number = front[0] if half and len(front) == 1 else None
    if number is None or number.value is None or number.value not in range(1, 13):
        return None
    return int(number.value)


def half_of_day(tokens: Tokens) -> tuple[Tokens, str]:
    """Without a trailing `a.m.` or `PM`, and which it was."""
    letters = [token for token in tokens if token.kind in ("word", "run", "sym")]
    text = "".join(token.text for token in letters).lower()
    if text not in ("am", "pm"):
        return tokens, ""
    start = next(i for i, token in enumerate(tokens) if token is letters[0])
    return tokens[:start], text
