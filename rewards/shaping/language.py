"""Language consistency (DeepSeek-R1, section 2.3.2): the share of the thought's words in the target
language.

What is a word: a run of letters of one alphabet (Latin, Cyrillic, Greek, Arabic, Hebrew,
Devanagari, Hangul), apostrophes and hyphens inside it included, or one character of a script
without blanks (Han, kana, Thai).

What is neutral, counted neither above nor below the line: mathematics (`$...$`, `\\(...\\)`,
`\\[...\\]`, environments, commands), code (fences, backticks), links, tags, digits, single letters,
names with digits or underscores in them, function names (sin, mod), and short names in capitals
(ABC).

What language a word is in: its script says so, but for two cases. Han characters are Japanese in a
sentence that has kana, else Chinese. A Latin sentence belongs to the language that has most of its
function words in it; on a tie, and without any, to the target if that is written in Latin letters,
else to English.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from rewards.registry import register
from rewards.types import Reward, Sample

# A character of a name. Scripts without blanks are left out: the 3 of 共有3个 makes no name of it.
_OF_NAME = r"[^\W぀-ヿ㐀-䶿一-鿿฀-๿]"
_NEUTRAL = re.compile(
    r"`[^`\n]{1,500}`|\$[^$\n]{1,2000}\$|\\[A-Za-z]+|https?://\S+|</?[a-z_]{1,20}>"
    rf"|(?<!{_OF_NAME}){_OF_NAME}*[\d_]{_OF_NAME}*",
)
_NEUTRAL_BLOCKS = (
    ("```", "```"),
    ("$$", "$$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("\\begin{", "\\end{"),
)
_SCRIPTS: dict[str, str] = {
    "latin": "A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ",
    "cyrillic": "Ѐ-ӿ",
    "greek": "Ͱ-Ͽἀ-῿",
    "arabic": "؀-ٟٮ-ۯۺ-ۿ",
    "hebrew": "֐-׿",
    "devanagari": "ऀ-ॿ",
    "hangul": "가-힣ᄀ-ᇿ",
    "han": "一-鿿㐀-䶿",
    "kana": "぀-ヿ",
    "thai": "฀-๿",
}
_CHARACTER_SCRIPTS = frozenset({"han", "kana", "thai"})


def _word_pattern(script: str, letters: str) -> str:
    """One character, or a run with apostrophes and hyphens inside."""
    run = "" if script in _CHARACTER_SCRIPTS else f"(?:[{letters}]|[’'-](?=[{letters}]))*"
    return f"(?P<{script}>[{letters}]{run})"


_WORD = re.compile("|".join(_word_pattern(script, letters) for script, letters in _SCRIPTS.items()))
_SENTENCE = re.compile(r"[.!?。！？；\n]+")
_SCRIPT_LANGUAGES = {
    "cyrillic": "ru", "greek": "el", "arabic": "ar", "hebrew": "he",
    "devanagari": "hi", "hangul": "ko", "kana": "ja", "thai": "th",
}  # fmt: skip
_FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to is that it for as with be this are so we not then have which if can "
        "but let by from thus what first now need there they should would will wait hence since "
        "must i you he she was or at an on in",
        "de": "der die das und ist nicht ein eine wir dass mit für von zu den dem auf es sich also "
        "wenn dann aber oder auch sind wird haben kann im als an bei nach aus zuerst jetzt",
        "fr": "le la les et est que une des nous pour dans pas qui sur avec donc ce cette si alors "
        "mais ou il elle sont on du au en par plus peut être d'abord maintenant un de",
        "es": "el la los las y es que una de en por para con no se entonces pero si lo como más "
        "son está hay su al del podemos tenemos primero ahora un esto este",
        "it": "il la lo gli le e è che una di in per con non si allora ma se come più sono sta "
        "questo del della quindi dobbiamo abbiamo prima adesso un al",
        "pt": "o a os as e é que uma de em por para com não se então mas como mais são está isso "
        "do da dos temos podemos primeiro agora um ao na no",
    }.items()
}
_NEUTRAL_WORDS = frozenset(
    (  # noqa: SIM905  # a list of 36 quoted words is no easier to read
        "sin cos tan cot sec csc log ln exp mod gcd lcm max min det lim sqrt arcsin arccos arctan "
        "pi theta alpha beta cm mm km kg ml kwh rad"
    ).split()
)
_MAX_CHARS = 400_000  # of a thought; the rest is not read

Language = Literal[
    "en",
    "zh",
    "ja",
    "ko",
    "ru",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "el",
    "ar",
    "he",
    "hi",
    "th",
    "question",
]
LANGUAGES = frozenset({*_FUNCTION_WORDS, *_SCRIPT_LANGUAGES.values(), "zh"})


@register("language_consistency", bounded=True)
def language_consistency(
    sample: Sample, target: Language = "question", scope: Literal["thought", "response"] = "thought"
) -> Reward:
    """Words of the thought in the target language / all its words; 0 for a thought without words.

    Args:
        target: a language code, or the language that most words of the question are in.
        scope: `response` counts the answer's words too.

    Raises:
        ValueError: no such language.
    """
    if target != "question" and target not in LANGUAGES:
        raise ValueError(
            f"rewards.components.language_consistency.target={target!r}: use question or one of "
            f"{', '.join(sorted(LANGUAGES))}"
        )
    wanted = question_language(sample.question) if target == "question" else target
    text = thought(sample) if scope == "thought" else sample.response
    counts = count_words(text, wanted)
    total = sum(counts.values())
    if total == 0:
        return Reward(0.0, "no_words", {"target": wanted})
    share = counts[wanted] / total
    return Reward(
        share, "consistent" if share == 1 else "mixed", {"target": wanted, "words": dict(counts)}
    )


def thought(sample: Sample) -> str:
    """The text up to the last `</think>` (to the end where the thought is open); all of it where
    there are no tags.
    """
    before, closed, _ = sample.response.rpartition("</think>")
    text = before if closed else sample.response
    return text.partition("<think>")[2] if "<think>" in text else text


def share_of_words(text: str, question: str) -> float | None:
    """Share of a text's words that are in the language of the question; None without words."""
    wanted = question_language(question)
    counts = count_words(text, wanted)
    return counts[wanted] / counts.total() if counts else None


def question_language(question: str) -> str:
    """The language most of the question's words are in; English for a question without words."""
    counts = count_words(question, "en")
    return counts.most_common(1)[0][0] if counts else "en"


def count_words(text: str, target: str) -> Counter[str]:
    """Words of each language in a text; neutral ones are left out."""
    counts: Counter[str] = Counter()
    for sentence in _SENTENCE.split(_without_neutral(text[:_MAX_CHARS])):
        by_script: dict[str, list[str]] = {}
        for match in _WORD.finditer(sentence):
            by_script.setdefault(str(match.lastgroup), []).append(match[0])
        for script, words in by_script.items():
            if script == "latin":
                words = [word for word in words if not _is_name(word)]
                language = _latin_language(words, target)
            elif script == "han":
                language = "ja" if "kana" in by_script else "zh"
            else:
                language = _SCRIPT_LANGUAGES[script]
            if words:
                counts[language] += len(words)
    return counts


def _without_neutral(text: str) -> str:
    """The text without mathematics, code and names; linear also where blocks are not closed."""
    for opening, closing in _NEUTRAL_BLOCKS:
        kept, position = [], 0
        while (start := text.find(opening, position)) >= 0:
            end = text.find(closing, start + len(opening))
            if end < 0:
                break
            kept.append(text[position:start])
            position = end + len(closing)
        text = " ".join([*kept, text[position:]])
    return _NEUTRAL.sub(" ", text)


def _is_name(word: str) -> bool:
    """Variables, function names, units and points are written alike in all languages."""
    return len(word) == 1 or (word.isupper() and len(word) <= 3) or word.lower() in _NEUTRAL_WORDS


def _latin_language(words: list[str], target: str) -> str:
    default = target if target in _FUNCTION_WORDS else "en"
    votes = {
        language: sum(word.lower() in known for word in words)
        for language, known in _FUNCTION_WORDS.items()
    }
    best = max(votes.values())
    return default if votes[default] == best else max(votes, key=lambda language: votes[language])
