"""Environments of processes that a runtime starts."""

from __future__ import annotations

# For processes on CPU: large temporaries stay with the process, because handing them back to the
# system and faulting them in anew costs more than the arithmetic on them.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}
