"""All ranks of the learner as Ray actors, behind the protocol `Learner`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from grpo.common.errors import LostError
from grpo.learner.spec import LearnerSpec
from grpo.runtime.ray.calls import Process, with_place
from grpo.runtime.ray.cluster import (
    Cluster,
    actor_options,
    beside,
    check_folders,
    check_network,
)
from grpo.runtime.ray.rollouts import RolloutPool
from grpo.tracking.folder import claimed
from grpo.types import (
    Advantage,
    Fingerprint,
    Measured,
    StepSettings,
    TrainSample,
    WeightReport,
)


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
        actor = with_place(LearnerWorker)
        self.spec, self.learn_seconds = spec, learn_seconds
        self.nodes = [
            node for node in role.nodes for _ in range(spec.world_size // role.unit.count)
        ]
        if not cluster.local:
            check_folders(self.nodes, spec.model_folder, claimed())
        options = [
            actor_options(cluster, role, i, spec.environment()) for i in range(role.unit.count)
        ]
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
        self.processes, self._everyone = [], cluster.processes
        for rank, (node, made) in enumerate(zip(self.nodes, self.ranks, strict=True)):
            process = Process.of("learner rank", rank, node.address, made)
            self.processes.append(self._everyone.add(process))
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
            self.address = str(self._ask_first(found, start_seconds, phase))
        port = int(
            self._ask_first(self.ranks[0].rendezvous.remote(self.address), start_seconds, phase)
        )
        if not cluster.local:
            engines = [] if cluster.engines is None else cluster.engines.nodes
            check_network([*self.nodes, *engines], self.address, port)
        self._starting = [rank.start.remote(self.address, port) for rank in self.ranks]

    def _ask_first(self, call: Any, seconds: float, phase: str) -> Any:
        return self._everyone.wait([call], self.processes[:1], seconds, phase)[0]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all ranks hold their part of the model.

        Raises:
            StalledError: not all do, in time.
            LostError: one has died.
            RuntimeError: one of them cannot; its message has the cause.
        """
        self._everyone.started(self._starting, self.processes, timeout_seconds)

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
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights.

        Raises:
            OSError: the disk does not take it.
        """
        return str(self._all("save", folder, tokenizer_folder)[0])

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        self._all("refresh_reference")

    def save_state(self, folder: str) -> None:
        """Write weights and moments into a folder that all ranks see.

        Raises:
            OSError: the disk of a rank does not take them.
        """
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
        times the longest so far, and a minute at least. Engines that die meanwhile with nothing to
        do are replaced at once. While weights are sent they are not: the end of an engine ends that
        call.

        Raises:
            StalledError: not all have answered in time. The stacks of all processes are kept.
            LostError: a rank has died, or an engine that it was sending to.
            OSError: a disk does not take what the call writes.
        """
        took = self._took.setdefault(method, [])
        seconds, limit = self.learn_seconds, "cluster.learn_timeout_seconds"
        if len(took) >= 3 and (usual := max(60.0, 5 * max(took))) < seconds:
            seconds, limit = usual, "five times the longest so far"
        began = time.monotonic()
        look = None
        if self._rollouts is not None and method not in ("connect", "push_weights"):
            look = self._rollouts.look
        calls = [getattr(rank, method).remote(*args, **named) for rank in self.ranks]
        phase = f"learner, {method} ({limit})"
        try:
            found = self._everyone.wait(calls, self.processes, seconds, phase, look)
        except RayTaskError as error:
            if not isinstance(error.cause, OSError):
                raise
            for call in calls:  # what nobody asks for is told by Ray as unhandled
                with suppress(RayError):
                    ray.get(call, timeout=10)
            raise error.cause from None  # Ray's own has a traceback as its text
        took.append(time.monotonic() - began)
        return found
