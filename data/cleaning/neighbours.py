"""Near duplicates within a block: all pairs when the block is small, MinHash with LSH when it is
large.

Blocks are rows that could be duplicates at all (same numbers, same answer), so nearly all of them
are small and are compared exactly. A large one would cost time quadratic in its size; there MinHash
proposes candidates, and each is checked exactly. With 25 bands of 5 rows a pair of similarity 0.8
is missed with probability (1 - 0.8^5)^25 = 5e-5, one of 0.9 with 4e-10. Hash functions are seeded:
the same rows give the same candidates everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from data.cleaning.text import jaccard

ALL_PAIRS_ROWS = 512  # largest block that is compared pair by pair
_BANDS = 25
_ROWS_PER_BAND = 5
_SEED = 1
_DIGEST_ROWS = 8192  # rows hashed at a time: the library hands digests over as Python lists


def first_similar(
    tokens: Sequence[frozenset[str]], threshold: float, all_pairs: int = ALL_PAIRS_ROWS
) -> dict[int, tuple[int, float]]:
    """For each repeat of an earlier row: that row, and their similarity. Nothing is compared with a
    repeat.

    Args:
        tokens: [N] token set of each row of one block.
        threshold: least Jaccard similarity.
        all_pairs: blocks of more rows than this go through MinHash.
    """
    finder = _AllPairs() if len(tokens) <= all_pairs else _MinHash(tokens)
    repeats: dict[int, tuple[int, float]] = {}
    for i, own in enumerate(tokens):
        for j in finder.candidates(i):
            smaller, larger = sorted((len(own), len(tokens[j])))
            if (
                smaller >= threshold * larger
                and (similarity := jaccard(own, tokens[j])) >= threshold
            ):
                repeats[i] = (j, similarity)
                break
        else:
            finder.add(i)
    return repeats


class _AllPairs:
    """Every row is a candidate."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def candidates(self, row: int) -> Sequence[int]:
        return self.rows

    def add(self, row: int) -> None:
        self.rows.append(row)


class _MinHash:
    """Rows that agree in at least one band of their MinHash values are candidates."""

    def __init__(self, tokens: Sequence[frozenset[str]]) -> None:
        self.digests = np.concatenate(
            [_digests(tokens[i : i + _DIGEST_ROWS]) for i in range(0, len(tokens), _DIGEST_ROWS)]
        )
        self.buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(_BANDS)]

    def candidates(self, row: int) -> Sequence[int]:
        found: set[int] = set()
        for bucket, band in zip(self.buckets, self.digests[row], strict=True):
            found.update(bucket.get(band.tobytes(), ()))
        return sorted(found)

    def add(self, row: int) -> None:
        for bucket, band in zip(self.buckets, self.digests[row], strict=True):
            bucket[band.tobytes()].append(row)


def _digests(token_sets: Sequence[frozenset[str]]) -> np.ndarray:
    """[rows, bands, rows per band] uint32 MinHash values."""
    from rensa import RMinHash  # only large blocks need it

    matrix = RMinHash.digest_matrix_from_token_sets(
        [sorted(tokens) for tokens in token_sets], _BANDS * _ROWS_PER_BAND, _SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(
        len(token_sets), _BANDS, _ROWS_PER_BAND
    )
