"""Faults that the owner of the data or of the recipe must mend; trying again cannot help."""

from __future__ import annotations

EXIT_BAD_DATA = 78  # EX_CONFIG: wrong configuration or wrong data, never worth a retry


class DataError(ValueError):
    """Wrong data or a wrong recipe. The message is complete: what is wrong, where, and what to do."""


class RowFault(ValueError):  # noqa: N818  (a fault of one row may be skipped; only a `DataError` stops a run)
    """One unusable row: the field at fault and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
