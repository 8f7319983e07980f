"""Words beside a value that take it back, doubt it or offer another one, whether they stand before
or after it.

rewards/statements.py has its own patterns: in a sentence it takes context to tell what such a word
belongs to.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DENIALS = _words(
    """
    not no never nope none neither nor cannot isn isnt wasn arent false wrong incorrect invalid untrue mistake mistaken
    rejected excluded eliminated except excluding impossible
    """
)
HEDGES = _words(
    """
    maybe perhaps possibly probably hopefully presumably supposedly might could doubt doubtful unlikely whether suppose
    assume guess guessed guesses guessing unsure uncertain unknown something anything approx approximately nearly almost
    roughly circa ish estimate estimated
    """
)
ALTERNATIVES = _words("or but instead rather either if unless otherwise alternatively else versus")
