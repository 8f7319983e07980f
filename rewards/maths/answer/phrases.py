"""Phrases around an answer: `the answer is`, `option C`, `for all x`, `where k is an integer`,
`p.m.`.
"""

from __future__ import annotations

import re

from rewards.maths.limits import NotMathError
from rewards.maths.text import vocabulary as known
from rewards.maths.text.tokens import (
    LETTERS,
    Kind,
    Token,
    Tokens,
    closing,
    is_tuple,
    opening,
    plain_text,
    texts,
    top_level,
)
from rewards.maths.text.vocabulary import Sign

ORDER: tuple[Sign, ...] = ("<", ">", "<=", ">=")
RELATIONS: tuple[Sign, ...] = (*ORDER, "=", "!=", "in", "notin", "~~", "equiv", "to", "iff")
DOMAINS = ("ZZ", "NN", "QQ", "RR", "CC")
# Before a value these say that it is not the value meant, or not quite.
_TAKES_BACK = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|greater|smaller|bigger|larger) than|(?:more|less)$|(?:upper|lower) bound"
    r"|close to|(?:half|square|negative|opposite|reciprocal) of (?:it|the answer))\b"
    r"|^(?:the )?(?:half|negative|minus|reciprocal|square of)$"
)
_LEAD_IN = re.compile(r"((?:(?:so|thus|hence|the|my|our|final|correct) )*answer is )")
_SET_OF = re.compile(
    r"(?:the )?(?:set of )?(?:all )?(?:the )?(?:(positive|negative|(?:non|non - )(?:positive|negative|zero)) )?"
    r"(real|integer|natural|rational)s?(?: numbers?)?(?: [a-zA-Z])?(?: (?:except|excluding)(?: for)?)?"
)


def takes_back(tokens: Tokens) -> bool:
    """Do the words of a label deny, doubt or bound what follows: `not`, `maybe`, `upper bound`,
    `half of it`?
    """
    text = plain_text(tokens)
    doubted = not known.LABEL_TAKES_BACK.isdisjoint(text.split())
    return doubted or _TAKES_BACK.search(text) is not None


def choice_letter(tokens: Tokens) -> str:
    """C in `option C`, `option (C)`, `C)`; else ''."""
    labelled = bool(tokens) and tokens[0].word in known.CHOICE_WORDS
    shown = texts(tokens[labelled:])  # the bracket spoils the groups around it
    if labelled and shown[:1] == ["("]:
        shown = shown[1:]
    if not shown or shown[1:] not in ([")"], [] if labelled else [")"]):
        return ""
    return shown[0] if len(shown[0]) == 1 and shown[0].isalpha() else ""


def without_lead_in(tokens: Tokens) -> Tokens:
    """`The answer is 5` as 5, `all n > 3` as `n > 3`; `f(x) = x for all x` and `y = C e^x where C is
    a constant` without their ends, which say nothing new.
    """
    if not any(token.kind in LETTERS or token.text == "forall" for token in tokens):
        return tokens
    if len(tokens) > 3 and tokens[0].text.lower() in ("all", "any") and tokens[2].text in RELATIONS:
        return tokens[1:]
    words = [token.word for token in tokens]
    lead = " ".join(words[: words.index("")] if "" in words else words)
    if found := _LEAD_IN.match(lead + " "):
        rest = tokens[found[0].count(" ") :]
        tokens = rest or tokens
    said = [token.text.lower() for token in tokens]
    if said[-1:] and said[-1] in ("constant", "constants") and "where" in said:
        end = tokens[said.index("where") :]
        names = all(t.kind in (*LETTERS, Kind.SYM) or t.text == "," for t in end)
        return tokens[: said.index("where")] if names and not takes_back(end) else tokens
    for start in range(1, len(said)):
        if said[start] == "forall" or said[start : start + 2] in (["for", "all"], ["for", "any"]):
            end = tokens[start:]
            limited = any(
                t.kind in (Kind.NUM, Kind.OPEN, Kind.CLOSE)
                or (t.text in RELATIONS and t.text != "in")
                for t in end
            )
            is_end = "=" in said[:start] and not limited and not takes_back(end)
            return tokens[:start] if is_end else tokens
    return tokens


def described_set(tokens: Tokens) -> tuple[str, str, Tokens] | None:
    """`all positive integers`, `all real numbers except 3`: sign, number set, and what is left out;
    else None.
    """
    if tokens[0].kind not in LETTERS:
        return None
    in_words = (*LETTERS, Kind.SYM)
    shown = (i for i, t in enumerate(tokens) if t.kind not in in_words and t.text != "-")
    end = next(shown, len(tokens))
    match = _SET_OF.fullmatch(plain_text(tokens[:end]))
    if match is None or len(tokens) < 2 or ("exc" in match[0]) != (end < len(tokens)):
        return None
    return (match[1] or "").replace(" - ", ""), known.NUMBER_SETS[match[2]], tokens[end:]


def numbered_statements(tokens: Tokens) -> list[int]:
    """1 and 4 in `(1)(4)`, which lists statements and is no product; else nothing."""
    if tokens[0].text != "(" or tokens[-1].text != ")":
        return []
    numbers = [int(t.text) for t in tokens[1::3] if t.kind is Kind.NUM and t.text.isdigit()]
    spelt = "".join(f"({number})" for number in numbers)
    is_list = (
        len(numbers) > 1 and numbers == sorted(set(numbers)) and 0 < numbers[0] <= numbers[-1] < 20
    )
    return numbers if is_list and spelt == "".join(token.text for token in tokens) else []


def point_name(tokens: Tokens) -> int:
    """How many tokens the name of a point before its coordinates has, as in `A(1, 2)` or
    `F_1(0, 3)`; C(4, 2) is a binomial.
    """
    first = tokens[0]
    if first.kind is not Kind.SYM or len(first.text) != 1 or not first.text.isupper():
        return 0
    length = 1
    if tokens[1:] and tokens[1].text == "_":
        in_group = len(tokens) > 2 and tokens[2].text == "G"
        length = (closing(tokens, 2) or len(tokens)) + 1 if in_group else 3
    while length < len(tokens) and tokens[length].text == "'":
        length += 1
    return 0 if length == 1 and first.text == "C" else length


def without_transpose(tokens: Tokens) -> Tokens:
    """`(1, 2)^T` as `(1, 2)`; nothing where no row is transposed."""
    if texts(tokens[-4:])[-2:] != ["^", "T"]:
        return []
    front = tokens[: -4 if tokens[-1].text == "G" else -2]
    is_matrix = len(front) > 3 and front[0].text == "begin" and closing(front, 0) == len(front) - 2
    return front if is_matrix or is_tuple(front) else []


def split_modulus(tokens: Tokens, *, bare: bool) -> tuple[Tokens, Tokens]:
    """`3 (mod 7)` as 3 and 7; no modulus where there is none. Without brackets, `n mod 7` may also
    be a remainder: a modulus only if `bare`.
    """
    for at, token in enumerate(tokens):
        if token.text in ("mod", "pmod") and token.kind is not Kind.SYM:
            front, modulus = tokens[:at], tokens[at + 1 :]
            if front and front[-1].text == "(" and modulus and modulus[-1].text == ")":
                return front[:-1], modulus[:-1]
            return (front, modulus) if token.text == "pmod" or bare else (tokens, [])
    return tokens, []


def number_set(tokens: Tokens) -> str:
    """The set of numbers that tokens name, `RR+` for the positive ones; else ''."""
    name = tokens[0].text if tokens else ""
    name = 2 * name if name in ("Z", "N", "Q", "R") else name
    marks = texts(tokens[1:])
    marks = ["^", "+"] if marks == ["_", ">", "0"] else marks
    is_marked = not marks or (marks[0] in ("^", "_") and {*marks[1:]} <= {"+", "*", "-"})
    if name not in DOMAINS or not is_marked:
        return ""
    if "+" in marks:
        return "NN" if name in ("ZZ", "NN") else name + "+"
    if name == "RR" and "*" in marks:
        return "RR*"
    return name + "-" if "-" in marks else name


def number_set_at(tokens: Tokens, start: int) -> str:
    """The set of numbers that is named from `start` on."""
    end = start + 1
    if tokens[end:] and tokens[end].text in ("^", "_"):
        end += 2
        if tokens[end - 1 :] and tokens[end - 1].text == "G":
            end = (closing(tokens, end - 1) or end) + 1
    return number_set(tokens[start:end])


def domain_of(tokens: Tokens) -> str:
    r"""ZZ for `k \in \mathbb{Z}`, which says where k lives and is no further answer; else ''."""
    tokens = _integer_said(tokens)
    is_membership = len(tokens) > 2 and tokens[0].kind is Kind.SYM and tokens[1].text == "in"
    return number_set(tokens[2:]) if is_membership else ""


def _integer_said(tokens: Tokens) -> Tokens:
    r"""`k is an integer` as `k \in \mathbb{Z}`."""
    if len(tokens) < 4 or tokens[-1].word != "integer":
        return tokens
    if re.fullmatch("is (?:an|any) integer", plain_text(tokens[-3:])):
        return [*tokens[:-3], Token(Kind.OP, "in"), Token(Kind.SYM, "ZZ")]
    return tokens


def with_comma(tokens: Tokens) -> Tokens:
    r"""`k \pi (k \in Z)`, `k \pi for k \in Z` and `k \pi where k is an integer` as
    `k \pi, k \in Z`.
    """
    is_phrase = any(t.kind in LETTERS or t.text in ("in", ")") for t in tokens)
    if not is_phrase:
        return tokens
    try:
        front, condition = _condition(_integer_said(tokens))
    except NotMathError:  # brackets that do not match
        return tokens
    while front and front[-1].text == ",":
        front = front[:-1]
    return [*front, Token(Kind.OP, ","), *condition] if front and condition else tokens


def _condition(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """What holds, and the condition that trails it."""

    def is_relation(part: Tokens) -> bool:
        level = [part[i] for i in top_level(part)]
        several = any(token.text.lower() in ("or", "and") for token in level)
        return not several and any(token.is_op(*RELATIONS) for token in level)

    opener = opening(tokens) if tokens and tokens[-1].text == ")" else -1
    if opener > 0:
        before = tokens[opener - 1]
        is_event = before.kind is Kind.SYM and before.text.isupper()  # P(X > 4)
        if not is_event and is_relation(tokens[opener + 1 : -1]):
            return tokens[:opener], tokens[opener + 1 : -1]
    level = top_level(tokens)[1:]
    first = next((i for i in level if tokens[i].word in ("for", "where", "with")), None)
    if first is not None and is_relation(tokens[first + 1 :]):
        return tokens[:first], tokens[first + 1 :]
    last = next((i for i in reversed(level[1:]) if tokens[i].text == "in"), None)
    if last is None or not tokens[last - 1].spaced or not domain_of(tokens[last - 1 :]):
        return tokens, []
    holds = tokens[last - 2].kind in (Kind.NUM, Kind.SYM, Kind.CLOSE)
    return (tokens[: last - 1], tokens[last - 1 :]) if holds else (tokens, [])


_BINDERS = known.words("for where with (")
_BINDING = known.words("""
for some any all every each where with is are be being the and integer integers real reals number numbers constant
constants arbitrary positive nonnegative non negative natural
""")
_BESIDE_BINDING = known.words("a an in n k m")


def without_condition(tokens: Tokens) -> Tokens:
    r"""`x = k\pi for some integer k` without its end, which says what k is."""
    for start, token in enumerate(tokens):
        if not start or token.text.lower() not in _BINDERS or token.kind is Kind.SYM:
            continue
        words = [t for t in tokens[start:] if t.kind in LETTERS]
        is_bound = any(t.word in _BINDING or t.word == "an" for t in words)
        plain = all(
            t.text.lower() in _BINDING | _BESIDE_BINDING
            or t.kind is Kind.SYM
            or t.text in (",", "(", ")", "G", "-")
            for t in tokens[start:]
        )
        if is_bound and plain and not takes_back(words):
            front = tokens[:start]
            while front and front[-1].text in (",", ";"):
                front = front[:-1]
            return front
    return tokens


def half_of_day(tokens: Tokens) -> tuple[Tokens, str]:
    """Without a trailing `a.m.` or `PM`, and which it was."""
    letters = [i for i, t in enumerate(tokens) if t.kind in (*LETTERS, Kind.SYM)]
    half = "".join(tokens[i].text for i in letters).lower()
    return (tokens[: letters[0]], half) if half in ("am", "pm") else (tokens, "")
