"""The same pure function over many items, in order, in one process or several, with the same
results.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

_CHUNK_ITEMS = 512
_state: Any = None  # what a worker process was given at its start: sent once, not with every chunk


def map_ordered(
    function: Callable[[S, T], R], state: S, items: Sequence[T], workers: int
) -> Iterator[R]:
    """`function(state, item)` for every item, in the order of `items`.

    Args:
        function: a module-level function, deterministic.
        state: read-only data that all calls share.
        workers: processes; 1 works in this process.
    """
    if workers <= 1 or len(items) <= _CHUNK_ITEMS:
        for item in items:
            yield function(state, item)
        return
    # spawn: a forked child would inherit whatever threads and locks its parent happens to hold
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(state,)) as pool:
        chunks = (
            (function, items[i : i + _CHUNK_ITEMS]) for i in range(0, len(items), _CHUNK_ITEMS)
        )
        running = [pool.submit(_run, *chunk) for chunk in islice(chunks, 2 * workers)]
        while running:  # a bounded queue: a million items are not pickled at once
            results = running.pop(0).result()
            running.extend(pool.submit(_run, *chunk) for chunk in islice(chunks, 1))
            yield from results


def _start(state: Any) -> None:
    global _state
    _state = state


def _run(function: Callable[[Any, Any], Any], items: Sequence[Any]) -> list[Any]:
    return [function(_state, item) for item in items]
