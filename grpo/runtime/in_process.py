"""One engine and one learner rank in this process, without Ray: the second implementation of the
protocols.

It starts faster than a cluster and can be stepped through with a debugger. The parts are the same:
the same vLLM engine, the same ZeRO-3 learner, the same weight channel between them. CPU only, since
two processes of NCCL cannot share a device.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Collection, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from grpo.common.errors import StalledError
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
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

T = TypeVar("T")


class LocalRollouts:
    """One engine on an event loop of its own, which a thread of this process runs."""

    def __init__(self, spec: EngineSpec, stall_seconds: float) -> None:
        from grpo.rollout.vllm.worker import RolloutWorker

        os.environ.update(spec.environment())
        self.spec, self.stall_seconds = spec, stall_seconds
        self.worker = RolloutWorker(spec)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._in_flight: set[int] = set()
        self.num_workers = 1

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Load the model."""
        self.call(self.worker.start(), timeout_seconds)

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        """The result of a coroutine of the worker.

        Raises:
            StalledError: it has not ended in time.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            raise StalledError(f"{coroutine}: no answer for {timeout_seconds:g} s") from None

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate."""
        self._in_flight |= {request.key for request in requests}
        self.call(self.worker.submit(requests, settings), self.stall_seconds)

    def completed(self) -> Iterator[list[Response]]:
        """Responses as they are finished, until nothing is in flight."""
        last = time.monotonic()
        while self._in_flight:
            responses = self.call(self.worker.completed(), self.stall_seconds + 60)
            self._in_flight -= {response.key for response in responses}
            if responses:
                last = time.monotonic()
                yield responses
            elif time.monotonic() - last >= self.stall_seconds:
                raise StalledError(f"no response was finished for {self.stall_seconds:g} s")

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back."""
        partials = self.call(self.worker.abort(keys), self.stall_seconds)
        self._in_flight -= {response.key for response in partials}
        return partials

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by the one engine."""
        found = self.worker.prompt_logprobs(token_ids, temperature)
        return [self.call(found, self.stall_seconds)]

    def client(self, timeout_seconds: float) -> LocalClient:
        """The engine's control calls."""
        return LocalClient(self, timeout_seconds)

    def close(self) -> None:
        """Stop the engine and its thread."""
        self.call(self.worker.shutdown(), 60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class LocalClient(EngineCalls):
    """vLLM's weight-transfer calls to the engine of this process."""

    def __init__(self, rollouts: LocalRollouts, timeout_seconds: float) -> None:
        self.rollouts, self.timeout_seconds = rollouts, timeout_seconds

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meet the sender."""
        self.call("init_weight_transfer_engine", init_info)

    def call(self, method: str, *args: Any) -> list[Any]:
        """One call of the worker, within the deadline."""
        coroutine = getattr(self.rollouts.worker, method)(*args)
        return [self.rollouts.call(coroutine, self.timeout_seconds)]


class LocalLearner:
    """One learner rank, which is the whole learner."""

    def __init__(self, spec: LearnerSpec) -> None:
        from grpo.learner.worker import LearnerWorker

        assert spec.world_size == 1, "an in-process learner is one rank"
        os.environ.update(spec.environment())
        self.spec = spec
        self.rank = LearnerWorker(spec, 0)
        self.rank.start("127.0.0.1", 0)

    def connect(self, rollouts: LocalRollouts) -> None:
        """Open the weight channel; an open one is closed first."""
        client = rollouts.client(self.spec.transfer_timeout_seconds)
        self.rank.connect(client, "127.0.0.1", rollouts.num_workers)

    def push_weights(self, version: int, *, check: bool = False) -> WeightReport | None:
        """Hand the current weights to the engine."""
        return self.rank.push_weights(version, check)

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan a batch."""
        return self.rank.prepare(samples, settings, measure=measure)

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch."""
        return self.rank.optimise(advantages, settings)

    def fingerprint(self, *, with_weights: bool = True) -> Fingerprint:
        """Gradient norms of the last `optimise` and hashes of the weights, by layer."""
        return self.rank.fingerprint(with_weights)

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples."""
        return self.rank.logprobs(samples, temperature)

    def save(self, folder: str, tokenizer_folder: str) -> str:
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights."""
        return str(self.rank.save(folder, tokenizer_folder))

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference."""
        self.rank.refresh_reference()

    def save_state(self, folder: str) -> None:
        """Write weights and moments into a folder that all ranks see."""
        self.rank.save_state(folder)

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        """Go on where `save_state` stood."""
        self.rank.load_state(folder, with_moments=with_moments)

    def partition_reports(self) -> list[dict[str, float]]:
        """What the rank holds of the model between steps."""
        return [self.rank.partition_report()]

    def close(self) -> None:
        """Close the weight channel."""
        self.rank.disconnect()
