"""What a rank has, and how rank 0 makes `Rollouts` and a `Learner` of all of them."""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.torchrun.engine_process import EngineProcess
from grpo.runtime.torchrun.group import Group, Place, where
from grpo.types import (
    Advantage,
    Fingerprint,
    Measured,
    Response,
    SampleRequest,
    SamplingSettings,
    StepSettings,
    TrainSample,
    WeightReport,
)
from grpo.weights.wire import EngineCalls

POLL_SECONDS = 0.5  # an engine that has finished nothing answers after so long


class Rank:
    """A learner rank in this process, and its engine in another. All methods are calls that rank 0
    makes and sends.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.hashes_of_all: Callable[[dict[str, Any]], list[Any]] | None = None  # rank 0 only
        self._engine: EngineProcess | None = None

    # --- start ----------------------------------------------------------------------------------

    def sees(self, path: str) -> tuple[bool, str]:
        """Is this path here, and what is here?"""
        return Path(path).exists(), where()

    def launch_engine(self, spec: EngineSpec) -> None:
        """Begin to load the model in a process of its own."""
        name = f"the engine of rank {self.place.rank}"
        self._engine = EngineProcess(spec, name, self.place.engine_gpus)

    def engine_is_ready(self, seconds: float) -> bool:
        """Has it been loaded? Waits so long for it."""
        return self.engine.is_ready(seconds)

    @property
    def engine(self) -> EngineProcess:
        """The engine, once it has been launched."""
        assert self._engine is not None, "launch_engine() comes first"
        return self._engine

    def open_learner(self, spec: LearnerSpec, address: str) -> int:
        """On rank 0: the port at which the ranks of the learner meet. It is bound from now on."""
        self._make_learner(spec)
        return self.learner.rendezvous(address)

    def start_learner(self, spec: LearnerSpec, address: str, port: int) -> None:
        """Load this rank's part of the model; a collective."""
        if self.place.rank != 0:
            self._make_learner(spec)
        self.learner.start(address, port)

    def _make_learner(self, spec: LearnerSpec) -> None:
        from grpo.learner.worker import LearnerWorker

        os.environ.update(spec.environment())
        self.spec, self.learner = spec, LearnerWorker(spec, self.place.rank)

    def close(self) -> None:
        """End the engine."""
        gc.unfreeze()  # what the learner froze is let go of at the end of the interpreter
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # --- the engine -----------------------------------------------------------------------------

    def submit(
        self, shares: Sequence[Sequence[SampleRequest]], settings: SamplingSettings, seconds: float
    ) -> None:
        """Begin to generate this rank's share."""
        if share := shares[self.place.rank]:
            self.engine.call("submit", share, settings, seconds=seconds)

    def ask_engine(self, method: str, args: Sequence[Any], seconds: float) -> Any:
        """What the engine answers."""
        return self.engine.call(method, *args, seconds=seconds)

    # --- the learner: collectives ---------------------------------------------------------------

    def connect(self, num_workers: int) -> None:
        """Open a weight channel to the rank's own engine. Every rank sees each weight whole for a
        moment, so none has to travel to another machine.
        """
        client = OwnEngine(self.engine, self.spec.transfer_timeout_seconds, self.hashes_of_all)
        self.learner.connect(client, "127.0.0.1", num_workers, sends=True)

    def push_weights(self, version: int, check: bool) -> WeightReport | None:
        """Hand the current weights to the engine; rank 0 checks those of all."""
        return self.learner.push_weights(version, check and self.place.rank == 0)

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, measure: bool
    ) -> list[Measured] | None:
        """Plan a batch."""
        return self.learner.prepare(samples, settings, measure=measure)

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on it."""
        return self.learner.optimise(advantages, settings)

    def fingerprint(self, with_weights: bool) -> Fingerprint:
        """Gradient norms and hashes of the weights, by layer."""
        return self.learner.fingerprint(with_weights)

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples."""
        return self.learner.logprobs(samples, temperature)

    def save(self, folder: str, tokenizer_folder: str) -> str | None:
        """Write the policy."""
        return self.learner.save(folder, tokenizer_folder)

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        self.learner.refresh_reference()

    def save_state(self, folder: str) -> None:
        """Write this rank's weights and moments."""
        self.learner.save_state(folder)

    def load_state(self, folder: str, with_moments: bool) -> None:
        """Go on where `save_state` stood."""
        self.learner.load_state(folder, with_moments=with_moments)

    def partition_report(self) -> dict[str, float]:
        """What this rank holds of the model between steps."""
        return self.learner.partition_report()


class OwnEngine(EngineCalls):
    """vLLM's weight-transfer calls to the engine of a rank.

    Args:
        engine: of this rank.
        seconds: that a call may take.
        hashes_of_all: asks the engines of all ranks for what they compute with.
    """

    def __init__(
        self,
        engine: EngineProcess,
        seconds: float,
        hashes_of_all: Callable[[dict[str, Any]], list[Any]] | None,
    ) -> None:
        self.engine, self.seconds, self.hashes_of_all = engine, seconds, hashes_of_all

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meet the sender."""
        self.call("init_weight_transfer_engine", init_info)

    def call(self, method: str, *args: Any) -> list[Any]:
        """One call of the engine, within the deadline."""
        if method == "weight_hashes" and self.hashes_of_all is not None:
            return self.hashes_of_all(*args)
        return [self.engine.call(method, *args, seconds=self.seconds)]


class SpmdRollouts:
    """The engines of all ranks, as rank 0 uses them.

    A request goes to one rank when it is submitted and stays there. Those with the same prompt go
    to the same rank, whose engine computes the prompt once.

    Args:
        group, own: the ranks, and the one of this process.
        spec: of every engine.
        stall_seconds: without any response, with some in flight, are too many.
        hang_seconds: an engine that has not answered for so long is lost.
    """

    def __init__(
        self, group: Group, own: Rank, spec: EngineSpec, stall_seconds: float, hang_seconds: float
    ) -> None:
        self.group, self.own, self.spec = group, own, spec
        self.stall_seconds, self.hang_seconds = stall_seconds, hang_seconds
        self._rank_of: dict[int, int] = {}  # of what is in flight, by key
        own.hashes_of_all = lambda announced: self._ask("weight_hashes", announced)
        group.tell("launch_engine", spec)
        own.launch_engine(spec)

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all engines have loaded their model.

        Raises:
            StalledError: not all have in time.
        """
        deadline = time.monotonic() + timeout_seconds
        # Asked again and again, so that a signal is heard in between.
        ask = self.own.engine_is_ready, "engine_is_ready", 1.0
        while not all(ready := self.group.ask(*ask, seconds=60)):
            if time.monotonic() > deadline:
                late = [self.group.named(rank) for rank, done in enumerate(ready) if not done]
                raise self.group.stalled(
                    f"start of the engines (cluster.start_timeout_seconds): not ready in "
                    f"{timeout_seconds:g} s, that of {', '.join(late)}"
                )

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate."""
        busy = [0] * self.group.world_size
        for rank in self._rank_of.values():
            busy[rank] += 1
        shares = split(requests, busy)
        for rank, share in enumerate(shares):
            self._rank_of |= dict.fromkeys((request.key for request in share), rank)
        seconds = self.hang_seconds
        self.group.ask(self.own.submit, "submit", shares, settings, seconds, seconds=seconds)

    def completed(self) -> Iterator[list[Response]]:
        """Responses as they are finished, until nothing is in flight.

        Raises:
            StalledError: there was none for `stall_seconds`, or an engine does not answer.
            LostError: an engine has died.
        """
        last = time.monotonic()
        while self._rank_of:
            responses = [one for some in self._ask("completed", POLL_SECONDS) for one in some]
            for response in responses:
                del self._rank_of[response.key]
            if responses:
                last = time.monotonic()
                yield responses
            elif time.monotonic() - last > self.stall_seconds:
                busy = ", ".join(map(self.group.named, sorted(set(self._rank_of.values()))))
                raise self.group.stalled(
                    f"sampling, rollout.stall_timeout_seconds={self.stall_seconds:g}: no response "
                    f"was finished for so long, with {len(self._rank_of)} in flight on {busy}"
                )

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back."""
        chosen = None if keys is None else sorted(keys)
        partials = [one for some in self._ask("abort", chosen) for one in some]
        for response in partials:
            del self._rank_of[response.key]
        return partials

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by every engine."""
        return self._ask("prompt_logprobs", list(token_ids), temperature)

    def _ask(self, method: str, *args: Any) -> list[Any]:
        """What each engine answers, in the order of ranks."""
        seconds = self.hang_seconds
        ask = "ask_engine", method, list(args), seconds
        return self.group.ask(self.own.ask_engine, *ask, seconds=seconds + 10)

    def close(self) -> None:
        """Stop the engine of this rank. The others stop theirs when the run ends."""
        self.own.close()


def split(requests: Sequence[SampleRequest], busy: Sequence[int]) -> list[list[SampleRequest]]:
    """The share of each rank: groups of neighbours with the same prompt stay together, and each
    goes to the rank that has the fewest samples then.

    Args:
        requests: of a batch, group by group.
        busy: samples that each rank has in flight already.
    """
    shares: list[list[SampleRequest]] = [[] for _ in busy]
    load = list(busy)
    for _, group in groupby(requests, key=lambda request: request.prompt_token_ids):
        together = list(group)
        rank = load.index(min(load))
        shares[rank] += together
        load[rank] += len(together)
    return shares


class SpmdLearner:
    """The learner ranks of all processes, as rank 0 uses them. Every method is a collective.

    Args:
        group, own: the ranks, and the one of this process.
        spec: of every rank.
    """

    def __init__(self, group: Group, own: Rank, spec: LearnerSpec) -> None:
        self.group, self.own, self.spec = group, own, spec
        port = own.open_learner(spec, group.address)
        self._all("start_learner", spec, group.address, port)

    def _all(self, method: str, *args: Any) -> Any:
        return self.group.collective(getattr(self.own, method), method, *args)

    def connect(self, rollouts: SpmdRollouts) -> None:
        """Open the weight channel of every rank to its engine; an open one is closed first."""
        self._all("connect", rollouts.spec.num_workers)

    def push_weights(self, version: int, *, check: bool = False) -> WeightReport | None:
        """Hand the current weights to all engines."""
        report: WeightReport | None = self._all("push_weights", version, check)
        return report

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan a batch on all ranks."""
        found: list[Measured] | None = self._all("prepare", list(samples), settings, measure)
        return found

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch; metrics over all ranks."""
        found: dict[str, float] = self._all("optimise", list(advantages), settings)
        return found

    def fingerprint(self, *, with_weights: bool = True) -> Fingerprint:
        """Gradient norms of the last `optimise` and hashes of the weights, by layer."""
        found: Fingerprint = self._all("fingerprint", with_weights)
        return found

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples."""
        found: list[list[float]] = self._all("logprobs", list(samples), temperature)
        return found

    def save(self, folder: str, tokenizer_folder: str) -> str:
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights.

        Raises:
            OSError: the disk does not take it.
        """
        # As `save_state`: all ranks come out of it together.
        found = self.group.ask(self.own.save, "save", folder, tokenizer_folder, seconds=60)
        return str(found[0])

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        self._all("refresh_reference")

    def save_state(self, folder: str) -> None:
        """Write weights and moments into a folder that all ranks see.

        Raises:
            OSError: the disk of a rank does not take them. Training may go on.
        """
        # All ranks come out of this one together, whatever it has come to.
        self.group.ask(self.own.save_state, "save_state", folder, seconds=60)

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        """Go on where `save_state` stood."""
        self._all("load_state", folder, with_moments)

    def partition_reports(self) -> list[dict[str, float]]:
        """What each rank holds of the model between steps."""
        return self.group.ask(self.own.partition_report, "partition_report", seconds=60)

    def close(self) -> None:
        """Close the weight channel of this rank. The others close theirs when the run ends."""
        self.own.learner.disconnect()


def check_shared(group: Group, own: Rank, run_folder: Path, model_folder: str) -> None:
    """Every rank must see what rank 0 sees, which may be on another machine.

    Args:
        run_folder: the folder of the run, or one above it. Checkpoints are written there.
        model_folder: of the model that training begins with.

    Raises:
        UserError: names the setting, the folder and the machines that do not see it.
    """
    # An equal path proves nothing: every machine may have a folder of that name.
    token = run_folder / f".seen_by_all_{uuid.uuid4().hex}"
    token.touch()
    try:
        for setting, folder, path in (
            ("output_dir", run_folder, token),
            ("model.path", model_folder, Path(model_folder) / "config.json"),
        ):
            found = group.ask(own.sees, "sees", str(path), seconds=60)
            blind = [f"rank {i} on {host}" for i, (here, host) in enumerate(found) if not here]
            if blind:
                raise UserError(
                    f"{setting}: {folder} of rank 0 is not seen by {', '.join(blind)}; use a "
                    "folder on a file system that all machines share"
                )
    finally:
        token.unlink()
