"""Engines and learner ranks as Ray actors, behind two plain faces: `RolloutPool` and
`LearnerGroup`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.ray.cluster import Cluster
from grpo.types import Batch, Response, SampleRequest, TrainSample

# For CPU actors: large temporaries stay with the process, because handing them back to the system
# and faulting them
# in anew costs more than the arithmetic on them.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


class RolloutPool:
    """All engines of a run. Requests are dealt out evenly; responses come back as they are
    finished.
    """

    def __init__(self, cluster: Cluster, spec: EngineSpec, num_engines: int) -> None:
        from grpo.rollout.vllm.worker import RolloutWorker

        actor = ray.remote(RolloutWorker)
        self.spec = spec
        self.engines = [
            actor.options(**_options(cluster, i, spec.environment())).remote(spec)
            for i in range(num_engines)
        ]
        self._starting = [engine.start.remote() for engine in self.engines]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all engines have loaded their model."""
        ray.get(self._starting, timeout=timeout_seconds)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str],
        cut: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Iterator[list[Response]]:
        """Responses to all requests, in any order, a list whenever some engine has finished some."""
        settings = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "stop": list(stop),
            "cut": list(cut),
            "ignore_eos": ignore_eos,
        }
        streams = [
            engine.sample.remote(list(requests[i :: len(self.engines)]), **settings)
            for i, engine in enumerate(self.engines)
        ]
        while streams:
            (stream, *_), _ = ray.wait(streams, num_returns=1)
            try:
                yield ray.get(next(stream))
            except StopIteration:
                streams.remove(stream)

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by every engine."""
        return ray.get(
            [engine.prompt_logprobs.remote(token_ids, temperature) for engine in self.engines]
        )

    @property
    def num_workers(self) -> int:
        """Processes that hold weights."""
        return self.spec.num_workers * len(self.engines)

    def client(self) -> EngineFleet:
        """The engines' control calls, for the learner's rank 0."""
        return EngineFleet(self.engines, self.spec.num_workers)


class EngineFleet:
    """The control calls of vLLM's weight transfer to all engines at once. Travels to the learner by
    pickle.
    """

    def __init__(self, engines: list[Any], workers_per_engine: int) -> None:
        self.engines, self.workers_per_engine = engines, workers_per_engine

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Give every engine its own ranks in the transfer group."""
        offset = init_info["rank_offset"]
        calls = [
            engine.init_weight_transfer_engine.remote(
                {**init_info, "rank_offset": offset + i * self.workers_per_engine}
            )
            for i, engine in enumerate(self.engines)
        ]
        ray.get(calls)

    def start_weight_update(self) -> None:
        """New weights are about to come."""
        ray.get([engine.start_weight_update.remote() for engine in self.engines])

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive them; returns when all engines have."""
        ray.get([engine.update_weights.remote(update_info) for engine in self.engines])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Put them to use."""
        ray.get([engine.finish_weight_update.remote() for engine in self.engines])

    def set_weight_version(self, version: str) -> None:
        """Report `version` with every sample from now on."""
        ray.get([engine.set_weight_version.remote(version) for engine in self.engines])


class LearnerGroup:
    """All learner ranks. Every call reaches all of them; results are rank 0's."""

    def __init__(self, cluster: Cluster, spec: LearnerSpec, first_bundle: int) -> None:
        from grpo.learner.worker import LearnerWorker

        actor = ray.remote(LearnerWorker)
        self.cluster, self.spec = cluster, spec
        self.ranks = [
            actor.options(**_options(cluster, first_bundle + rank, spec.environment())).remote(
                spec, rank
            )
            for rank in range(spec.world_size)
        ]
        address, port = self._rendezvous()
        self._starting = [rank.start.remote(address, port) for rank in self.ranks]

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Block until all ranks hold their part of the model."""
        ray.get(self._starting, timeout=timeout_seconds)

    def connect(self, rollouts: RolloutPool) -> None:
        """Open the weight channel to all engines."""
        address, port = self._rendezvous()
        self._all("connect", rollouts.client(), address, port, rollouts.num_workers)

    def push_weights(self, version: int) -> None:
        """Hand the current weights to all engines, which from then on report `version`."""
        self._all("push_weights", version)

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        """Train on one batch; metrics over all ranks."""
        return self._all("update", ray.put(batch), step)[0]

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the response tokens of some samples."""
        return self._all("logprobs", list(samples), temperature)[0]

    def save(self, folder: str, tokenizer_folder: str) -> str:
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights."""
        return self._all("save", folder, tokenizer_folder)[0]

    def partition_reports(self) -> list[dict[str, float]]:
        """What each rank holds of the model between steps."""
        return self._all("partition_report")

    def _rendezvous(self) -> tuple[str, int]:
        address, port = ray.get(self.ranks[0].rendezvous.remote())
        return ("127.0.0.1" if self.cluster.local else address), port

    def _all(self, method: str, *args: Any) -> list[Any]:
        return ray.get([getattr(rank, method).remote(*args) for rank in self.ranks])


def _options(cluster: Cluster, bundle: int, environment: dict[str, str]) -> dict[str, Any]:
    """Ray options of the actor in one bundle of the placement group: it takes all of it."""
    resources = cluster.placement.bundle_specs[bundle]
    return {
        "num_cpus": resources.get("CPU", 0),
        "num_gpus": resources.get("GPU", 0),
        "runtime_env": {
            "env_vars": environment if cluster.device == "cuda" else {**MALLOC, **environment}
        },
        "scheduling_strategy": PlacementGroupSchedulingStrategy(cluster.placement, bundle),
    }
