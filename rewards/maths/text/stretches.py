"""Stretches of tokens: cut at the top level, stripped of what carries no meaning, spelt as text."""

from __future__ import annotations

from itertools import pairwise

from rewards.maths.limits import NotMathError
from rewards.maths.text.tokens import Token

Tokens = list[Token]


def plain_text(tokens: Tokens) -> str:
    """One spelling of tokens as text: words in lower case, one blank between tokens, sizes and
    quotes gone.
    """
    return " ".join(
        token.text.lower() if token.kind in ("word", "run") else token.text
        for token in tokens
        if not (token.kind == "op" and token.text in '."')
    )


def strip(tokens: Tokens) -> Tokens:
    """Without outer groups, quotes, and marks around it that carry no meaning."""
    while tokens:
        last, first = tokens[-1], tokens[0]
        if (
            last.kind == "op"
            and last.text in (".", ",", ";", ":", '"', "_", "'")
            and len(tokens) > 1
        ):
            if last.text == "'" and first.text != "'":
                break
            tokens = tokens[:-1]
        elif first.kind == "op" and first.text in (
            "=",
            "~~",
            ":",
            '"',
            ".",
            ",",
            "*",
            "'",
            "_",
            "^",
        ):
            tokens = tokens[1:]
        elif last.kind == "op" and last.text in ("*", "^"):
            tokens = tokens[:-1]
        elif first.text == "G" and first.kind == "open" and closing(tokens, 0) == len(tokens) - 1:
            tokens = tokens[1:-1]
        else:
            break
    return tokens


def closing(tokens: Tokens, start: int) -> int | None:
    """Index of the bracket that closes the one at `start`; any closer ends any opener, as in `[1,
    2)`.
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


def _depth_change(token: Token) -> int:
    if token.kind == "open" or (token.kind == "cmd" and token.text == "begin"):
        return 1
    if token.kind == "close" or (token.kind == "cmd" and token.text == "end"):
        return -1
    return 0


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


def split_at(tokens: Tokens, cuts: list[int]) -> list[Tokens]:
    """The stretches between the cuts."""
    edges = [-1, *cuts, len(tokens)]
    return [tokens[a + 1 : b] for a, b in pairwise(edges)]


def is_tuple(tokens: Tokens) -> bool:
    """Is it one pair of brackets around several places?"""
    if (
        not tokens
        or tokens[0].text not in ("(", "<")
        or tokens[0].kind != "open"
        or closing(tokens, 0) != len(tokens) - 1
    ):
        return False
    inner = tokens[1:-1]
    return any(inner[i].kind == "op" and inner[i].text == "," for i in top_level(inner))


def usual_brackets(tokens: Tokens) -> Tokens:
    """`]0, 1[` as `(0, 1)`."""
    shown = [token for token in tokens if token.text != "G"]
    if not shown or not (shown[0].text == "]" or shown[-1].text == "["):
        return tokens
    depth, turned = 0, []
    for token in tokens:
        if token.text == "]" and depth == 0:
            token = token._replace(kind="open", text="(")
        elif token.text == "[" and depth == 1:
            token = token._replace(kind="close", text=")")
        depth += _depth_change(token) if token.text != "G" else 0
        turned.append(token)
    return turned
