"""What the loop knows of the machines: two protocols. `runtime.ray`, `runtime.torchrun` and
`runtime.in_process` implement them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

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


class Rollouts(Protocol):
    """All engines of a run, as a stream: requests go in, responses come out in any order."""

    def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate. Keys must differ from those of all requests in flight."""

    def completed(self) -> Iterator[list[Response]]:
        """Responses as they are finished, until nothing is in flight.

        Raises:
            StalledError: no response was finished for longer than the recipe allows.
        """

    def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back, all of them without `keys`.

        Returns:
            What they have so far, as partial responses with the finish reason "abort". Requests
            that no engine had begun come back empty.
        """

    def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[list[float]]:
        """Log-probs of a fixed text, from its second token on, by every engine."""

    def close(self) -> None:
        """Stop the engines."""


class Learner(Protocol):
    """The policy that is trained. A step is `prepare`, then `optimise`, then `push_weights`."""

    def connect(self, rollouts: Any) -> None:
        """Open the weight channel to all engines; an open one is closed first."""

    def push_weights(self, version: int, *, check: bool = False) -> WeightReport | None:
        """Hand the current weights to all engines, which from then on report `version`.

        Returns:
            With `check`, how the weights that the engines compute with compare to the learner's.
        """

    def prepare(
        self, samples: Sequence[TrainSample], settings: StepSettings, *, measure: bool = False
    ) -> list[Measured] | None:
        """Plan a batch; old and reference log-probs stay with the learner.

        Returns:
            With `measure` the scalars of every sample, which advantages may depend on.
        """

    def optimise(self, advantages: Sequence[Advantage], settings: StepSettings) -> dict[str, float]:
        """Train on the prepared batch; metrics by name."""

    def fingerprint(self, *, with_weights: bool = True) -> Fingerprint:
        """Gradient norms of the last `optimise` and hashes of the weights, by layer."""

    def logprobs(self, samples: Sequence[TrainSample], temperature: float) -> list[list[float]]:
        """Log-probs of the trained tokens of some samples."""

    def save(self, folder: str, tokenizer_folder: str) -> str:
        """Write the policy as a Hugging Face folder; returns the sha256 of its weights."""

    def refresh_reference(self) -> None:
        """The policy of this moment becomes the reference that KL is measured to."""

    def save_state(self, folder: str) -> None:
        """Write weights and moments, and the reference where it has moved, into a folder that all
        ranks see.
        """

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        """Go on where `save_state` stood, on any number of ranks.

        Args:
            folder: that it wrote.
            with_moments: False takes the weights alone, and the optimizer begins anew.
        """

    def close(self) -> None:
        """Let go of the ranks."""
