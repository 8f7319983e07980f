"""Answers in words: `The answer is 42.`, a heading with the value below it, `Aiden needs 42
apples.`

A statement is a pattern in English (and the Chinese 答案是), its context a few lists of words:
nothing here understands a sentence. All searches are linear in the length of the text.
"""

from __future__ import annotations

import re

MAX_STATEMENTS = 32  # more than this is a guess list
_MAX_STATEMENT = 400  # characters
_MAX_STATED = 50_000  # characters at the end of a text that are searched for statements
_MAX_BEFORE = 200  # characters before a statement that may take it back


def _any_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_NUMBER_WORD = _any_of("""
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million and
""")
_VERB = _any_of("""
is are was were has have had got get gets need needs needed make makes made save saves saved earn earns earned spend
spends spent pay pays paid cost costs sell sells sold buy buys bought receive receives received give gives gave take
takes took use uses used read reads run runs ran eat eats ate see sees saw score scores scored weighs travel travels
traveled drive drives drove walk walks walked owe owes owed equals total totals
""")
_NO_NOUN = _any_of("every each per by in on at for from with a an the left")
_CHANGING = _any_of("""
not no never or and but if unless when more less fewer least most than times about approximately around roughly
between half twice double plus minus except hundred thousand million billion dozen percent
""")

# Words end at an underscore as well, which may be emphasis: `_The answer is_ 42`. So no \b here.
_HEADING = (
    r"^[#>*_ \t]{0,12}(?:the )?(?:final )?answer[*_ \t]*\n\s*"
    # below it no list and no sentence
    r"(?!(?:\d+[.)]|[-+•])[ \t]+\S)(?=```|[*_`]*(?:[^\s\w*_`]|\d|\w+[*_`.]*\s*$))"
)
_LEAD_IN = (
    r"(?<![^\W_])(?:final |correct |right )?(?:answers?|option|choice)(?:\s+(?:to|for)\s[^.\n:]{0,80}?)?[*_]*"
    r"(?:,\s(?:then|therefore|thus|hence),)?\s*"
    r"(?:[:：=]|(?<![^\W_])(?:is|are|equals?|(?:would|must|should) be|(?:comes|turns) out to(?: be)?)"
    r"(?:\s+(?:therefore|thus|then|hence|simply|just|also|still|exactly|precisely|indeed|actually|clearly|obviously"
    r"|equal to|given by|the number|option|choice|letter)){0,3}(?![^\W_]))"
)
_STATED = re.compile(
    rf"(?:{_HEADING}|{_LEAD_IN}|答案(?:应该|應該|就)?(?:是|为|為|[:：])|故选[:：]?|故選[:：]?|####"
    r"|(?<!\w)(?:ответ|antwort|r[ée]ponse|respuesta|resposta|risposta|答え|정답|답)(?: (?:final|finale))?[*_]*\s?[:：]"
    r"|(?<!\w)(?:la |a |die |il )?(?:respuesta|resposta|risposta|antwort|r[ée]ponse)"
    r"(?: (?:final|finale))? (?:es|é|è|ist|est)(?!\w))[*_]*[:：]?\s*"
    r"(?:(?:the (?:value|result|total|sum)|there) (?:is|are)\s)?",
    re.IGNORECASE | re.MULTILINE,
)
_BLOCKS = (("\\[", "\\]"), ("$$", "$$"), ("```", "```"))
_END = re.compile(r"\n|\.(?=\s|$|\*\*|>>)|。|</|>>")
_BOLD = re.compile(r"(?<![\w)*])\*\*([^*]+)\*\*(?![\w*])")
# At the end of a response: one text in bold or code, or an escaped amount of money.
_EMPHASISED = re.compile(r"(?<![\w)*])\*\*(?=[^\s*])([^*]+)(?<!\s)\*\*(?![\w*])|`([^`]+)`")
_AMOUNT = re.compile(r"(?<!\d)\\\$(\d[\d,]*(?:\.\d+)?)(?![\d\\*/^+-])", re.ASCII)
_NO_CLOSING = re.compile(r"[ \t]*(?:[-*+•>|]|\d+[.)])[ \t]")  # an item of a list, a quotation
_SPELLED = re.compile(rf"\s\((?:that is, )?(?:{_NUMBER_WORD}[-\s]?)+\)\s*$", re.IGNORECASE)
_REASON = re.compile(
    r",?\s\(?(?:which|since|because|where|given|as)\s.*|,\s(?:not|rather than|instead of)\s.*"
    r"|,?\sand we(?: are|['’]re) done.*|,?\s\(?(?:choice|option) \(?[A-Z]\)?\)?$",
    re.DOTALL,
)
_LETTERED = re.compile(
    r"^\(?([A-Z])\)?(?:, |\s(?=\())\(?(-?[\d.,/]+|\$[^$]+\$)\)?$"
)  # `B, 42`, `B (42)`

_CLAUSE = re.compile(
    r"[.!?;:\n]|,(?!\s*that\b)|\b(?:so|thus|hence|therefore|then|and|but)\b", re.IGNORECASE
)
_DOUBT = re.compile(
    r"n['’]t\b|\b(?:not(?! (?:hard|difficult))|no way|nobody|never|neither|cannot|(?<!no )(?<!out )(?<!out a )doubt"
    r"|refuse|rule out|false|wrong(?:ly)?|incorrect(?:ly)?|mistaken?(?:ly)?|impossible|unlikely|possibly|perhaps|maybe"
    r"|might|(?:may|could) (?:be|think|guess)|whether|if|unless|suppose|assume|let['’]s say|hope|claims|guess at)\b"
    r"|\b(?:other|another|previous|sample)\s+$"  # another answer
    r"|^\W*(?:a |one )?possible\s+$"
    # of the answer
    r"|\b(?:of|for|on|than|half|twice|double|triple|digits in)\s+(?:(?:the|my|our|your|this)\s+)?$"
    r"|不|是否|如果|假设|可能|错误",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\W{0,20}\b(?:or|but|alternatively|actually|no(?=[.,:!]| wait)|correction|if not|the correct (?:value|result)"
    r"|it (?:could|may|might) also|(?:this|that|it) (?:is|was) (?:wrong|false|incorrect|not (?:right|correct|true)))\b",
    re.IGNORECASE,
)
_SECOND_THOUGHT = re.compile(
    r"[.!?\n]\W{0,4}(?:wait|hmm+|oops|scratch that|hold on)\b", re.IGNORECASE
)

_SENTENCE = re.compile(
    r"(?P<subject>[^\d$\\=]{1,120}?)\b(?:is|are|equals|got|get|obtained|found|has|have)\s+(?P<value>[^\n]{1,200})"
)
_COUNT = re.compile(
    rf"(?P<subject>[^\d$\\=]{{1,120}})\b(?:{_VERB}|[a-z]{{2,20}}ed(?: (?:up|out|off|away))?)\s+"
    rf"(?P<value>-?\$?\d+(?:,\d{{3}})*(?:\.\d+)?%?(?:\s(?!{_NO_NOUN}\b)[a-z]{{2,}})?)"
    r"(?P<rest>(?:,?\s(?:[A-Za-z][a-z'’-]+|a))*)"  # words only
)
_CHANGE = re.compile(rf"\b{_CHANGING}\b", re.IGNORECASE)


def statements(text: str) -> list[str]:
    """What is stated as the answer, in order; empty where the last statement is in doubt or taken
    back.

    Earlier ones that are in doubt (`Suppose the answer is 41.`) are no statements.
    """
    text = text[-_MAX_STATED:]
    found: list[str] = []
    stands, rest = True, 0
    for match in _STATED.finditer(text):
        start, end, rest = _extent(text, match.end())
        if _STATED.search(
            text, start, end
        ):  # `Final Answer: The final answer is 42.` is one statement
            continue
        before = text[max(0, match.start() - _MAX_BEFORE) : match.start()]
        stands = not _DOUBT.search(_CLAUSE.split(before)[-1])
        if stands:
            found.append(_value(text[start:end]))
        if len(found) > MAX_STATEMENTS:
            break
    return (
        found
        if stands and not _TAKEN_BACK.match(text, rest) and not _SECOND_THOUGHT.search(text, rest)
        else []
    )


def closing_value(text: str) -> str | None:
    """Clara of a last line `So **Clara** is the youngest.`: the one text that stands out there, in a
    response that states no answer otherwise.
    """
    text = text[-_MAX_STATED:].rstrip()
    line = text[text.rfind("\n") + 1 :]
    if len(line) > 2 * _MAX_STATEMENT or _NO_CLOSING.match(line) or _STATED.search(text):
        return None
    found = [*_EMPHASISED.finditer(line)] or [*_AMOUNT.finditer(line)]
    if len(found) != 1:
        return None
    [match] = found
    value = next(group for group in match.groups() if group).strip()
    before, after = line[: match.start()], line[match.end() :]
    if match[0][0] == "\\" and re.search(r"\d", before):
        return None
    if after[:1] == "%" or after[:2] == "\\%":
        value, after = value + r"\%", after.partition("%")[2]
    beside = _CLAUSE.split(before)[-1] + " # " + _CLAUSE.split(after)[0]
    doubted = _DOUBT.search(_CLAUSE.split(before)[-1]) or _DOUBT.search(after)
    if doubted or _CHANGE.search(beside) or _TAKEN_BACK.match(after) or value.endswith(":"):
        return None
    if re.search(r"[\d$=+*/^]", after) or _SECOND_THOUGHT.search(after):
        return None  # something is done to it
    return sentence_value(value) or _value(value)


def sentence_value(text: str) -> str | None:
    """The value that a tag's whole sentence gives: `42 apples` of `James has 42 apples left to
    sell.`
    """
    if len(text) > _MAX_STATEMENT:
        return None
    text = _REASON.sub("", text.strip().rstrip("."))
    count = _COUNT.fullmatch(text)
    if count and not _CHANGE.search(count["value"] + count["rest"]):
        return None if _DOUBT.search(count["subject"]) else count["value"]
    sentence = _SENTENCE.fullmatch(text)
    return sentence["value"] if sentence and not _DOUBT.search(sentence["subject"]) else None


def without_spelling(text: str) -> str:
    """`5 (five)` as 5."""
    return _SPELLED.sub("", text) if len(text) <= _MAX_STATEMENT else text


def _extent(text: str, start: int) -> tuple[int, int, int]:
    """Where what is stated from `start` on begins and ends, and where the text goes on: a block,
    else the rest of the sentence or line.
    """
    limit = start + _MAX_STATEMENT
    for opening, closing in _BLOCKS:
        inside = start + len(opening)
        if text.startswith(opening, start) and (end := text.find(closing, inside, limit)) > 0:
            return inside, end, end + len(closing)
    closed = _END.search(text, start, limit)
    end = closed.start() if closed else min(limit, len(text))
    return start, end, end


def _value(statement: str) -> str:
    """What is stated, without reasons and emphasis."""
    statement = without_spelling(_REASON.sub("", _BOLD.sub(r"\1", statement)))
    statement = statement.strip().strip("*_").strip()
    return _LETTERED.sub(r"(\1) \2", statement)
