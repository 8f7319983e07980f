"""All engines of a run as Ray actors, behind the protocol `Rollouts`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from grpo.common.errors import LostError
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.ray.calls import Life, Process, first_line, wait, with_place
from grpo.runtime.ray.cluster import Cluster, actor_options, check_folders
from grpo.types import Response, SampleRequest, SamplingSettings
from grpo.weights.wire import EngineCalls


@dataclass(slots=True, eq=False)
class _Engine:
    """One engine of the pool."""

    process: Process  # its number is that of its bundle
    starting: Any  # becomes ready when it has loaded the model
    life: Any  # an open call without an answer, which fails as soon as the process dies
    joined: bool = False  # has a place in the weight channel, and so the current weights
    # What it works on, by key.
    running: dict[int, tuple[SampleRequest, SamplingSettings]] = field(default_factory=dict)
    poll: Any = None  # the open question for finished responses
    heard: float = 0.0  # when it last answered, by the monotonic clock
    finished: float = 0.0  # when it last finished a response, or began

    @property
    def actor(self) -> Any:
        """As Ray knows it."""
        return self.process.actor

    def __str__(self) -> str:
        return str(self.process)


class RolloutPool:
    """All engines of a run.

    Requests wait here and not in the engines. An engine gets new ones as it finishes others, at
    most as many as it can run at once, so a fast engine takes work that a slow one would have had,
    down to the last request.

    An engine that dies or hangs is replaced, whether it works or not. What it had not finished goes
    to the others, with the same seeds. The new one joins at the next weight sync, or at once where
    no other is left: a sync in between would make the others compute their caches again, and so
    change last bits.

    Args:
        stall_seconds: an engine that has finished nothing for so long is replaced, once.
        hang_seconds: one that has not answered for so long is.
        notice: told of every loss.
    """

    def __init__(
        self,
        cluster: Cluster,
        spec: EngineSpec,
        stall_seconds: float,
        hang_seconds: float,
        notice: Callable[[str], None],
    ) -> None:
        from grpo.rollout.vllm.worker import RolloutWorker

        role = cluster.engines or cluster.pairs
        assert role is not None, "the cluster was reserved without engines"
        self.cluster, self.role, self.spec = cluster, role, spec
        self.stall_seconds, self.hang_seconds, self.notice = stall_seconds, hang_seconds, notice
        self.feed: Callable[[], object] | None = None  # brings the current weights; the learner's
        self._class = with_place(RolloutWorker, Life)
        self._start_seconds = 600.0
        if not cluster.local:
            check_folders(self.role.nodes, spec.model_folder, [])
        self._engines = [self._start(i) for i in range(self.role.unit.count)]
        self._changed = False  # since the weight channel was opened
        self._losses = 0  # since a response was finished
        # With batches that are sampled ahead, a thread waits for engines that another one closes.
        self._lock, self._closed = threading.Lock(), False
        self._queue: deque[tuple[SampleRequest, SamplingSettings]] = deque()

    def _start(self, index: int) -> _Engine:
        environment = self.spec.environment()
        actor = self._class.options(
            **actor_options(self.cluster, self.role, index, environment)
        ).remote(self.spec)
        process = Process.of("engine", index, self.role.nodes[index].address, actor)
        self.cluster.processes.add(process)
        return _Engine(process, actor.start.remote(), actor.life.remote())

    @property
    def engines(self) -> list[Process]:
        """Those that have the current weights."""
        return [engine.process for engine in self._engines if engine.joined]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all engines have loaded their model.

        Raises:
            StalledError: not all have, in time.
            LostError: one has died.
            RuntimeError: one of them cannot; its message has the cause.
        """
        self._start_seconds = timeout_seconds
        self._wait_until_started()
        for engine in self._engines:
            engine.joined = True

    def _wait_until_started(self) -> None:
        starting = [engine.starting for engine in self._engines]
        processes = [engine.process for engine in self._engines]
        self.cluster.processes.started(starting, processes, self._start_seconds)

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate."""
        self._queue.extend((request, settings) for request in requests)
        self._dispatch()

    def completed(self) -> Iterator[list[Response]]:
        """Responses as they are finished, until nothing is in flight.

        Raises:
            StalledError: the engines have finished no response for `stall_seconds`, twice.
            LostError: engines die faster than they finish anything.
        """
        stalled: list[str] = []
        while self._queue or any(engine.running for engine in self._engines):
            with self._lock:
                if self._closed:
                    raise LostError("the engines were closed while they sampled")
                responses = self._collect()
            if responses:
                yield responses
            with self._lock:
                if not self._closed:
                    self._check(stalled)

    def _collect(self) -> list[Response]:
        """Responses that some engine has finished, after a wait of seconds at most."""
        if not self.engines:
            self._revive()
        self._dispatch()
        calls = {engine.poll: engine for engine in self._engines if engine.poll is not None}
        calls |= {engine.life: engine for engine in self._engines}
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=min(5.0, self.hang_seconds))
        responses: list[Response] = []
        for call in ready:
            engine = calls[call]
            try:
                finished = ray.get(call)
            except RayActorError as error:
                self._replace(engine, f"died: {first_line(error)}")
                continue
            engine.poll, engine.heard = None, time.monotonic()
            for response in finished:
                del engine.running[response.key]
            if finished:
                engine.finished, self._losses = engine.heard, 0
            responses += finished
        self._dispatch()
        return responses

    def _check(self, stalled: list[str]) -> None:
        """Replace engines that hang.

        Args:
            stalled: what was told of engines that finish nothing. The second one ends the run.
        """
        now = time.monotonic()
        for engine in [engine for engine in self._engines if engine.running]:
            if now - engine.heard > self.hang_seconds:
                why = (
                    f"has not answered for rollout.hang_timeout_seconds={self.hang_seconds:g} "
                    "while it sampled"
                )
                self._replace(engine, why, hangs=True)
            elif now - engine.finished > self.stall_seconds:
                why = (
                    f"rollout.stall_timeout_seconds={self.stall_seconds:g}: no response was "
                    f"finished for so long, with {len(engine.running)} in flight"
                )
                if stalled:
                    raise self.cluster.processes.stalled(f"sampling, {engine}: {why}")
                stalled.append(why)
                self._replace(engine, f"stalls while it samples, {why}", hangs=True)

    def _dispatch(self) -> None:
        """Hand waiting requests to the engines with the fewest, and listen to all that
        have some.
        """
        living = [engine for engine in self._engines if engine.joined]
        shares: dict[_Engine, list[tuple[SampleRequest, SamplingSettings]]] = {}
        while self._queue and living:
            engine = min(living, key=lambda one: len(one.running))
            if len(engine.running) >= self.spec.max_num_seqs:
                break
            item = self._queue.popleft()
            if not engine.running:
                engine.heard = engine.finished = time.monotonic()
            engine.running[item[0].key] = item
            shares.setdefault(engine, []).append(item)
        for engine, share in shares.items():
            for settings in {id(s): s for _, s in share}.values():
                requests = [request for request, own in share if own is settings]
                engine.actor.submit.remote(requests, settings)
        for engine in living:
            if engine.running and engine.poll is None:
                engine.poll = engine.actor.completed.remote()

    def _replace(self, engine: _Engine, why: str, *, hangs: bool = False) -> None:
        """Give the work of a lost engine back to the queue, and start another in its place.

        Args:
            engine: that is lost.
            why: for messages.
            hangs: it has not died, so the stacks of all processes are kept first.

        Raises:
            LostError: this happens again and again.
        """
        told = f"{engine} {why}"  # before it is killed
        if hangs:
            told += self.cluster.processes.keep_stacks(told)
        self._losses += 1
        if self._losses > 3 * len(self._engines):
            raise LostError(f"{told}; engines are lost faster than they finish anything")
        if self.cluster.pairs is not None:
            raise LostError(f"{told}; the rank on its GPU leaves no room to start another")
        count = len(engine.running)
        self.notice(f"{told}. A new one is started; {count} samples are made again")
        ray.kill(engine.actor)
        self._queue.extendleft(reversed(engine.running.values()))
        index = engine.process.number
        self._engines[index] = self._start(index)
        self._changed = True

    def _revive(self) -> None:
        """No engine is left: wait for new ones, and give them the weights."""
        if self.feed is None:
            raise LostError("all engines were lost, and there is no learner to feed new ones")
        self._wait_until_started()
        self.feed()

    def renew(self) -> bool:
        """Replace engines that have died unseen; has the weight channel to be opened anew?

        True as well when an engine that was started later is ready to join. Where no other is left,
        it is waited for.

        Raises:
            LostError: engines die while they start.
        """
        joined = [engine for engine in self._engines if engine.joined]
        if dead := [engine for engine in joined if not engine.process.is_alive()]:
            with self._lock:
                for engine in dead:
                    if self._engines[engine.process.number] is engine:
                        self._replace(engine, "died while it had nothing to do")
        if self._changed and not any(self._is_ready(engine) for engine in self._engines):
            self._wait_until_started()
        return self._changed and any(self._is_ready(engine) for engine in self._engines)

    def look(self) -> None:
        """Replace engines that have died with nothing to do. For whoever waits for something else.

        Where a thread waits for responses meanwhile, it looks itself.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            lives = {engine.life: engine for engine in self._engines}
            ended, _ = ray.wait(list(lives), num_returns=len(lives), timeout=0)
            for engine in [] if self._closed else [lives[life] for life in ended]:
                what = "sampled" if engine.running else "had nothing to do"
                self._replace(engine, f"died while it {what if engine.joined else 'started'}")
        finally:
            self._lock.release()

    def _is_ready(self, engine: _Engine) -> bool:
        return engine.joined or bool(ray.wait([engine.starting], timeout=0)[0])

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back; those that no engine had begun come back empty."""
        waiting = [r for r, _ in self._queue if keys is None or r.key in keys]
        taken = {request.key for request in waiting}
        self._queue = deque(item for item in self._queue if item[0].key not in taken)
        partials: list[Response] = []
        asked = [
            (engine, engine.actor.abort.remote(keys)) for engine in self._engines if engine.joined
        ]
        for engine, call in asked:
            try:
                partials += self.cluster.processes.wait(
                    [call], [engine.process], self.hang_seconds, "abort"
                )[0]
            except LostError as error:
                lost = [r for r, _ in engine.running.values() if keys is None or r.key in keys]
                waiting += lost
                for request in lost:
                    del engine.running[request.key]
                self._replace(engine, f"was lost ({error})")
        for response in partials:
            for engine in self._engines:
                engine.running.pop(response.key, None)
        return [
            *partials,
            *(Response(r.key, [], "", [], "abort", -1, r.seed) for r in waiting),
        ]

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by every engine."""
        engines = self.engines
        calls = [one.actor.prompt_logprobs.remote(token_ids, temperature) for one in engines]
        return self.cluster.processes.wait(
            calls, engines, self.stall_seconds, "log-probs of a text"
        )

    def gpus(self, seconds: float) -> list[list[str]]:
        """The GPUs of each engine, as CUDA_VISIBLE_DEVICES of their node names them."""
        processes = [engine.process for engine in self._engines]
        ask = [one.actor.__ray_call__.remote(lambda _: ray.get_gpu_ids()) for one in processes]
        found = self.cluster.processes.wait(ask, processes, seconds, "GPUs of the engines")
        return [[str(gpu) for gpu in gpus] for gpus in found]

    def close(self) -> None:
        """Stop the engines."""
        self._closed = True
        with self._lock:  # whoever waits for responses has seen it
            for engine in self._engines:
                ray.kill(engine.actor)

    @property
    def num_workers(self) -> int:
        """Processes that hold weights."""
        return self.spec.num_workers * len(self.engines)

    def client(self, timeout_seconds: float) -> EngineFleet:
        """The engines' control calls, for the learner's rank 0. Whoever asks opens a new weight
        channel, so engines that have become ready join here.
        """
        for engine in self._engines:
            engine.joined = self._is_ready(engine)
        self._changed = not all(engine.joined for engine in self._engines)
        engines = self.engines
        for process in engines:
            process.whereabouts()  # it is known now, and travels along
        return EngineFleet(engines, self.spec.num_workers, timeout_seconds)


class EngineFleet(EngineCalls):
    """The control calls of vLLM's weight transfer to all engines at once. Travels to the learner by
    pickle.
    """

    def __init__(
        self, engines: list[Process], workers_per_engine: int, timeout_seconds: float
    ) -> None:
        self.engines, self.workers_per_engine = engines, workers_per_engine
        self.timeout_seconds = timeout_seconds

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Give every engine its own ranks in the transfer group."""
        first = init_info.get("rank_offset")
        infos = (
            [init_info] * len(self.engines)
            if first is None
            else [
                {**init_info, "rank_offset": first + i * self.workers_per_engine}
                for i in range(len(self.engines))
            ]
        )
        calls = [
            engine.actor.init_weight_transfer_engine.remote(info)
            for engine, info in zip(self.engines, infos, strict=True)
        ]
        phase = "opening the weight channel (cluster.transfer_timeout_seconds)"
        wait(calls, self.engines, self.timeout_seconds, phase)

    def call(self, method: str, *args: Any) -> list[Any]:
        """One call of every engine, within the deadline."""
        calls = [getattr(engine.actor, method).remote(*args) for engine in self.engines]
        phase = f"weight transfer, {method} (cluster.transfer_timeout_seconds)"
        return wait(calls, self.engines, self.timeout_seconds, phase)
