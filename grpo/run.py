"""A run: a recipe becomes parts, and the parts become a loop that goes on whatever breaks.

Stages and commits are dealt with here, and signals and lost processes in `grpo.recovery`, so that
the loop of `grpo.trainer` is nothing but the algorithm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.command_line import say
from grpo.common.errors import StorageError, UserError
from grpo.common.faults import fault
from grpo.common.provenance import git_hash, versions
from grpo.common.signals import limit_grace
from grpo.config.schema import TrainConfig
from grpo.config.stages import named_recipes, needs_new_processes, stage_recipes
from grpo.inputs import Inputs, load_inputs
from grpo.parts import start_parts
from grpo.recovery import Resumable

if TYPE_CHECKING:
    from grpo.checkpoint.folder import Checkpoint
    from grpo.config.stages import Subset
    from grpo.rollout.journal import Journal
    from grpo.rollout.prompts import PromptStream
    from grpo.rollout.scoring import GroupScorer
    from grpo.state import Evaluations, TrainState
    from grpo.trainer import Parts
    from grpo.types import SamplingSettings


def run_training(recipe: str, config: TrainConfig, scorer: GroupScorer | None = None) -> Path:
    """Train as the recipe says and leave everything in its output folder, which is returned.

    Args:
        scorer: replaces the recipe's rewards; a control experiment uses that.

    Raises:
        UserError: a model, tokenizer, data set or cluster that cannot be used; found before any
            step.
        LostError: a process was lost more often than `health.max_restarts` allows.
        StorageError: the disk does not take checkpoints, the policy or the summary.
        Stopped: a signal ended the run, which the same command continues.
    """
    started = time.perf_counter()
    from grpo.checkpoint.resume import (
        is_finished,
        recorded_bytes,
        settings_hash,
        starting_point,
    )
    from grpo.tracking.folder import run_folder

    start = starting_point(config, say)
    if start is not None and is_finished(config, start, config.trainer.max_steps):
        return whole(start)
    with run_folder(config.output_dir, recipe, config.resume) as output_dir:
        inputs = load_inputs(config, say)
        from grpo.checkpoint.folder import Checkpoints
        from grpo.rollout.journal import Journal
        from grpo.tracking import open_run
        from grpo.tracking.chain import machine, note_process
        from grpo.tracking.record import cut_back
        from rewards import Scorer

        state = first_state(config, inputs, start)
        if start is not None:
            say(f"going on after step {state.step}, from {start.folder}")
        cut_back(output_dir, state.step, recorded_bytes(start, output_dir))
        checkpoints = Checkpoints(output_dir)
        if start is not None:
            named = state.pending and state.pending.restart_from
            checkpoints.adopt(start.folder.parent, {named or 0} | state.stages.may_need())
        limit_grace(config.checkpoint.grace_seconds)
        scoring = scorer or config.rewards.scorer()
        if isinstance(scoring, Scorer):
            scoring.start()  # a reward model that cannot be loaded ends the run here
        tree, steps = config.as_tree(), config.trainer.max_steps
        with (
            open_run(
                output_dir,
                tree,
                config.tracking,
                recipe,
                steps,
                git_hash(),
                state.step,
                goes_on=start is not None,
            ) as run,
            ExitStack() as processes,
        ):
            note_process(output_dir, state.step, machine(), settings_hash(config))
            journal = Journal(output_dir / "journal", settings_hash(config), run.notice)
            if start is not None and state.ahead is not None:  # by weights that nobody has any more
                journal.adopt(start.folder.parents[1], state.step + 1)
            training = Training(
                config=config,
                inputs=inputs,
                state=state,
                scorer=scoring,
                checkpoints=checkpoints,
                journal=journal,
                run=run,
                processes=processes,
            )
            final = training.to_the_end(start)
            run.status("saving the policy")
            with training.ending():
                learner = training.parts.learner
                sha256 = learner.save(str(output_dir / "policy"), inputs.model_folder)
                run.close(summary(training.state, final, time.perf_counter() - started, sha256))
    return output_dir


@dataclass(kw_only=True)
class Training(Resumable["Evaluations"]):
    """A run of `grpo train` at work."""

    config: TrainConfig
    inputs: Inputs
    state: TrainState
    scorer: GroupScorer
    journal: Journal
    settings: TrainConfig = field(init=False)  # the recipe as the stage at work has it
    parts: Parts = field(init=False)

    @property
    def step(self) -> int:
        """Updates done."""
        return self.state.step

    def attempt(self, start: Checkpoint | None) -> Evaluations:
        """Start the processes, and train to the end. Samples in the journal are not made again."""
        self.start_processes(stage_recipes(self.config)[self.state.stage], start)
        return self.train_stages()

    def train_stages(self) -> Evaluations:
        """Train from where `state` stands to the end of the last stage, and evaluate."""
        from grpo.trainer import evaluate_policy, train

        while True:
            train(self.settings, self.state, self.parts)
            if self.state.pending is None or self.state.pending.target is None:
                return evaluate_policy(self.settings, self.state, self.parts, whole=True)
            following = stage_recipes(self.config)[self.state.stages.current]
            if needs_new_processes(self.settings, following):
                self.run.status(f"starting the processes of stage {self.state.pending.target}")
                self.processes.close()
                self.start_processes(following, self.checkpoints.read(self.state.step))
            self.enter_stage(following)

    def start_processes(self, settings: TrainConfig, start: Checkpoint | None) -> None:
        """Engines and learner as a stage has them, with the weights of a checkpoint."""
        from grpo.checkpoint.commits import Commits
        from grpo.trainer import Parts

        self.settings = settings
        started = start_parts(
            settings,
            self.inputs,
            self.run.status,
            notice=self.run.notice,
            later=named_recipes(self.config),
            again=start is not None or self.commits is not None,
        )
        rollouts, learner = self.processes.enter_context(started)
        assert learner is not None
        if start is not None:
            learner.load_state(start.learner_folder)
        self.commits = Commits(self.checkpoints, learner.save_state, self.run.notice)
        self.parts = Parts(
            held_out=self.inputs.held_out,
            sampling=stage_sampling(self.inputs.sampling, settings),
            rollouts=rollouts,
            learner=learner,
            scorer=self.scorer,
            run=self.run,
            journal=self.journal,
            commit=self.commit,
        )

    def enter_stage(self, following: TrainConfig) -> None:
        """Make the switch that `state.pending` asks for. The step number goes on, and so does the
        data: each subset of the problems goes on where it was drawn from last.

        Raises:
            UserError: the checkpoint that the stage begins with is damaged.
        """
        from grpo.checkpoint.folder import DamagedError

        state, learner, switch = self.state, self.parts.learner, self.state.pending
        assert switch is not None
        if switch.restart_from is not None or switch.optimizer == "reset":
            step = state.step if switch.restart_from is None else switch.restart_from
            try:
                folder = self.checkpoints.read(step).learner_folder
            except DamagedError as error:
                raise UserError(
                    f"stages.{switch.target}.restart_from: {error}; restore it, or set "
                    "restart_from: last"
                ) from None
            learner.load_state(folder, with_moments=switch.optimizer == "keep")
            state.weight_version += 1  # a version is never used for other weights
        if switch.refresh_reference:
            learner.refresh_reference()
        old, state.stage = state.stage, state.stages.current
        left, drawn = stream_name(self.config, old), stream_name(self.config, state.stage)
        state.stream.begin_again(following.batch.num_samples)
        if left != drawn:
            before, state.stream = state.stream, stage_stream(self.config, self.inputs, state.stage)
            if drawn in state.cursors:
                state.stream.load_state_dict(state.cursors[drawn])
                state.stream.begin_again(following.batch.num_samples)
            state.cursors = {**state.cursors, left: before.state_dict()}
            # A rate is the policy's, whatever subset it was measured in.
            state.stream.update(before.curriculum.success)
        # A coefficient that follows a target begins anew where the stage says another one.
        then, now = stage_recipes(self.config)[old].algorithm, following.algorithm
        followed = {"kl_coef": "kl_target", "entropy_coef": "entropy_target"}
        state.coefficients = {
            name: value
            for name, value in state.coefficients.items()
            if all(getattr(then, key) == getattr(now, key) for key in (name, followed[name]))
        }
        state.best, state.pending = {}, None
        self.settings = following
        sampling = stage_sampling(self.inputs.sampling, following)
        self.parts = replace(self.parts, sampling=sampling)

    def commit(self, state: TrainState) -> None:
        """Take a finished step: write its checkpoint where one is due, and delete checkpoints and
        journals that nothing needs any more.

        Raises:
            StorageError: the disk has refused too many checkpoints in a row, or one with which a
                stage ends or a later one begins.
        """
        best, every = state.best.get("step", -1), self.config.checkpoint.every
        needed = {best} | state.stages.may_need()
        if state.pending is not None and state.pending.restart_from is not None:
            needed.add(state.pending.restart_from)  # the machine is in the new stage already
        due = bool(every) and state.step % every == 0
        last = state.pending is not None or state.step == self.config.trainer.max_steps
        tree = {**state.state_dict(), "metrics_bytes": self.run.position()}
        assert self.commits is not None
        written = self.commits.note(
            tree,
            due=due or last or state.step in needed,
            keep=self.config.checkpoint.keep,
            needed=needed,
        )
        if written:
            self.journal.prune(self.checkpoints.whole_steps()[0])
        elif state.pending is not None:
            raise StorageError(
                "a stage ends, and the disk does not take the checkpoint that the next one begins "
                f"with; make room in {self.run.output_dir}"
            )
        else:
            if state.forget_best():
                self.run.notice(
                    f"warning: step {state.step} was the best so far, and does not count, since "
                    "its checkpoint was not written; the best one before it stays"
                )
            if state.step in state.stages.may_need():
                raise StorageError(
                    f"a later stage begins with step {state.step}, and the disk does not take its "
                    f"checkpoint; make room in {self.run.output_dir}"
                )
        fault("driver.committed", step=state.step)

    def rewind(self) -> Checkpoint | None:
        """Put state and record back to `newest`, or to the beginning."""
        from grpo.checkpoint.resume import recorded_bytes
        from grpo.tracking.record import cut_back

        start = self.newest()
        self.state = first_state(self.config, self.inputs, start)
        run_dir = self.run.output_dir
        cut_back(run_dir, self.state.step, recorded_bytes(start, run_dir))
        return start


def whole(start: Checkpoint) -> Path:
    """The folder of a run that is over, which is all that its command has to do."""
    folder = start.folder.parents[1]
    say(
        f"{folder} holds the whole run of {start.step} steps; raise trainer.max_steps to go on, or "
        "set resume=fresh to begin again"
    )
    return folder


def first_state(config: TrainConfig, inputs: Inputs, start: Checkpoint | None) -> TrainState:
    """The state that a run begins with, or goes on from."""
    from grpo.config.stages import stage_plan
    from grpo.stages import Stage, StageMachine
    from grpo.state import TrainState

    plan = stage_plan(config) or [Stage(name="whole run")]
    machine = StageMachine(plan, config.checkpoint.every)
    stage = 0 if start is None else int(start.state["stage"])
    state = TrainState(stage_stream(config, inputs, stage), machine)
    if start is not None:
        state.load_state_dict(start.state)
    return state


def stage_sampling(sampling: SamplingSettings, stage: TrainConfig) -> SamplingSettings:
    """How training responses are sampled in a stage."""
    return replace(
        sampling,
        num_samples=stage.batch.num_samples,
        temperature=stage.sampling.temperature,
        max_tokens=stage.sampling.max_response_tokens,
        segment_tokens=stage.rollout.segment_tokens,
        prompts_in_flight=stage.rollout.prompts_in_flight,
    )


def stage_stream(config: TrainConfig, inputs: Inputs, stage: int) -> PromptStream:
    """The prompts of a stage, from their beginning.

    Raises:
        UserError: its subset has no problem.
    """
    from grpo.rollout.prompts import PromptStream

    subset, prompts = problems_of(config, stage), inputs.prompts
    if subset is not None:
        prompts = [p for p in prompts if subset.keeps(p.problem, len(p.token_ids))]
        if not prompts:
            raise UserError(
                f"stages.{config.stages[stage].name}.subset: none of the {len(inputs.prompts)} "
                "training problems passes it; widen it"
            )
    return PromptStream(config, prompts)


def problems_of(config: TrainConfig, stage: int) -> Subset | None:
    """Which training problems a stage draws; None: all."""
    return config.stages[stage].subset if config.stages else None


def stream_name(config: TrainConfig, stage: int) -> str:
    """The stream of problems that a stage draws from; stages with equal subsets share one."""
    subset = problems_of(config, stage)
    return "all" if subset is None else subset.model_dump_json()


def summary(
    state: TrainState, final: Evaluations, wall_seconds: float, weights_sha256: str
) -> dict[str, Any]:
    """What summary.json holds.

    Args:
        state: of the end of the run.
        final: its last evaluation.
        wall_seconds: of this process. A run that went on took longer.
        weights_sha256: of the policy.
    """
    return {
        "verdict": verdict(accuracy_gain(state.base["sampled"], final["sampled"])),
        "base": state.base,
        "final": final,
        "steps": state.step,
        "generated_tokens": state.generated_tokens,
        "wall_seconds": round(wall_seconds, 1),
        "weights_sha256": weights_sha256,
        "chain": state.chain,
        "versions": versions(),
    }


def accuracy_gain(base: Mapping[str, float], final: Mapping[str, float]) -> float:
    """From one evaluation to another, in accuracy or else in reward."""
    key = "accuracy" if "accuracy" in final else "reward"
    return final[key] - base[key]


def verdict(gain: float) -> str:
    """One word on the held-out gain of a run: `improved`, `unchanged` (within 0.05) or `worse`."""
    if abs(gain) <= 0.05:
        return "unchanged"
    return "improved" if gain > 0 else "worse"
