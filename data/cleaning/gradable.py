# ruff: noqa: E501  (patterns and word lists read best when a case is one line)
"""Gradability: a problem is of use only when the grader can tell a right answer from a wrong one.

Two questions are asked. Is the answer of a kind that a rule can grade, or a proof, prose, several
parts, a drawing? And does the project's own grader take the gold for correct when a model answers
with exactly that? A gold that fails would punish every right answer.
"""

from __future__ import annotations

import re
from typing import ClassVar

from data.cleaning.base import Context, Dropped, Result, Stage
from data.cleaning.parallel import map_ordered
from data.types import Problem
from rewards import accuracy_reward
from rewards.maths import IN_PROCESS, is_set_of_numbers
from rewards.types import names_of

_ASKS_PROOF = re.compile(
    r"\b(?:prove|disprove)\b|\bshow\s+(?:\w+\s+){0,3}that\b|\b(?:give|write|provide)\s+an?\s+(?:\w+\s+)?proof\b"
    r"|\bruler\s+and\s+compass\b|\b(?:démontre[rz]|montre[rz]|prouve[rz])\b|证明|求证|證明"
    # as a request only: `to verify that` and `we deduce that` inside a sentence ask for nothing
    r"|(?:^|[.;:!?)$]\s+|\b(?:and|then|hence)\s+)(?:verify|demonstrate|deduce|establish|justify)\s+(?:\w+\s+){0,2}that\b"
    r"|(?:^|[.;:!?)$]\s+)explain\s+(?:why|how)\b",
    re.I,
)
# Words that ask for a value wherever they stand, but `we find that`; and questions, which end in a
# question mark.
# `the number of` or `the maximum` alone may as well be what the proof is about.
_ASKS_VALUE = re.compile(
    r"(?<!\bwe )(?<!\bcan )(?<!\bone )(?<!\bto )"
    r"\b(?:find|determine|comput(?:e|ing)|calculat(?:e|ing)|evaluate|simplify|solve|express)\b"
    r"|\bwhat(?:'s)?\b|\bhow (?:many|much|long|far|old|often)\b|\b(?:which|who|when|where)\b[^.?!]*\?|_{3,}|求(?!证)",
    re.I,
)
_PROOF_WORDS = re.compile(
    r"\b(?:proofs?|proved|proven|prove|q\.\s?e\.\s?d|qed|(?:we|to|will)\s+show|as (?:desired|required))\b"
    r"|\\(?:blacksquare|qed)\b",
    re.I,
)
_DRAWING = re.compile(
    r"\[asy\]|\\(?:includegraphics|begin\{(?:tabular|tikzpicture|picture|figure|verbatim)\})|https?://|<(?:img|table)"
)
_BRACE = re.compile(r"\\.|[{}]", re.S)
_ELIDED = re.compile(
    r"\\[lc]?dots[a-z]?(?![A-Za-z])|\.\.\.|…"
)  # 614.519..., or 1, 2, ..., 2008: what is left out?
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sc|normal)?|textnormal|mbox|hbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"
)
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
# a word stands between blanks or punctuation; `abc` of `abc+bcd` is a product
_WORD = re.compile(r"(?<![^\s.,:;!?\"'($])[A-Za-z][A-Za-z'’]*[A-Za-z](?![^\s.,:;!?\"')$])")
_NO_ANSWER = re.compile(
    "|".join(
        (
            r"[\s.?*_—–-]*|[A-Za-z]\s*=|!\[.*|n/?a|nan|null|tbd|todo|略|unknown|various|open[- ]ended|depends.*",
            r"(?:the )?(?:answer|solution|proof)s?:?|(?:(?:answer|solution|figure|proof)s? (?:is |are )?)?omitted",
            r"(?:please )?(?:see|refer to|cf\.?) .*|(?:as )?shown(?: .*)?|(?:the )?(?:figure|diagram|image)(?: \d+)?",
            r"(?:(?:answers?|solutions?|results?) )?(?:may |will |can )?var(?:y|ies)",
            r"not (?:given|provided|available)|no answer(?: given)?",
        )
    ),
    re.I | re.S,
)
# `(a) 5`, `b)7`, `1a) 3`, `[2] 5`, `Part (i): 3`, `Q1: 4`, `2. x`; but not the 1. of 1.5
_LABEL = r"([a-e]|i{1,3}|iv|v|[1-5])"
_PART = re.compile(
    rf"(?:^|(?<=[\s;,.:$]))[(\[]?(?:(?:part\s|question\s|q)\s*\(?{_LABEL}[).:]+\s*"
    rf"|\(?\d?{_LABEL}(?:\)[.:]*\s*|[.:]\s+)|(?<=\[){_LABEL}\]\s*)(?=\S)",
    re.I,
)
_NUMERALS = {ord("①") + k: f" ({k + 1}) " for k in range(20)} | {
    ord(first) + k: numeral
    for first in "Ⅰⅰ"
    for k, numeral in enumerate(("i", "ii", "iii", "iv", "v"))
}
_MARKDOWN = re.compile(r"\*\*|__|`")
_ITEMS = re.compile(r"\\item\b.*\\item\b", re.S)
_BRACKET = re.compile(r"\([^()]{4,}\)|\([^()]*,[^()]*\)")
_NAMED = re.compile(
    r"[A-Za-z]{3,}[A-Za-z ]*[:=]\s*[^,;:=]+[,;]\s*(?:and\s+)?[A-Za-z]{3,}[A-Za-z ]*[:=]"
)
_NAME_AND_VALUE = re.compile(
    r"\s*([A-Za-z]{3,}(?:\s+[A-Za-z]+)*)\s+\$?(?:[a-z]\s*=\s*)?-?[\d@]"
)  # `maximum 5`
_ORDINALS = re.compile(r"\b(?:first|part \w)\b.*\b(?:second|part \w)\b", re.I | re.S)
_BLOCKS = re.compile(r"\\\]\s*\\\[|\$\$\s*\n\s*\$\$|\n[ \t]*\n")  # formulas one below the other
# verbs and conjunctions of sentences; a value has none of them
_SENTENCE = re.compile(
    r"(?<![^\s.,:;(])(?:because|since|where|when(?:ever)?|such that|therefore|thus|hence|which|whose"
    r"|otherwise|provided|arbitrary|is|are|was|has|have|can(?:not)?|does|do|exists?|equals?|must)(?![^\s.,:;)])"
    r"|^\s*(?:it|he|she|they)\s+[a-z]{2}",
    re.I,
)
_LABELS = (("a", "b"), ("i", "ii"), ("1", "2"))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MATH_WORDS = _words(
    "and or mod sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max min gcd "
    "lcm det deg sqrt frac pi cdot times degrees degree pmod bmod base np"
)
_FUNCTIONS = _MATH_WORDS - {"max", "min"}  # of one number these two are the names of parts
_UNITS = _words(
    "square sq cubic cu per feet foot ft inch inches in yard yards yd mile miles mi mm cm dm km meter "
    "meters metre metres centimeter centimeters centimetre centimetres millimeter millimeters kilometer "
    "kilometers kilometre kilometres second seconds sec minute minutes mins hour hours hr hrs day days "
    "week weeks month months year years am pm noon gram grams kg kilogram kilograms mg ounce ounces oz "
    "pound pounds lb lbs ton tons liter liters litre litres ml gallon gallons quart quarts pint pints "
    "cup cups dollar dollars cent cents euro euros rupee rupees yuan pence percent percentage unit "
    "units radian radians mph kph newton newtons joule joules watt watts volt volts amp amps ohm ohms "
    "hertz hz kelvin celsius fahrenheit people persons students children boys girls men women books "
    "apples balls cards coins marbles points tickets pages times ways pieces steps games players eggs "
    "cookies flowers trees cars chickens degrees"
)
_SHORT_WORDS = _words("is no if we of to by be it as at on so")
_MAX_CHARACTERS = 500
# sentences that are answers, and said in these words only
_STANDARD = re.compile(
    r"(?:it )?(?:does not exist|is undefined|diverges|(?:cannot|can not|can't) be determined)|not enough information"
    r"|(?:there (?:is|are) )?(?:no (?:\w+ )?(?:solutions?|roots?)|infinitely many(?: solutions)?)",
    re.I,
)
_VERB = re.compile(r"\b(?:is|are|equals)\b")
_LEAD_IN = re.compile(
    r"^\W*(?:so|thus|hence|therefore)?,?\s*(?:the|our|my)?\s*(?:final |correct )?answer\s*(?:is|:)\s*",
    re.I,
)
_ARTICLE = re.compile(r"^\W*(?:the|an?)\s+(?=[A-Za-z]{2})", re.I)
_PROSE_WORDS = 3  # "no solution" can be graded as a text; three words of prose have too many equals


class Gradable(Stage):
    """Takes out proofs, prose, answers in parts, drawings, and golds that do not grade themselves
    as correct.
    """

    name: ClassVar[str] = "gradable"

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        kept: list[Problem] = []
        dropped: list[Dropped] = []
        tasks = [(p.question, p.answer, names_of(p.reward or "accuracy")) for p in problems]
        for problem, reason in zip(
            problems, map_ordered(_reason, None, tasks, context.workers), strict=True
        ):
            if reason is None:
                kept.append(problem)
            else:
                dropped.append(Dropped(problem=problem, stage=self.name, reason=reason))
        return Result(kept, dropped)


def why_not_gradable(question: str, answer: str) -> str | None:
    """The reason why this answer cannot be graded by rule, or None when it can."""
    if _is_proof(question, answer):
        return "proof"
    if _NO_ANSWER.fullmatch(_TEXT_COMMAND.sub(r"\1", answer).strip(" .$()[]")):
        return "no_answer"
    if _DRAWING.search(answer):
        return "not_an_expression"
    if not _braces_match(answer):
        return "broken_latex"
    if _ELIDED.search(answer):
        return "elided"
    if _has_parts(answer):
        return "multi_part"
    if _is_prose_text(answer):
        return "free_text"
    if len(answer) > _MAX_CHARACTERS:
        return "too_long"
    verdict = accuracy_reward(f"<answer>{answer}</answer>", answer)
    return None if verdict.score == 1.0 else f"gold_fails_grader: {verdict.reason}"


def _is_prose_text(answer: str) -> bool:
    plain = _LEAD_IN.sub("", _outside_commands(answer)).strip(" .$")
    if _STANDARD.fullmatch(plain) or (
        prose_words(plain) < _PROSE_WORDS and not _SENTENCE.search(plain)
    ):
        return False
    # "all real numbers" is an interval to the grader, and "the total is 5" is 5: no prose
    value = _VERB.split(plain)[-1].strip()
    is_stated = (
        prose_words(value) == 0 and accuracy_reward(rf"\boxed{{{value}}}", answer).score == 1
    )
    return not is_stated and not is_set_of_numbers(answer, IN_PROCESS)


def prose_words(answer: str) -> int:
    """Most words of ordinary language in one element of a comma list; units, variables and an
    article do not count.
    """
    elements = re.split(r"[,;]", _outside_commands(answer))
    return max(
        sum(map(_is_prose, _WORD.findall(_ARTICLE.sub("", element)))) for element in elements
    )


def _outside_commands(answer: str) -> str:
    return _COMMAND.sub(" ", _TEXT_COMMAND.sub(r" \1 ", answer))


def _is_prose(word: str) -> bool:
    word = word.lower()
    # two letters are mostly a product of variables
    return (
        word not in _MATH_WORDS and word not in _UNITS and (len(word) > 2 or word in _SHORT_WORDS)
    )


def _braces_match(answer: str) -> bool:
    depth = 0
    for brace in _BRACE.findall(answer):
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            return False
    return depth == 0


def _is_proof(question: str, answer: str) -> bool:
    if _PROOF_WORDS.search(answer):
        return True
    asks = _ASKS_PROOF.search(question)
    # "Show that f is linear and find its slope" asks for a value too
    return asks is not None and not _ASKS_VALUE.search(question)


def _has_parts(answer: str) -> bool:
    plain = _MARKDOWN.sub("", _TEXT_COMMAND.sub(r" \1 ", answer).translate(_NUMERALS))
    if (
        _BLOCKS.search(answer)
        or _ITEMS.search(answer)
        or _ORDINALS.search(_COMMAND.sub(" ", plain))
    ):
        return True
    # tuples and products such as (2, 1) or 3(x + 2) are values, and their brackets no labels
    plain = _BRACKET.sub(" @ ", plain)
    words = _COMMAND.sub(" ", plain)
    return _NAMED.search(words) is not None or _names_each_value(words) or _has_labels(plain)


def _names_each_value(answer: str) -> bool:
    """`maximum 5, minimum 2`: a list in which every value has a name of its own."""
    found = [_NAME_AND_VALUE.match(element) for element in re.split(r"[,;]|\band\b", answer)]
    names = [match[1].lower() for match in found if match]
    return len(found) == len(set(names)) > 1 and _FUNCTIONS.isdisjoint(names)


def _has_labels(answer: str) -> bool:
    found = list(_PART.finditer(answer))
    names = [(match[1] or match[2] or match[3]).lower() for match in found]
    for first, second in _LABELS:
        if first not in names or second not in names[names.index(first) + 1 :]:
            continue
        one, two = found[names.index(first)], found[len(names) - 1 - names[::-1].index(second)]
        between = answer[one.end() : two.start()].strip(" ,;.&$(")
        # "(1), (2)" names two statements; parts have a content of their own
        if between not in {"", "and"} and answer[two.end() :].strip(" ,;.)$"):
            return True
    return False


def _reason(_: None, task: tuple[str, str, tuple[str, ...]]) -> str | None:
    question, answer, rewards = task
    # A plan or a puzzle has a checker of its own, and its gold is no answer but the task. What a
    # model of preferences scores has no gold.
    return why_not_gradable(question, answer) if "accuracy" in rewards else None
