"""Everything that decides the future of a run, in one object that the loop hands over after each
step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from grpo.common.errors import UserError
from grpo.common.names import hint
from grpo.rollout.prompts import PromptStream
from grpo.stages import StageMachine, Switch

Evaluations = dict[str, dict[str, float]]  # metrics by way of sampling, `sampled` and `greedy`


@dataclass(slots=True)
class TrainState:
    """Where a run stands. The learning rate, all seeds and the schedule are functions of `step`.

    Weights and optimizer moments are partitioned over the learner's ranks and are not in here. A
    checkpoint is this state with them.
    """

    stream: PromptStream
    stages: StageMachine
    step: int = 0  # updates done
    weight_version: int = (
        0  # that the engines report; it is never reused, even when weights are rewound
    )
    stage: int = 0  # index of the stage whose settings are in force
    # A switch that the machine asked for and that has not been made. A run that was stopped at this
    # moment makes it when it goes on.
    pending: Switch | None = None
    # What was sampled one step ahead: the stream before its draws, and the weights that sampled it.
    # The samples themselves are in the journal.
    ahead: dict[str, Any] | None = None
    generated_tokens: int = 0
    bad_steps: int = 0  # in a row, up to now
    # Coefficients that a controller moved; those of the recipe until then.
    coefficients: dict[str, float] = field(default_factory=dict)
    base: Evaluations = field(default_factory=dict)  # of the weights that the run started from
    chain: str = ""  # hash of everything that the run has recorded; `grpo.tracking.chain`
    # Step and value of the best evaluation of this stage, by `checkpoint.best`.
    best: dict[str, Any] = field(default_factory=dict)
    # What `best` was before the last evaluation. Not saved: it counts until the step is committed.
    best_before: dict[str, Any] = field(default_factory=dict)
    # Where the streams stand that stages drew from, by `run.stream_name`, when they were left.
    cursors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "step": self.step,
            "weight_version": self.weight_version,
            "stage": self.stage,
            "stages": self.stages.state_dict(),
            "pending": None if self.pending is None else asdict(self.pending),
            "ahead": self.ahead,
            "generated_tokens": self.generated_tokens,
            "bad_steps": self.bad_steps,
            "coefficients": self.coefficients,
            "chain": self.chain,
            "base": self.base,
            "best": self.best,
            "stream": self.stream.state_dict(),
            "cursors": self.cursors,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood.

        Raises:
            ValueError: the data is not that of the saved state.
        """
        self.step, self.weight_version = int(state["step"]), int(state["weight_version"])
        self.stage, self.generated_tokens = int(state["stage"]), int(state["generated_tokens"])
        self.stages.load_state_dict(state["stages"])
        self.pending = None if state["pending"] is None else Switch(**state["pending"])
        self.ahead = state["ahead"]
        self.bad_steps = int(state["bad_steps"])
        self.coefficients = dict(state["coefficients"])
        self.chain = str(state.get("chain", ""))  # older checkpoints have none
        self.base, self.best = dict(state["base"]), dict(state["best"])
        self.stream.load_state_dict(state["stream"])
        self.cursors = dict(state.get("cursors", {}))  # older checkpoints have none

    def note_evaluation(self, evaluations: Evaluations, best: str) -> None:
        """Remember the best evaluation of the stage.

        Args:
            evaluations: of the present weights.
            best: the number that counts, such as `sampled/reward`.
        """
        value, self.best_before = best_value(evaluations, best), self.best
        if not self.best or value > self.best["value"]:
            self.best = {"step": self.step, "value": value}

    def forget_best(self) -> bool:
        """The checkpoint of this step was not written, so it is no best one: what was the best
        before it is so again.

        Returns:
            Was it the best one, for `checkpoint.best` or for a later stage?
        """
        was_best = self.best.get("step") == self.step
        if was_best:
            self.best = self.best_before
        return self.stages.forget_best(self.step) or was_best


def best_value(evaluations: Evaluations, best: str) -> float:
    """The number that makes an evaluation the best one.

    Raises:
        UserError: evaluations have no such number.
    """
    way, _, key = best.partition("/")
    if key not in evaluations.get(way, {}):
        known = [f"{name}/{one}" for name, found in evaluations.items() for one in found]
        raise UserError(
            f"checkpoint.best={best}: evaluations have no such number; {hint(best, known)}"
        )
    return evaluations[way][key]
