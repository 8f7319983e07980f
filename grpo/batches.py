"""Where the loop gets its batches: sampled when it asks, or one step ahead.

With `rollout.max_staleness=1` the batch of step k+1 is sampled while the learner works on step k.
New weights wait until it is finished, so every batch is of one version, and a run has the same
numbers however fast either side is: a step takes the longer of the two, and not the sum. What the
samples lose by being one version old is made up for by truncated importance sampling
(`algorithm.mismatch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from grpo.config.schema import TrainConfig
from grpo.rollout.batch_rules import Batch, fill_batch
from grpo.rollout.journal import Journal
from grpo.rollout.scoring import GroupScorer
from grpo.rollout.strategies import STRATEGIES
from grpo.runtime.protocols import Rollouts
from grpo.state import TrainState
from grpo.types import SamplingSettings


class Clock(Protocol):
    """Is told where the seconds of a step go."""

    def add(self, phase: str, seconds: float) -> None:
        """Seconds up to now."""

    def lap(self, phase: str) -> None:
        """Everything since the last call."""


class Batches:
    """The batches of a stage, in order.

    Args:
        config: the recipe, with the settings of the stage.
        state: of the run. `state.ahead` says how to make again what was sampled ahead.
        sampling: how responses are sampled.
        rollouts: the engines.
        scorer: of the run.
        journal: of finished responses.
        notice: told when samples came from the journal, and when it lacks some.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        sampling: SamplingSettings,
        rollouts: Rollouts,
        scorer: GroupScorer,
        journal: Journal,
        notice: Callable[[str], None],
    ) -> None:
        self.config, self.state, self.sampling = config, state, sampling
        self.rollouts, self.scorer, self.journal, self.notice = rollouts, scorer, journal, notice
        self._ahead: Future[Batch] | None = None
        self._thread = ThreadPoolExecutor(1, "sampling") if config.rollout.max_staleness else None

    def next(self, clock: Clock) -> Batch:
        """The batch of the next step."""
        step, version = self.state.step + 1, self.state.weight_version
        if self._ahead is not None:
            batch, self._ahead = self._ahead.result(), None
            clock.lap("sample")
        else:
            if self.state.ahead is not None:  # what a run sampled ahead before it was stopped
                self.state.stream.load_state_dict(self.state.ahead["stream"])
                version = self.state.ahead["version"]
            batch = self._sample(step, version)
            clock.add("sample", batch.sample_seconds)
            clock.add("score", batch.score_seconds)
        self.state.ahead = None
        return batch

    def begin_next(self) -> None:
        """Sample the batch after this one from now on, if that may be: one step ahead, and not
        beyond the end of the run.
        """
        step = self.state.step + 2
        if self._thread is None or step > self.config.trainer.max_steps:
            return
        version = self.state.weight_version
        self.state.ahead = {"stream": self.state.stream.state_dict(), "version": version}
        self._ahead = self._thread.submit(self._sample, step, version)

    def wait(self, clock: Clock) -> None:
        """Block until no engine works any more, so that new weights may come."""
        if self._ahead is not None:
            self._ahead.result()
            clock.lap("sample")

    def drop(self) -> None:
        """Give back what was sampled ahead: the stage ends, and the next one samples otherwise."""
        if self._ahead is not None:
            self._ahead.result()
            assert self.state.ahead is not None
            self.state.stream.load_state_dict(self.state.ahead["stream"])
        self._ahead = self.state.ahead = None

    def _sample(self, step: int, version: int) -> Batch:
        began = time.perf_counter()
        with self.journal.step(step, version, self.rollouts) as journaled:
            batch = fill_batch(
                self.config.batch,
                STRATEGIES[self.config.rollout.strategy],
                self.state.stream,
                self.sampling,
                step,
                journaled,
                self.scorer,
            )
        if journaled.num_replayed:
            self.notice(f"step {step}: {journaled.num_replayed} samples were there already")
        if journaled.num_made and version < self.state.weight_version:
            self.notice(
                f"warning: step {step}: {journaled.num_made} samples that weights {version} made "
                "ahead are not in the journal; the present weights made them again, with the same "
                "seeds"
            )
        batch.generate_seconds = time.perf_counter() - began
        return batch
