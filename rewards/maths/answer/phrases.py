"""Phrases around an answer: `the answer is`, `option C`, `for all x`, `where k is an integer`,
`p.m.`.
"""

from __future__ import annotations
from rewards.maths.text.tokens import Kind

import re

from rewards.maths.answer.units import NUMBER_WORDS
from rewards.maths.limits import NotMathError
from rewards.maths.text.vocabulary import ALTERNATIVES, DENIALS, HEDGES
from rewards.maths.text.tokens import Tokens, closing, is_tuple, opening, plain_text, top_level
from rewards.maths.text.tokens import Token

DOMAINS = frozenset({"ZZ", "NN", "QQ", "RR", "CC"})
_PLAIN_DOMAINS = {"Z": "ZZ", "N": "NN", "Q": "QQ", "R": "RR"}
RELATIONS = frozenset({"=", "!=", "<", ">", "<=", ">=", "in", "notin", "~~", "equiv", "to", "iff"})
_BEFORE_ANSWER = frozenset({"so", "thus", "hence", "the", "my", "our", "final", "correct"})
LABELS = frozenset({"option", "choice", "answer"})
# Before a value these say that it is not the value meant, or not quite.
_TAKES_BACK_WORDS = (
    DENIALS
    | HEDGES
    | ALTERNATIVES
    | {word for word in NUMBER_WORDS if word != "one"}
    | {"twice", "double", "triple"}
)
_TAKES_BACK = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|greater|smaller|bigger|larger) than|(?:more|less)$|(?:upper|lower) bound"
    r"|close to|(?:half|square|negative|opposite|reciprocal) of (?:it|the answer))\b"
    r"|^(?:the )?(?:half|negative|minus|reciprocal|square of)$"
)
_SET_OF = re.compile(
    r"(?:the )?(?:set of )?(?:all )?(?:the )?(?:(positive|negative|(?:non|non - )(?:positive|negative|zero)) )?"
    r"(real|integer|natural|rational)s?(?: numbers?)?(?: [a-zA-Z])?(?: (?:except|excluding)(?: for)?)?"
)
_NUMBER_SETS = {"real": "", "integer": "ZZ", "natural": "NN", "rational": "QQ"}
_CONDITION_WORDS = frozenset({"for", "where", "with"})


def choice_letter(tokens: Tokens) -> str:
    """C in `option C`, `option (C)`, `C)`; else ''."""
    labelled = (
        bool(tokens) and tokens[0].kind in ("word", "run") and tokens[0].text.lower() in LABELS
    )
    texts = [
        token.text for token in tokens[labelled:] if token.text != "G"
    ]  # the bracket spoils the groups around it
    if labelled and texts[:1] == ["("]:
        texts = texts[1:]
    bracketed = texts[1:] == [")"]
    if (
        (not labelled and not bracketed)
        or len(texts) not in (1, 2)
        or (len(texts) == 2 and not bracketed)
    ):
        return ""
    return texts[0] if len(texts[0]) == 1 and texts[0].isalpha() else ""


def without_lead_in(tokens: Tokens) -> Tokens:
    """`The answer is 5` as 5, `all n > 3` as `n > 3`."""
    if len(tokens) > 3 and tokens[0].text.lower() in ("all", "any") and tokens[2].text in RELATIONS:
        return tokens[1:]
    words = []
    for token in tokens:
        if token.kind not in ("word", "run"):
            break
        words.append(token.text.lower())
    if "is" not in words or words.index("is") == len(tokens) - 1:
        return tokens
    at = words.index("is")
    return (
        tokens[at + 1 :]
        if words[at - 1 : at] == ["answer"] and {*words[: at - 1]} <= _BEFORE_ANSWER
        else tokens
    )


def takes_back(tokens: Tokens) -> bool:
    """Do the words of a label deny, doubt or bound what follows: `not`, `maybe`, `upper bound`,
    `half of it`?
    """
    text = plain_text(tokens)
    return not _TAKES_BACK_WORDS.isdisjoint(text.split()) or _TAKES_BACK.search(text) is not None


def described_set(tokens: Tokens) -> tuple[str, str, Tokens] | None:
    """`all positive integers`, `all real numbers except 3`: sign, number set, and what is left out;
    else None.
    """
    shown = (
        i
        for i, token in enumerate(tokens)
        if token.kind not in ("word", "run", "sym") and token.text != "-"
    )
    end = next(shown, len(tokens))
    match = _SET_OF.fullmatch(plain_text(tokens[:end]))
    if match is None or len(tokens) < 2 or ("exc" in match[0]) != (end < len(tokens)):
        return None
    return (match[1] or "").replace(" - ", ""), _NUMBER_SETS[match[2]], tokens[end:]


def numbered_statements(tokens: Tokens) -> list[int]:
    """1 and 4 in `(1)(4)`, which lists statements and is no product; else nothing."""
    numbers = [token.value for token in tokens[1::3]]
    alternate = [token.text for token in tokens[::3]], [token.text for token in tokens[2::3]]
    brackets = len(tokens) % 3 == 0 and {*alternate[0]} == {"("} and {*alternate[1]} == {")"}
    if (
        len(numbers) < 2
        or not brackets
        or not all(n is not None and n.denominator == 1 for n in numbers)
    ):
        return []
    statements = [int(n) for n in numbers if n is not None]
    return (
        statements
        if statements == sorted(set(statements)) and statements[0] > 0 and statements[-1] < 20
        else []
    )


def point_name(tokens: Tokens) -> int:
    """How many tokens the name of a point before its coordinates has, as in `A(1, 2)` or `F_1(0,
    3)`; C(4, 2) is a binomial.
    """
    if (
        not tokens
        or tokens[0].kind != "sym"
        or len(tokens[0].text) != 1
        or not tokens[0].text.isupper()
    ):
        return 0
    length = 3 if [token.text for token in tokens[1:2]] == ["_"] else 1
    if length == 3 and tokens[2:3] and tokens[2].text == "G":
        length = (closing(tokens, 2) or len(tokens)) + 1
    while tokens[length : length + 1] and tokens[length].text == "'":
        length += 1
    return 0 if length == 1 and tokens[0].text == "C" else length


def without_transpose(tokens: Tokens) -> Tokens:
    """`(1, 2)^T` as `(1, 2)`; nothing where no row is transposed."""
    texts = [token.text for token in tokens[-4:]]
    front = (
        tokens[:-4]
        if texts == ["^", "G", "T", "G"]
        else tokens[:-2]
        if texts[-2:] == ["^", "T"]
        else []
    )
    is_matrix = len(front) > 3 and front[0].text == "begin" and closing(front, 0) == len(front) - 2
    return front if is_matrix or is_tuple(front) else []


def split_modulus(tokens: Tokens, *, bare: bool) -> tuple[Tokens, Tokens]:
    """`3 (mod 7)` as 3 and 7; no modulus where there is none. Without brackets, `n mod 7` may also
    be a remainder: a modulus only if `bare`.
    """
    at = next(
        (
            i
            for i, token in enumerate(tokens)
            if token.text in ("mod", "pmod") and token.kind != "sym"
        ),
        None,
    )
    if at is None:
        return tokens, []
    front, modulus = tokens[:at], tokens[at + 1 :]
    if front and front[-1].text == "(" and modulus and modulus[-1].text == ")":
        return front[:-1], modulus[:-1]
    return (front, modulus) if tokens[at].text == "pmod" or bare else (tokens, [])


def number_set(tokens: Tokens) -> str:
    """The set of numbers that tokens name, `RR+` for the positive ones; else ''."""
    name = _PLAIN_DOMAINS.get(tokens[0].text, tokens[0].text) if tokens else ""
    rest = [token.text for token in tokens[1:] if token.text != "G"]
    rest = ["^", "+"] if rest == ["_", ">", "0"] else rest
    if name not in DOMAINS or (
        rest and (rest[0] not in ("^", "_") or not {*rest[1:]} <= {"+", "*", "-"})
    ):
        return ""
    if "+" in rest:
        return "NN" if name in ("ZZ", "NN") else name + "+"
    return name + "-" if "-" in rest else name


def number_set_at(tokens: Tokens, start: int) -> str:
    """The set of numbers that is named from `start` on."""
    end = start + 1
    if [token.text for token in tokens[end : end + 1]] in (["^"], ["_"]):
        end += 2
        if tokens[end - 1 : end] and tokens[end - 1].text == "G":
            end = (closing(tokens, end - 1) or end) + 1
    return number_set(tokens[start:end])


def domain_of(tokens: Tokens) -> str:
    r"""ZZ for `k \in \mathbb{Z}`, which says where k lives and is no further answer; else ''."""
    tokens = _integer_said(tokens)
    is_membership = len(tokens) > 2 and tokens[0].kind == "sym" and tokens[1].text == "in"
    return number_set(tokens[2:]) if is_membership else ""


def with_comma(tokens: Tokens) -> Tokens:
    r"""`k \pi (k \in Z)`, `k \pi for k \in Z` and `k \pi where k is an integer` as `k \pi, k \in
    Z`.
    """
    try:
        front, condition = _condition(tokens)
    except NotMathError:  # brackets that do not match
        return tokens
    while front and front[-1].text == ",":
        front = front[:-1]
    return [*front, Token(Kind.OP, ","), *condition] if front and condition else tokens


def _condition(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """What holds, and the condition that trails it."""
    tokens = _integer_said(tokens)
    opener = opening(tokens) if tokens and tokens[-1].text == ")" else -1
    if opener > 0:
        is_event = (
            tokens[opener - 1].kind == "sym" and tokens[opener - 1].text.isupper()
        )  # P(X > 4)
        if not is_event and _is_relation(tokens[opener + 1 : -1]):
            return tokens[:opener], tokens[opener + 1 : -1]
    level = top_level(tokens)[1:]
    words = (
        i
        for i in level
        if tokens[i].kind in ("word", "run") and tokens[i].text.lower() in _CONDITION_WORDS
    )
    first = next(words, None)
    if first is not None and _is_relation(tokens[first + 1 :]):
        return tokens[:first], tokens[first + 1 :]
    last = next((i for i in reversed(level[1:]) if tokens[i].text == "in"), None)
    if (
        last is not None
        and tokens[last - 1].spaced
        and tokens[last - 2].kind in ("num", "sym", "close")
    ):
        start = last - 1
        return (tokens[:start], tokens[start:]) if domain_of(tokens[start:]) else (tokens, [])
    return tokens, []


def _integer_said(tokens: Tokens) -> Tokens:
    r"""`k is an integer` as `k \in \mathbb{Z}`."""
    words = [token.text.lower() for token in tokens[-3:]]
    if len(tokens) > 3 and words[0] == "is" and words[1] in ("an", "any") and words[2] == "integer":
        return [*tokens[:-3], Token(Kind.OP, "in"), Token(Kind.SYM, "ZZ")]
    return tokens


def _is_relation(tokens: Tokens) -> bool:
    level = [tokens[i] for i in top_level(tokens)]
    several = any(token.text.lower() in ("or", "and") for token in level)
    return not several and any(token.kind == "op" and token.text in RELATIONS for token in level)


def without_quantifier(tokens: Tokens) -> Tokens:
    """`f(x) = x for all x` and `y = C e^x where C is a constant` without their ends, which say
    nothing new.
    """
    texts = [token.text for token in tokens]
    if texts[-1:] and texts[-1].lower() in ("constant", "constants") and "where" in texts:
        said = tokens[texts.index("where") :]
        are_names = all(token.kind in ("word", "run", "sym") or token.text == "," for token in said)
        return tokens[: texts.index("where")] if are_names and not takes_back(said) else tokens
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
        token
        for token in tokens[start:]
        if token.kind in ("num", "open", "close") or token.text in RELATIONS - {"in"}
    ]
    return tokens if rest or takes_back(tokens[start:]) else tokens[:start]


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
