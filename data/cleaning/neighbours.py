"""Near duplicates within a block: all pairs when the block is small, MinHash with LSH when it is large.

Blocks are rows that could be duplicates at all (same numbers, same answer), so nearly all of them are small
and are compared exactly. A large one would cost time quadratic in its size; there MinHash proposes
candidates, and each is checked exactly. With 25 bands of 5 rows a pair of similarity 0.8 is missed with
probability (1 - 0.8^5)^25 = 5e-5, one of 0.9 with 4e-10. Hash functions are seeded: the same rows give the
same candidates everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from data.cleaning.text import jaccard

ALL_PAIRS_ROWS = 512  # largest block that is compared pair by pair
_BANDS = 25
_ROWS_PER_BAND = 5
_SEED = 1
_DIGEST_ROWS = 8192  # rows hashed at a time: the library hands digests over as Python lists


def first_similar(
    block: Sequence[int], tokens: Sequence[frozenset[str]], threshold: float, all_pairs: int = ALL_PAIRS_ROWS
) -> dict[int, tuple[int, float]]:
    """For each row that repeats an earlier one: that row and their similarity.

    Args:
        block: positions in `tokens`, ascending.
        tokens: [N] token set of each row.
        threshold: least Jaccard similarity.
        all_pairs: blocks of more rows than this go through MinHash.

    Returns:
        repeats only; a row is compared with those that are themselves kept.
    """
    if len(block) < 2:
        return {}
    candidates = _earlier(block) if len(block) <= all_pairs else _minhash_earlier(block, tokens)
    repeats: dict[int, tuple[int, float]] = {}
    for i, earlier in candidates:
        for j in earlier:
            if j in repeats or min(len(tokens[i]), len(tokens[j])) < threshold * max(
                len(tokens[i]), len(tokens[j])
            ):
                continue
            similarity = jaccard(tokens[i], tokens[j])
            if similarity >= threshold:
                repeats[i] = (j, similarity)
                break
    return repeats


def _earlier(block: Sequence[int]) -> Iterable[tuple[int, Sequence[int]]]:
    return ((i, block[:n]) for n, i in enumerate(block))


def _minhash_earlier(
    block: Sequence[int], tokens: Sequence[frozenset[str]]
) -> Iterable[tuple[int, Sequence[int]]]:
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(_BANDS)]
    for start in range(0, len(block), _DIGEST_ROWS):
        rows = block[start : start + _DIGEST_ROWS]
        digests = _digests([tokens[i] for i in rows])
        for n, i in enumerate(rows):
            earlier: set[int] = set()
            for band, table in enumerate(buckets):
                same = table[digests[n, band].tobytes()]
                earlier.update(same)
                same.append(i)
            yield i, sorted(earlier)


def _digests(token_sets: Sequence[frozenset[str]]) -> np.ndarray:
    """[rows, bands, rows per band] uint32 MinHash values."""
    from rensa import RMinHash  # only large blocks need it

    matrix = RMinHash.digest_matrix_from_token_sets(
        [sorted(tokens) for tokens in token_sets], _BANDS * _ROWS_PER_BAND, _SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(token_sets), _BANDS, _ROWS_PER_BAND)
