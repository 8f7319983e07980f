"""The final answer of a response: what it says after its thought, in a box, in tags, or in words.

All searches are linear in the length of the response.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from rewards.statements import (
    MAX_STATEMENTS,
    closing_value,
    sentence_value,
    statements,
    without_spelling,
)

Source = Literal["any", "boxed", "answer_tag", "stated", "last_number"]

MAX_CANDIDATES = MAX_STATEMENTS  # more boxes than this is a guess list, whatever they hold


class Extraction(NamedTuple):
    """Candidates for the final answer, last one last; they must all agree. `reason` says why there
    are none.
    """

    candidates: tuple[str, ...]
    reason: str = ""
    # stands right behind the last box and may belong to it: the percent sign of `\boxed{8}\%`
    suffix: str = ""


# A doubled backslash is one that was escaped for JSON.
_BRACES = re.compile(
    r"\\{1,2}(?:boxed|fbox)\s{0,8}(?:(?P<box>\{)|(?:\s|(?=\d))(?P<bare>-?[\w.]*\w))|\\.|[{}]",
    re.DOTALL | re.ASCII,
)
_MAX_DENIAL = 60  # characters
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|if|unless|suppose|assume|assuming|instead of|rather than)|n['’]t(?: be)?)"
    r"(?: (?:be|equal to|equal|that))?[\s$({\\\[]{0,8}\\(?:boxed|fbox)\s{0,8}\{$",
    re.IGNORECASE,
)
# Between two boxes: the first is taken back.
_CORRECTED = re.compile(
    r"\b(?:correcting|correction|scratch that|(?:that|this|which|it) (?:is|was) (?:wrong|incorrect|a mistake)"
    r"|I made (?:a|an) (?:mistake|error))\b",
    re.IGNORECASE,
)
_MAX_CORRECTION = 200  # characters
# Behind the last box: a second answer.
_OR = re.compile(
    r"[\s$(){}\[\]]{0,20}\bor\s{1,4}\$?(-?\d[\d.,/]{0,40}\\?%?)[\s$.]{0,20}\Z", re.ASCII
)
# Between two boxes that are one list, and before one of them.
_NAME = r"([A-Za-z](?:_\{?\w{1,3}\}?)?)\s?=\s?"
_BESIDE = re.compile(
    rf"\}}[\s$\\)]{{0,6}}(?:[,;]|,?\s(?:and|or)\b|,?\s?\\text\{{\s?(?:and|or)\s?\}})[\s$\\(,;]{{0,6}}(?:{_NAME})?"
    r"\\(?:boxed|fbox)\s?\{",
    re.ASCII,
)
_NAMED = re.compile(rf"(?<![\w\\]){_NAME}\\(?:boxed|fbox)\s?\{{$", re.ASCII)
_PERCENT = re.compile(r"\}?[$\s]{0,3}\\?%")
_SPECIAL_TOKEN = re.compile(
    r"<[|｜][\w▁]{3,40}[|｜]>|</?s>|<(?:eos|bos|pad|unk|EOD|EOT|start_of_turn|end_of_turn|end_of_text"
    r"|endoftext|im_end)>|\[/?INST\]|\[EOS\]"
)
_CODE = re.compile(r"(`+)(?:\w+\n)?([^`]+)\1")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?", re.ASCII)
_PLACEHOLDERS = frozenset(
    {"", "...", r"\ldots", r"\dots", r"\cdots", r"\cdot", "…", "ans", "[answer]", "(answer)", "answer here"}
    | {f"{owner}{kind}answer{here}" for owner in ("", "the ", "your ") for kind in ("", "final ")
       for here in ("", " here")}
    | {rf"\text{{{owner}answer}}" for owner in ("", "the ", "your ", "final ", "your final ", "the final ")}
)  # fmt: skip


def final_part(response: str, *, prompt_opens_think: bool = False) -> str | None:
    """What follows the last `</think>`; the whole response where there is no thought; None for an
    unclosed one.
    """
    _, closed, final = response.rpartition("</think>")
    if not closed and prompt_opens_think:
        return None
    return None if "<think>" in final else final


def extract(final: str, source: Source = "any") -> Extraction:
    """The candidates in the final part of a response, from the sources that count.

    `any`: boxes, else answer tags, else a stated answer, else what the last line puts in bold. A box inside a tag and the tag are one
    candidate.
    """
    final = _SPECIAL_TOKEN.sub("\n", final)
    tags = _real(tagged(final)) if source in ("any", "answer_tag") else []
    if source == "last_number":
        numbers = _NUMBER.findall(final)
        return Extraction((numbers[-1].rstrip(","),) if numbers else (), "no_answer")
    if source == "stated":
        return _stated(final)
    if source == "answer_tag":
        return _from_tags(tags)
    boxes = _real(_joined(final))
    if source == "boxed" or (boxes and not tags):
        return _several(boxes)._replace(suffix=r"\%" if _percent_follows(final) else "")
    if boxes:
        unboxed = [tag for tag in tags if not _real(boxed(tag))]
        return _several([*(_inside(tag) for tag in unboxed), *boxes])
    return _from_tags(tags) if tags else _stated(final)


def _stated(text: str) -> Extraction:
    closing = () if (found := _real(statements(text))) else (closing_value(text) or "",)
    return _several([*found, *_real([*closing])])


def tagged(text: str) -> list[str]:
    """Contents of all closed answer tags, in order."""
    found: list[str] = []
    start = text.find("<answer>")
    while start >= 0 and len(found) <= MAX_CANDIDATES:
        end = text.find("</answer>", start)
        if end < 0:
            break
        found.append(text[start + len("<answer>") : end])
        start = text.find("<answer>", end)
    return found


def boxed(text: str) -> list[str]:
    r"""Contents of all complete `\boxed{...}` and `\fbox{...}` outside of other boxes, in order; also
    `\boxed 5`. Not those that are denied or corrected; but 43 of `\boxed{42} or 43`, which is another
    answer.
    """
    spans = _standing(text)
    found = [text[start:end] for start, end in spans]
    if found and (second := _OR.match(text, spans[-1][1])):
        found.append(second[1].rstrip(".,"))
    return found


def _joined(text: str) -> list[str]:
    r"""`boxed`, where the last ones may be one list: `$x = \boxed{2}$ or $x = \boxed{5}$` is
    `x = 2 or x = 5`.
    """
    found = boxed(text)
    spans = _standing(text) if len(found) > 1 else []
    if not spans or len(spans) < len(found):
        return found
    first = len(spans) - 1
    while first and _BESIDE.fullmatch(text, spans[first - 1][1], spans[first][0]):
        first -= 1
    items = found[first:]
    if len(set(items)) == 1 or len(items) > MAX_CANDIDATES:
        return found
    starts = [start for start, _ in spans[first:]]
    names = [_NAMED.search(text, max(0, start - _MAX_DENIAL), start) for start in starts]
    said = [f"{name[1]} = " if name else "" for name in names]
    mark = ", " if "" not in said and len(set(said)) == len(said) else r" \text{ or } "
    return [*found[:first], mark.join(map("".join, zip(said, items, strict=True)))]


def _standing(text: str) -> list[tuple[int, int]]:
    """The spans of boxes that are neither denied nor corrected."""
    spans = _box_spans(text)
    found = []
    for index, (start, end) in enumerate(spans):
        # `not \\boxed{5}` and `If \\boxed{5} were the answer` give no answer.
        denied = _DENIED.search(text, max(0, start - _MAX_DENIAL), start)
        after = min(spans[index + 1][0], end + _MAX_CORRECTION) if index + 1 < len(spans) else end
        if not denied and not _CORRECTED.search(text, end, after):
            found.append((start, end))
    return found


def _box_spans(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []  # (start, end) of contents
    opened: list[int] = []  # where the group began if it is a box, else -1
    if "boxed" not in text and "fbox" not in text:
        return []
    for match in _BRACES.finditer(text):
        token = match[0]
        if token == "}":
            if opened and (start := opened.pop()) >= 0:
                while found and found[-1][0] > start:  # boxes inside of this one
                    found.pop()
                found.append((start, match.start()))
        elif token == "{":
            opened.append(-1)
        elif match["box"]:
            opened.append(match.end())
        elif match["bare"]:
            found.append(match.span("bare"))
        if len(found) > MAX_CANDIDATES and not opened:
            break
    return found


def _percent_follows(text: str) -> bool:
    spans = _box_spans(text) if "%" in text else []
    return bool(spans and _PERCENT.match(text, spans[-1][1]))


def _real(candidates: list[str]) -> list[str]:
    return [text for text in candidates if text.strip().lower() not in _PLACEHOLDERS]


def _several(candidates: list[str]) -> Extraction:
    if not candidates:
        return Extraction((), "no_answer")
    if len(candidates) > MAX_CANDIDATES:
        return Extraction((), "several_answers")
    return Extraction(tuple(dict.fromkeys(_bare(text) for text in candidates)))


def _bare(text: str) -> str:
    r"""Without blanks and code ticks around it, and without a last `\ ` or `\\`, which an ending
    leaves as a lone backslash.
    """
    code = _CODE.fullmatch(text.strip())
    return (code[2] if code else text).strip().rstrip("\\ \t\r\n")


def _from_tags(tags: list[str]) -> Extraction:
    return _several([_inside(tag) for tag in tags])


def _inside(text: str) -> str:
    """The answer inside of a tag: its box, or what it states, or all of it."""
    boxes = _real(boxed(text))
    if boxes:
        return boxes[-1] if len(set(boxes)) == 1 else ", ".join(boxes)
    stated = set(_real(statements(text)))
    if len(stated) == 1:
        return stated.pop()
    return sentence_value(text) or without_spelling(text)
