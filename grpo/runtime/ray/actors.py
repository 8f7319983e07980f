"""Engines and learner ranks as Ray actors, behind the protocols `Rollouts` and `Learner`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from grpo.common.errors import LostError, StalledError
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.environment import MALLOC
from grpo.runtime.ray.cluster import Cluster, Role, check_folders
from grpo.runtime.ray.placement import Node
from grpo.tracking.folder import claimed
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


def wait(calls: Any, seconds: float, phase: str) -> Any:
    """The results of remote calls, or an error that says which phase has stalled.

    Raises:
        StalledError: not all have answered in time.
        LostError: a process has died.
    """
    try:
        return ray.get(calls, timeout=seconds)
    except GetTimeoutError:
        raise StalledError(f"{phase}: no answer for {seconds:g} s") from None
    except RayActorError as error:
        raise LostError(f"{phase}: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """The first line of what Ray says of a dead process."""
    return str(error).strip().partition("\n")[0]


def is_alive(actor: Any) -> bool:
    """Has Ray not heard of this actor's end? One that hangs is alive."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=2)
    except RayActorError:
        return False
    except GetTimeoutError:
        pass
    return True


def _with_place(worker: type) -> Any:
    """The actor class of a worker, which can also say where it runs."""

    class Actor(worker):  # type: ignore[misc]
        def place(self) -> tuple[str, int]:
            """Its node and its process."""
            return ray.get_runtime_context().get_node_id(), os.getpid()

    Actor.__name__ = Actor.__qualname__ = worker.__name__
    return ray.remote(Actor)


@ray.remote(num_cpus=0)
def _stack(pid: int) -> str:
    """What a process of this node is doing, asked from outside: it may hang or be stopped."""
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "dump", "--nonblocking", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return done.stdout or done.stderr


def stacks(places: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The stacks of some processes, by name; what could not be asked says why."""
    calls = {
        name: _stack.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(pid)
        for name, (node, pid) in places.items()
    }
    found = {}
    for name, call in calls.items():
        try:
            found[name] = str(ray.get(call, timeout=40))
        # Whatever is wrong with a dump, the error that asked for it matters more.
        except Exception as error:
            found[name] = f"no stack: {_cause(error)}"
    return found


@dataclass(slots=True, eq=False)
class _Engine:
    """One engine of the pool."""

    actor: Any
    index: int  # of its bundle
    starting: Any  # becomes ready when it has loaded the model
    place: Any  # becomes its node and process
    joined: bool = False  # has a place in the weight channel, and so the current weights
    # What it works on, by key.
    running: dict[int, tuple[SampleRequest, SamplingSettings]] = field(default_factory=dict)
    poll: Any = None  # the open question for finished responses
    heard: float = 0.0  # when it last answered, by the monotonic clock
    finished: float = 0.0  # when it last finished a response, or began

    def __str__(self) -> str:
        return f"engine_{self.index}"


def started(calls: Sequence[Any], nodes: Sequence[Node], seconds: float, what: str) -> None:
    """Block until all processes of a kind have started.

    One that fails says why at once, whether or not the others still load. `ray.get` would wait for
    those before it.

    Args:
        calls: the open `start` call of each.
        nodes: of each.
        seconds: for all of them.
        what: the kind.

    Raises:
        StalledError: not all have, in time.
        RuntimeError: names process, node and cause.
    """
    deadline = time.monotonic() + seconds
    waiting = list(calls)
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise StalledError(f"start of each {what}: no answer for {seconds:g} s")
        for call in ready:
            try:
                ray.get(call)
            except RayError as error:
                i = calls.index(call)
                cause = error.cause if isinstance(error, RayTaskError) else error
                raise RuntimeError(
                    f"{what} {i} on {nodes[i].address} did not start: "
                    f"{type(cause).__name__}: {cause}"
                ) from error


class RolloutPool:
    """All engines of a run.

    Requests wait here and not in the engines. An engine gets new ones as it finishes others, at
    most as many as it can run at once, so a fast engine takes work that a slow one would have had,
    down to the last request.

    An engine that dies or hangs is replaced. What it had not finished goes to the others, with the
    same seeds. The new one joins at the next weight sync, or at once where no other is left: a sync
    in between would make the others compute their caches again, and so change last bits.

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
        self._class = _with_place(RolloutWorker)
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
        actor = self._class.options(**_options(self.cluster, self.role, index, environment)).remote(
            self.spec
        )
        return _Engine(actor, index, actor.start.remote(), actor.place.remote())

    @property
    def engines(self) -> list[Any]:
        """The actors that have the current weights."""
        return [engine.actor for engine in self._engines if engine.joined]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all engines have loaded their model.

        Raises:
            StalledError: not all have, in time.
            RuntimeError: one of them cannot; its message has the cause.
        """
        self._start_seconds = timeout_seconds
        starting = [engine.starting for engine in self._engines]
        started(starting, self.role.nodes, timeout_seconds, "engine")
        for engine in self._engines:
            engine.joined = True

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
            self._check(stalled)

    def _collect(self) -> list[Response]:
        """Responses that some engine has finished, after a wait of seconds at most."""
        if not self.engines:
            self._revive()
        self._dispatch()
        polls = {engine.poll: engine for engine in self._engines if engine.poll is not None}
        ready, _ = ray.wait(list(polls), num_returns=1, timeout=min(5.0, self.hang_seconds))
        responses: list[Response] = []
        for engine in (polls[poll] for poll in ready):
            try:
                finished = ray.get(engine.poll)
            except RayActorError as error:
                self._replace(engine, f"died: {_cause(error)}")
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
                self._replace(engine, f"has not answered for {self.hang_seconds:g} s")
            elif now - engine.finished > self.stall_seconds:
                why = (
                    f"rollout.stall_timeout_seconds={self.stall_seconds:g}: no response was "
                    f"finished for so long, with {len(engine.running)} in flight"
                )
                if stalled:
                    raise StalledError(f"{engine}, {why}", self.stacks())
                stalled.append(why)
                self._replace(engine, why)

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

    def _replace(self, engine: _Engine, why: str) -> None:
        """Give the work of a lost engine back to the queue, and start another in its place.

        Raises:
            LostError: this happens again and again.
        """
        self._losses += 1
        if self._losses > 3 * len(self._engines):
            raise LostError(f"{engine} {why}; engines are lost faster than they finish anything")
        if self.cluster.pairs is not None:
            raise LostError(f"{engine} {why}; the rank on its GPU leaves no room to start another")
        count = len(engine.running)
        self.notice(f"{engine} {why}. A new one is started; {count} samples are made again")
        ray.kill(engine.actor)
        self._queue.extendleft(reversed(engine.running.values()))
        self._engines[engine.index] = self._start(engine.index)
        self._changed = True

    def _revive(self) -> None:
        """No engine is left: wait for new ones, and give them the weights."""
        if self.feed is None:
            raise LostError("all engines were lost, and there is no learner to feed new ones")
        starting = [engine.starting for engine in self._engines]
        wait(starting, self._start_seconds, "start of new engines")
        self.feed()

    def renew(self) -> bool:
        """Replace engines that have died unseen; has the weight channel to be opened anew?

        True as well when an engine that was started later is ready to join.
        """
        for engine in [engine for engine in self._engines if engine.joined]:
            if not is_alive(engine.actor):
                self._replace(engine, "died while it had nothing to do")
        return self._changed and any(self._is_ready(engine) for engine in self._engines)

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
                partials += wait(call, self.hang_seconds, "abort")
            except LostError:
                lost = [r for r, _ in engine.running.values() if keys is None or r.key in keys]
                waiting += lost
                for request in lost:
                    del engine.running[request.key]
                self._replace(engine, "was lost")
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
        calls = [engine.prompt_logprobs.remote(token_ids, temperature) for engine in self.engines]
        found: list[list[float]] = wait(calls, self.stall_seconds, "log-probs of a text")
        return found

    def gpus(self, seconds: float) -> list[list[str]]:
        """The GPUs of each engine, as CUDA_VISIBLE_DEVICES of their node names them."""
        ask = [e.actor.__ray_call__.remote(lambda _: ray.get_gpu_ids()) for e in self._engines]
        return [[str(gpu) for gpu in gpus] for gpus in wait(ask, seconds, "GPUs of the engines")]

    def stacks(self) -> dict[str, str]:
        """What the processes of all engines are doing."""
        return stacks({str(e): ray.get(e.place) for e in self._engines if self._is_ready(e)})

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
    """All learner ranks. Every call reaches all of them; results are rank 0's.

    A rank that dies ends the group, since the others wait for it in a collective: every call
    raises `LostError` then. So does a call that takes much longer than it ever did.
    """

    def __init__(
        self,
        cluster: Cluster,
        spec: LearnerSpec,
        learn_seconds: float,
        start_seconds: float,
        rollouts: RolloutPool | None = None,
    ) -> None:
        from grpo.learner.worker import LearnerWorker

        role = cluster.ranks or cluster.pairs
        assert role is not None, "the cluster was reserved without a learner"
        actor = _with_place(LearnerWorker)
        self.spec, self.learn_seconds = spec, learn_seconds
        self.nodes = [
            node for node in role.nodes for _ in range(spec.world_size // role.unit.count)
        ]
        if not cluster.local:
            check_folders(self.nodes, spec.model_folder, claimed())
        options = [_options(cluster, role, i, spec.environment()) for i in range(role.unit.count)]
        if role is cluster.pairs:
            assert rollouts is not None, "ranks beside engines need to know their GPUs"
            options = [
                beside(bundle, gpu)
                for bundle, gpus in zip(options, rollouts.gpus(start_seconds), strict=True)
                for gpu in gpus
            ]
        self.ranks = [
            actor.options(**options[rank]).remote(spec, rank) for rank in range(spec.world_size)
        ]
        self._places = [rank.place.remote() for rank in self.ranks]
        self._took: dict[str, list[float]] = {}  # seconds of past calls, by method
        self._version = 0  # that the engines have
        self._has_moved = False  # away from these weights
        self._rollouts: RolloutPool | None = None
        # Ray knows the address by which the other nodes reach rank 0. The machine's own name may
        # stand for 127.0.1.1.
        self.address = "127.0.0.1"
        phase = "meeting of the learner's ranks"
        if not cluster.local:
            found = self.ranks[0].__ray_call__.remote(lambda _: ray.util.get_node_ip_address())
            self.address = wait(found, start_seconds, phase)
        port = wait(self.ranks[0].rendezvous.remote(self.address), start_seconds, phase)
        self._starting = [rank.start.remote(self.address, port) for rank in self.ranks]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all ranks hold their part of the model.

        Raises:
            StalledError: not all do, in time.
            RuntimeError: one of them cannot; its message has the cause.
        """
        started(self._starting, self.nodes, timeout_seconds, "learner rank")

    def connect(self, rollouts: RolloutPool) -> None:
        """Open the weight channel to all engines; an open one is closed first."""
        self._took.clear()  # a stage has other lengths
        self._rollouts = rollouts
        rollouts.feed = self._feed
        client = rollouts.client(self.spec.transfer_timeout_seconds)
        self._all("connect", client, self.address, rollouts.num_workers)

    def _feed(self) -> None:
        """Give engines that were started in the middle of a step the weights of that step.

        Raises:
            LostError: the learner is on its way to the next ones, while samples are made ahead.
        """
        assert self._rollouts is not None
        if self._has_moved:
            raise LostError("all engines were lost while the learner worked on the next weights")
        self.connect(self._rollouts)
        self._all("push_weights", self._version, False)

    def push_weights(self, version: int, *, check: bool = False) -> WeightReport | None:
        """Hand the current weights to all engines, which from then on report `version`."""
        assert self._rollouts is not None, "connect() comes first"
        if self._rollouts.renew():
            self.connect(self._rollouts)
        report: WeightReport | None = self._all("push_weights", version, check)[0]
        self._version, self._has_moved = version, False
        return report

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan a batch on all ranks."""
        batch, self._has_moved = ray.put(list(samples)), True
        found: list[Measured] | None = self._all("prepare", batch, settings, measure=measure)[0]
        return found

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch; metrics over all ranks."""
        found: dict[str, float] = self._all("optimise", ray.put(list(advantages)), settings)[0]
        return found

    def fingerprint(self, *, with_weights: bool = True) -> Fingerprint:
        """Gradient norms of the last `optimise` and hashes of the weights, by layer."""
        found: Fingerprint = self._all("fingerprint", with_weights)[0]
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

    def _all(self, method: str, *args: Any, **named: Any) -> list[Any]:
        """One call of all ranks.

        The deadline is `learn_seconds`, and sooner where the same call has been much faster: five
        times the longest so far, and a minute at least.

        Raises:
            StalledError: not all have answered in time. It has the stacks of all ranks.
            LostError: a rank has died, or an engine that it was sending to.
        """
        took = self._took.setdefault(method, [])
        seconds = self.learn_seconds
        if len(took) >= 3:
            seconds = min(seconds, max(60.0, 5 * max(took)))
        began = time.monotonic()
        phase = f"learner, {method}"
        calls = [getattr(rank, method).remote(*args, **named) for rank in self.ranks]
        try:
            found: list[Any] = wait(calls, seconds, phase)
        except StalledError as error:
            error.dumps = self.stacks()
            raise
        except RayTaskError as error:
            # Those who wait for a dead one in a collective fail first, with whatever they see.
            engines = [] if self._rollouts is None else self._rollouts.engines
            if all(is_alive(actor) for actor in [*self.ranks, *engines]):
                raise
            raise LostError(f"{phase}: a process has died ({_cause(error.cause)})") from None
        took.append(time.monotonic() - began)
        return found

    def stacks(self) -> dict[str, str]:
        """What the processes of all ranks are doing."""
        return stacks({f"rank_{i}": ray.get(place) for i, place in enumerate(self._places)})


def _options(
    cluster: Cluster, role: Role, index: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Ray options of one actor of a role: it takes the whole bundle of that index."""
    variables = environment if cluster.device == "cuda" else {**MALLOC, **environment}
    return {
        "num_cpus": role.unit.cpus,
        "num_gpus": role.unit.gpus,
        "runtime_env": {"env_vars": variables},
        "scheduling_strategy": PlacementGroupSchedulingStrategy(role.group, index),
    }


def beside(engine: dict[str, Any], gpu: str) -> dict[str, Any]:
    """Ray options of a learner rank on a GPU that an engine has already.

    Ray gives a GPU to one actor. So the engine has the whole bundle, the rank takes nothing of it,
    and is told its GPU by hand, which Ray must not overrule.

    Args:
        engine: options of the engine, with the environment of the rank.
        gpu: as CUDA_VISIBLE_DEVICES names it.
    """
    variables = {
        **engine["runtime_env"]["env_vars"],
        "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": gpu,
    }
    return {**engine, "num_cpus": 0, "num_gpus": 0, "runtime_env": {"env_vars": variables}}
