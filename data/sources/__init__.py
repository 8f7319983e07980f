"""Sources in, validated problems out."""

from __future__ import annotations

from data.sources.loading import load
from data.sources.spec import (
    FileSource,
    HuggingFaceSource,
    MixSource,
    Source,
    read_source,
)

__all__ = ["FileSource", "HuggingFaceSource", "MixSource", "Source", "load", "read_source"]
