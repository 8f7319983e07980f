"""Probes: functions that look at the responses of an evaluation and measure behaviour.

A recipe names them in `evaluation.probes`. Their numbers are recorded beside accuracy, under their
own names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grpo.common.names import Registry
from grpo.types import ScoredGroup

Probe = Callable[[Sequence[ScoredGroup]], dict[str, float]]
PROBES: Registry[Probe] = Registry("probe")
