"""Engines and learner ranks as Ray actors, behind the protocols `Rollouts` and `Learner`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from grpo.common.errors import StalledError
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.ray.cluster import Cluster, Role
from grpo.types import (
    Advantage,
    Measured,
    Response,
    SampleRequest,
    SamplingSettings,
    StepSettings,
    TrainSample,
    WeightReport,
)
from grpo.weights.wire import EngineCalls

# For CPU actors: large temporaries stay with the process, because handing them back to the system
# and faulting them in anew costs more than the arithmetic on them.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


def wait(calls: Any, seconds: float, phase: str) -> Any:
    """The results of remote calls, or an error that says which phase has stalled.

    Raises:
        StalledError: not all have answered in time.
    """
    try:
        return ray.get(calls, timeout=seconds)
    except GetTimeoutError:
        raise StalledError(f"{phase}: no answer for {seconds:g} s") from None


class RolloutPool:
    """All engines of a run.

    Requests wait here and not in the engines. An engine gets new ones as it finishes others, at
    most as many as it can run at once, so a fast engine takes work that a slow one would have had,
    down to the last request.
    """

    def __init__(self, cluster: Cluster, spec: EngineSpec, stall_seconds: float) -> None:
        from grpo.rollout.vllm.worker import RolloutWorker

        assert cluster.engines is not None, "the cluster was reserved without engines"
        actor = ray.remote(RolloutWorker)
        self.spec, self.stall_seconds = spec, stall_seconds
        self.engines = [
            actor.options(**_options(cluster, cluster.engines, i, spec.environment())).remote(spec)
            for i in range(cluster.engines.count)
        ]
        self._starting = [engine.start.remote() for engine in self.engines]
        self._queue: deque[tuple[SampleRequest, SamplingSettings]] = deque()
        self._running: list[set[int]] = [set() for _ in self.engines]  # keys, by engine
        self._polls: dict[Any, int] = {}  # one open question for each engine with work

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all engines have loaded their model."""
        wait(self._starting, timeout_seconds, "start of the engines")

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate."""
        self._queue.extend((request, settings) for request in requests)
        self._dispatch()

    def completed(self) -> Iterator[list[Response]]:
        """Responses as they are finished, until nothing is in flight.

        Raises:
            StalledError: no engine has finished a response for `stall_seconds`.
        """
        last = time.monotonic()
        while self._polls:
            ready, _ = ray.wait(list(self._polls), num_returns=1, timeout=self.stall_seconds)
            responses: list[Response] = []
            for poll in ready:
                engine = self._polls.pop(poll)
                finished = ray.get(poll)
                self._running[engine] -= {response.key for response in finished}
                responses += finished
            self._dispatch()
            if responses:
                last = time.monotonic()
                yield responses
            elif time.monotonic() - last >= self.stall_seconds:
                raise StalledError(
                    f"rollout.stall_timeout_seconds={self.stall_seconds:g}: no response was "
                    f"finished for so long, "
                    f"with {sum(map(len, self._running))} in flight"
                )

    def _dispatch(self) -> None:
        """Hand waiting requests to the engines with the fewest, and listen to all that
        have some.
        """
        shares: list[list[tuple[SampleRequest, SamplingSettings]]] = [[] for _ in self.engines]
        while self._queue:
            engine = min(range(len(self.engines)), key=lambda i: len(self._running[i]))
            if len(self._running[engine]) >= self.spec.max_num_seqs:
                break
            request, settings = self._queue.popleft()
            self._running[engine].add(request.key)
            shares[engine].append((request, settings))
        for engine, share in enumerate(shares):
            for settings in {id(s): s for _, s in share}.values():
                requests = [request for request, own in share if own is settings]
                self.engines[engine].submit.remote(requests, settings)
            if self._running[engine] and engine not in self._polls.values():
                self._polls[self.engines[engine].completed.remote()] = engine

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back; those that no engine had begun come back empty."""
        waiting = [r for r, _ in self._queue if keys is None or r.key in keys]
        taken = {request.key for request in waiting}
        self._queue = deque(item for item in self._queue if item[0].key not in taken)
        calls = [engine.abort.remote(keys) for engine in self.engines]
        partials = [r for found in wait(calls, self.stall_seconds, "abort") for r in found]
        for running in self._running:
            running -= {response.key for response in partials}
        return [
            *partials,
            *(Response(r.key, [], "", [], "abort", -1, r.seed) for r in waiting),
        ]

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by every engine."""
        calls = [engine.prompt_logprobs.remote(token_ids, temperature) for engine in self.engines]
        found: list[list[float]] = wait(calls, self.stall_seconds, "log-probs of a text")
        return found

    def close(self) -> None:
        """Stop the engines."""
        for engine in self.engines:
            ray.kill(engine)

    @property
    def num_workers(self) -> int:
        """Processes that hold weights."""
        return self.spec.num_workers * len(self.engines)

    def client(self, timeout_seconds: float) -> EngineFleet:
        """The engines' control calls, for the learner's rank 0."""
        return EngineFleet(self.engines, self.spec.num_workers, timeout_seconds)


class EngineFleet(EngineCalls):
    """The control calls of vLLM's weight transfer to all engines at once. Travels to the learner by
    pickle.
    """

    def __init__(self, engines: list[Any], workers_per_engine: int, timeout_seconds: float) -> None:
        self.engines, self.workers_per_engine = engines, workers_per_engine
        self.timeout_seconds = timeout_seconds

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Give every engine its own ranks in the transfer group."""
        first = init_info["rank_offset"]
        infos = [
            {**init_info, "rank_offset": first + i * self.workers_per_engine}
            for i in range(len(self.engines))
        ]
        calls = [
            engine.init_weight_transfer_engine.remote(info)
            for engine, info in zip(self.engines, infos, strict=True)
        ]
        wait(calls, self.timeout_seconds, "opening the weight channel")

    def call(self, method: str, *args: Any) -> list[Any]:
        """One call of every engine, within the deadline."""
        calls = [getattr(engine, method).remote(*args) for engine in self.engines]
        found: list[Any] = wait(calls, self.timeout_seconds, f"weight transfer, {method}")
        return found


class LearnerGroup:
    """All learner ranks. Every call reaches all of them; results are rank 0's."""

    def __init__(self, cluster: Cluster, spec: LearnerSpec, learn_seconds: float) -> None:
        from grpo.learner.worker import LearnerWorker

        assert cluster.ranks is not None, "the cluster was reserved without a learner"
        actor = ray.remote(LearnerWorker)
        self.cluster, self.spec, self.learn_seconds = cluster, spec, learn_seconds
        self.ranks = [
            actor.options(**_options(cluster, cluster.ranks, rank, spec.environment())).remote(
                spec, rank
            )
            for rank in range(spec.world_size)
        ]
        address, port = self._rendezvous()
        self._starting = [rank.start.remote(address, port) for rank in self.ranks]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all ranks hold their part of the model."""
        wait(self._starting, timeout_seconds, "start of the learner")

    def connect(self, rollouts: RolloutPool) -> None:
        """Open the weight channel to all engines; an open one is closed first."""
        address, port = self._rendezvous()
        client = rollouts.client(self.spec.transfer_timeout_seconds)
        self._all("connect", client, address, port, rollouts.num_workers)

    def push_weights(self, version: int, *, check: bool = False) -> WeightReport | None:
        """Hand the current weights to all engines, which from then on report `version`."""
        report: WeightReport | None = self._all("push_weights", version, check)[0]
        return report

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan a batch on all ranks."""
        calls = [
            rank.prepare.remote(batch, settings, measure=measure)
            for batch in [ray.put(list(samples))]
            for rank in self.ranks
        ]
        found: list[Measured] | None = wait(calls, self.learn_seconds, "preparing a batch")[0]
        return found

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch; metrics over all ranks."""
        found: dict[str, float] = self._all("optimise", ray.put(list(advantages)), settings)[0]
        return found

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples."""
        found: list[list[float]] = self._all("logprobs", list(samples), temperature)[0]
        return found

    def save(self, folder: str, tokenizer_folder: str) -> str:
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights."""
        return str(self._all("save", folder, tokenizer_folder)[0])

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        self._all("refresh_reference")

    def save_state(self, folder: str) -> None:
        """Write weights and moments into a folder that all ranks see."""
        self._all("save_state", folder)

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        """Go on where `save_state` stood."""
        self._all("load_state", folder, with_moments=with_moments)

    def partition_reports(self) -> list[dict[str, float]]:
        """What each rank holds of the model between steps."""
        return self._all("partition_report")

    def close(self) -> None:
        """Let go of the ranks."""
        for rank in self.ranks:
            ray.kill(rank)

    def _rendezvous(self) -> tuple[str, int]:
        call = self.ranks[0].rendezvous.remote()
        address, port = wait(call, self.learn_seconds, "meeting of the learner's ranks")
        return ("127.0.0.1" if self.cluster.local else address), port

    def _all(self, method: str, *args: Any, **named: Any) -> list[Any]:
        calls = [getattr(rank, method).remote(*args, **named) for rank in self.ranks]
        found: list[Any] = wait(calls, self.learn_seconds, f"learner, {method}")
        return found


def _options(
    cluster: Cluster, role: Role, index: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Ray options of one actor of a role: it takes the whole bundle of that index."""
    variables = environment if cluster.device == "cuda" else {**MALLOC, **environment}
    return {
        "num_cpus": role.bundle.get("CPU", 0),
        "num_gpus": role.bundle.get("GPU", 0),
        "runtime_env": {"env_vars": variables},
        "scheduling_strategy": PlacementGroupSchedulingStrategy(role.group, index),
    }
