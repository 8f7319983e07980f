"""The final answer of a response: what it says after its thought, in a box, in tags, or in words.

All searches are linear in the length of the response.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Source = Literal["any", "boxed", "answer_tag", "stated", "last_number"]

MAX_CANDIDATES = 32  # more boxes than this is a guess list, whatever they hold


class Extraction(NamedTuple):
    """Candidates for the final answer, last one last; they must all agree. `reason` says why there are none."""

    candidates: tuple[str, ...]
    reason: str = ""


_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,8}(?:\{|(?:\s|(?=\d))(?P<bare>-?[\w.]*\w))|\\.|[{}]", re.DOTALL | re.ASCII)
_STATED = re.compile(
    r"(?:\b(?:final |correct |right )?(?:answers?|option|choice)(?:\s+(?:to|for)\s[^.\n:]{0,80}?)?"
    r"\**\s*(?:\b(?:is|are|would be|must be)\b(?:\s+(?:therefore|thus|then|hence|simply|just))?|:|=)"
    r"|####)"
    r"\**:?\s*",
    re.IGNORECASE,
)
_REASON = re.compile(r",?\s(?:which|since|because|where|given|as)\s.*|,\s(?:not|rather than|instead of)\s.*", re.DOTALL)
_SENTENCE = re.compile(r"[^\d$\\=]{1,120}?\b(?:is|are|equals|got|get|obtained|found|has|have)\s+([^\n]{1,200})")
_STATEMENT_END = re.compile(r"\n|\.(?=\s|$)|\.(?=\*\*)|</|<\|\w{1,30}\|>|\.(?=<\|)")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?", re.ASCII)
_PLACEHOLDERS = frozenset(
    {"", "...", r"\ldots", r"\dots", r"\cdots", r"\cdot", "…", "ans", "[answer]", "(answer)", "answer here"}
    | {f"{owner}{kind}answer{here}" for owner in ("", "the ", "your ") for kind in ("", "final ")
       for here in ("", " here")}
    | {rf"\text{{{owner}answer}}" for owner in ("", "the ", "your ", "final ", "your final ", "the final ")}
)  # fmt: skip
_MAX_STATEMENT = 400  # characters
_MAX_STATED = 50_000  # characters at the end of a response that are searched for a stated answer


def final_part(response: str, *, prompt_opens_think: bool = False) -> str | None:
    """What follows the last `</think>`; the whole response where there is no thought; None for an unclosed one."""
    _, closed, final = response.rpartition("</think>")
    if not closed and prompt_opens_think:
        return None
    return None if "<think>" in final else final


def extract(final: str, source: Source = "any") -> Extraction:
    """The candidates in the final part of a response, from the sources that count.

    `any`: boxes, else answer tags, else a stated answer. A box inside a tag and the tag are one candidate.
    """
    tags = _real(tagged(final)) if source in ("any", "answer_tag") else []
    if source == "last_number":
        numbers = _NUMBER.findall(final)
        return Extraction((numbers[-1].rstrip(","),) if numbers else (), "no_answer")
    if source == "stated":
        return _stated(final)
    if source == "answer_tag":
        return _from_tags(tags)
    boxes = _real(boxed(final))
    if source == "boxed" or (boxes and not tags):
        return _several(boxes)
    if boxes:
        unboxed = [tag for tag in tags if not _real(boxed(tag))]
        return _several([*(_inside(tag) for tag in unboxed), *boxes])
    return _from_tags(tags) if tags else _stated(final)


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
    `\boxed 5`.
    """
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
        elif token.startswith(("\\boxed", "\\fbox")) and token[-1] == "{":
            opened.append(match.end())
        elif match["bare"]:
            found.append(match.span("bare"))
        if len(found) > MAX_CANDIDATES and not opened:
            break
    return [text[start:end] for start, end in found]


def _real(candidates: list[str]) -> list[str]:
    return [text for text in candidates if text.strip().lower() not in _PLACEHOLDERS]


def _statement(text: str) -> str:
    """The text up to the end of a formula on its own lines, of the sentence, or of the line, without its
    reasons.
    """
    for opening, closing in ((r"\[", r"\]"), ("$$", "$$")):
        if text.startswith(opening) and (end := text.find(closing, len(opening))) > 0:
            return text[len(opening) : end].strip()
    end_of_sentence = _STATEMENT_END.search(text)
    text = text[: end_of_sentence.start()] if end_of_sentence else text
    return _REASON.sub("", text).strip().strip("*").strip()


def _several(candidates: list[str]) -> Extraction:
    if not candidates:
        return Extraction((), "no_answer")
    if len(candidates) > MAX_CANDIDATES:
        return Extraction((), "several_answers")
    return Extraction(tuple(dict.fromkeys(text.strip() for text in candidates)))


def _from_tags(tags: list[str]) -> Extraction:
    return _several([_inside(tag) for tag in tags])


def _inside(text: str) -> str:
    """The answer inside of a tag: its box, or what it states, or all of it."""
    boxes = _real(boxed(text))
    if boxes:
        return boxes[-1] if len(set(boxes)) == 1 else ", ".join(boxes)
    stated = _stated(text).candidates
    if len(stated) == 1:
        return stated[-1]
    sentence = _SENTENCE.fullmatch(text.strip().rstrip("."))  # `The total cost is 5 dollars.`
    return sentence[1] if sentence else text


def _stated(text: str) -> Extraction:
    """What follows `the answer is`, `Answer:`, `####`, up to the end of the sentence or line."""
    found = []
    text = text[-_MAX_STATED:]
    for match in _STATED.finditer(text):
        statement = _statement(text[match.end() : match.end() + _MAX_STATEMENT])
        if not _STATED.search(statement):  # `Final Answer: The final answer is 42.` is one statement
            found.append(statement)
        if len(found) > MAX_CANDIDATES:
            break
    return _several(_real(found))
