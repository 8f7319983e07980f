"""The state machine of a staged run. Fed with the metrics of every step, it says when to switch.

It is pure: no clock, no files, no random numbers. Two machines that were fed the same steps are in
the same state, and `state_dict` is all of it, so a run that is resumed inside a stage switches
where it would have switched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grpo.common.names import hint
from grpo.stages.triggers import TOKENS, Condition, History, together

END = "end"  # how a switch is written where the last stage's own condition ends the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The checkpoint whose weights a stage begins with."""

    kind: Literal["last", "best", "step"] = "last"
    step: int | None = None
    """`step` only. The stage before it stays at least until this step is done."""
    metric: str = "eval/sampled/reward"
    """`best` only. Its mean over `window` values up to a checkpoint decides. Earlier wins a tie."""
    window: int = 1
    mode: Literal["max", "min"] = "max"
    stage: str | None = None
    """`best` only. The stage whose checkpoints count. None: the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the run with settings of its own."""

    name: str
    until: Condition | None = None
    """When it ends. None: only the last stage, which goes on to the end of the run."""
    min_steps: int = 0
    """`until` is not asked before so many steps of the stage."""
    restart: Restart = Restart()
    optimizer: Literal["keep", "reset"] = "keep"
    """What becomes of the optimizer's moments when it begins."""
    refresh_reference: bool = False
    """The reference policy becomes the policy that the stage begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The stage `source` ended with `step`. The next step belongs to `target`."""

    step: int
    source: str
    target: str | None
    """None: the last stage's own condition held, and the run ends."""
    reason: str
    """The conditions that held, with their numbers."""
    restart_from: int | None = None
    """The step whose checkpoint the new stage begins with. None: the weights go on as they are."""
    optimizer: Literal["keep", "reset"] = "keep"
    refresh_reference: bool = False

    def __str__(self) -> str:
        target = END if self.target is None else self.target
        return f"step={self.step} from={self.source} to={target} reason={self.reason}"


class StageMachine:
    """Which stage a run is in.

    Args:
        stages: in order. All but the last have `until`.
        checkpoint_every: steps between checkpoints; 0: none. Only these steps can be the best by a
            metric that every step has. By a metric of an evaluation, every evaluated step can.

    Raises:
        ValueError: no stages, two of one name, a stage that never ends before another, or a
            restart from a stage that is not earlier; one problem a line.
    """

    def __init__(self, stages: Sequence[Stage], checkpoint_every: int = 1) -> None:
        problems = plan_problems(stages)
        if problems:
            raise ValueError("\n".join(problems))
        self.stages = tuple(stages)
        self.checkpoint_every = checkpoint_every
        self.finished = False
        self.current = 0  # index of the stage that the next step belongs to
        self._step = 0
        self._history = History()
        self._seen: set[str] = set()
        # The best checkpoint so far for each stage that restarts from one: [step, value]
        self._best: dict[str, tuple[int, float]] = {}
        self._best_before = self._best  # as it was before the last step

    @property
    def stage(self) -> Stage:
        """The stage that the next step belongs to."""
        return self.stages[self.current]

    @property
    def steps_in_stage(self) -> int:
        """Steps of the current stage that are done."""
        return self._history.steps

    def observe(self, step: int, metrics: Mapping[str, Any]) -> Switch | None:
        """Take in the metrics of one finished step.

        A metric that is absent, None, no number or not finite is not counted in its window.

        Args:
            step: of the run, larger than the one before.
            metrics: of this step, with those of an evaluation after it.

        Returns:
            The switch after this step, or None. The machine is in the new stage then.

        Raises:
            ValueError: the step was seen before, the run is over, or a metric that the stage looks
                at has not come once in as many steps as its window is long.
        """
        if self.finished or step <= self._step:
            raise ValueError(f"step {step} after step {self._step}, finished={self.finished}")
        self._step = step
        history, stage = self._history, self.stage
        history.steps += 1
        needs = self._needs()
        values = {
            key: float(value)
            for key, value in metrics.items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
        }
        self._seen.update(values)
        history.tokens += values.get(TOKENS, 0.0)
        for metric, window in needs.items():
            points = history.windows.setdefault(metric, [])
            if metric in values:
                points.append((step, values[metric]))
                del points[:-window]
            elif not points and history.steps >= window and not _is_evaluation(metric):
                raise ValueError(
                    f"stages: {stage.name} looks at the metric {metric!r}, which no step has; "
                    f"{hint(metric, self._seen)}"
                )
        self._note_best(step, values)
        return self._judge(step)

    def may_need(self) -> set[int]:
        """Steps that were done and whose checkpoints a later transition may still name.

        Asked after a step, it names that step where its checkpoint has to be written. Retention
        must spare all of them. A best one may still give way to a newer one.
        """
        waiting = self.stages[self.current + 1 :] if not self.finished else ()
        named = {s.restart.step for s in waiting if s.restart.step is not None}
        best = {self._best[s.name][0] for s in waiting if s.name in self._best}
        return {step for step in named if step <= self._step} | best

    def forget_best(self, step: int) -> bool:
        """The checkpoint of the step that was observed last could not be written, so no stage can
        restart from it. The best ones before it count again; their checkpoints are still there.

        Returns:
            Was it the best one for a later stage?
        """
        lost = [name for name, (best, _) in self._best.items() if best == step]
        for name in lost:
            del self._best[name]
            if name in self._best_before:
                self._best[name] = self._best_before[name]
        return bool(lost)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the future, as plain JSON."""
        history = self._history
        return {
            "stage": self.stage.name,
            "finished": self.finished,
            "step": self._step,
            "steps_in_stage": history.steps,
            "tokens_in_stage": history.tokens,
            "windows": {key: [list(p) for p in points] for key, points in history.windows.items()},
            "seen": sorted(self._seen),
            "best": {name: list(best) for name, best in self._best.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            ValueError: the plan has no stage of that name any more.
        """
        names = [stage.name for stage in self.stages]
        if state["stage"] not in names:
            raise ValueError(
                f"stages: the checkpoint is in stage {state['stage']!r}, which the recipe does not "
                f"have; {hint(state['stage'], names)}"
            )
        self.current = names.index(state["stage"])
        self.finished, self._step = state["finished"], state["step"]
        self._history = History(
            steps=state["steps_in_stage"],
            tokens=state["tokens_in_stage"],
            windows={
                key: [(step, value) for step, value in points]
                for key, points in state["windows"].items()
            },
        )
        self._seen = set(state["seen"])
        self._best = {name: (step, value) for name, (step, value) in state["best"].items()}

    def _needs(self) -> dict[str, int]:
        """Metrics that matter in the current stage, with the longest window of each."""
        until = self.stage.until
        best = ({r.metric: r.window} for _, r in self._best_of_current())
        return together([until.needs() if until else {}, *best])

    def _best_of_current(self) -> Iterator[tuple[str, Restart]]:
        """Later stages that restart from the best checkpoint of the current one."""
        for at in range(self.current + 1, len(self.stages)):
            restart = self.stages[at].restart
            source = restart.stage or self.stages[at - 1].name
            if restart.kind == "best" and source == self.stage.name:
                yield self.stages[at].name, restart

    def _note_best(self, step: int, values: Mapping[str, float]) -> None:
        self._best_before = dict(self._best)
        is_checkpoint = self.checkpoint_every > 0 and step % self.checkpoint_every == 0
        for name, restart in self._best_of_current():
            points = self._history.last(restart.metric, restart.window)
            if points is None or restart.metric not in values:
                continue
            if not (is_checkpoint or _is_evaluation(restart.metric)):
                continue
            value = sum(v for _, v in points) / len(points)
            old = self._best.get(name)
            better = old is None or (value > old[1] if restart.mode == "max" else value < old[1])
            if better:
                self._best[name] = (step, value)

    def _judge(self, step: int) -> Switch | None:
        stage, history = self.stage, self._history
        last = stage is self.stages[-1]
        following = Stage(name=END) if last else self.stages[self.current + 1]
        restart = following.restart
        if stage.until is None or history.steps < stage.min_steps or step < (restart.step or 0):
            return None
        verdict = stage.until.judge(history)
        if not verdict.holds:
            return None
        reason, restart_step = verdict.says, restart.step or step
        if restart.kind == "best" and following.name in self._best:
            restart_step, value = self._best[following.name]
            reason += f"; the best checkpoint is step {restart_step}, {restart.metric} {value:.4g}"
        elif restart.kind == "best":
            reason += f"; no checkpoint has {restart.window} values of {restart.metric}"
        if last:
            self.finished = True
        else:
            self.current += 1
            self._history = History()
        return Switch(
            step=step,
            source=stage.name,
            target=None if last else following.name,
            reason=reason,
            restart_from=restart_step if restart_step != step else None,
            optimizer=following.optimizer,
            refresh_reference=following.refresh_reference,
        )


def plan_problems(stages: Sequence[Stage]) -> list[str]:
    """What is wrong with the order of the stages and their restarts."""
    if not stages:
        return ["stages: empty"]
    names = [stage.name for stage in stages]
    problems = []
    for at, stage in enumerate(stages):
        where = f"stages.{at}"
        if names.index(stage.name) != at or stage.name == END:
            problems.append(f"{where}.name={stage.name}: the name is taken; choose another")
        if stage.until is None and at < len(stages) - 1:
            problems.append(
                f"{where}.until: missing; only the last stage may go on to the end of the run"
            )
        if at == 0 and stage.restart.kind != "last":
            problems.append(f"{where}.restart_from: nothing comes before the first stage")
        source = stage.restart.stage
        if source is not None and source not in names[:at]:
            problems.append(
                f"{where}.best.stage={source}: no earlier stage has this name; "
                f"{hint(source, names[:at])}"
            )
    return problems


def retention_problems(stages: Sequence[Stage], every: int) -> list[str]:
    """Restarts whose checkpoint would not be there.

    Checkpoints that `StageMachine.may_need` names are written and kept whatever the settings say.
    What remains is a best one by a metric that every step has, with no steps to choose from.

    Args:
        stages: the plan.
        every: steps between checkpoints; 0 writes none before the end.
    """
    return [
        f"stages.{at}.restart_from=best: checkpoint.every=0 leaves no step to choose by "
        f"{stage.restart.metric}; set checkpoint.every, or take a metric of eval/"
        for at, stage in enumerate(stages)
        if stage.restart.kind == "best" and not _is_evaluation(stage.restart.metric) and every == 0
    ]


def _is_evaluation(metric: str) -> bool:
    """Does the metric come now and then, with an evaluation?"""
    return metric.startswith("eval/")
