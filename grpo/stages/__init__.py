"""The staged context scheduler: when a run goes on with other settings, and why."""

from grpo.stages.machine import END, Restart, Stage, StageMachine, Switch, retention_problems
from grpo.stages.triggers import TRIGGERS, Condition, History, Verdict, parse

__all__ = [
    "END",
    "TRIGGERS",
    "Condition",
    "History",
    "Restart",
    "Stage",
    "StageMachine",
    "Switch",
    "Verdict",
    "parse",
    "retention_problems",
]
