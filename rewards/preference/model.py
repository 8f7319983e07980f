"""The interface of models of preferences, and those that come with this package, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from grpo.common.names import Registry

RESPONSE_SLOT = "{response}"
SLOTS = ("{question}", RESPONSE_SLOT)


class Exchange(NamedTuple):
    """What a model judges: a question and what was answered, both untrusted."""

    question: str
    response: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An exchange as a model takes it.

    content: whatever the model's `score` reads, such as token ids.
    num_tokens: its length, by which batches are made.
    cut_tokens: how many tokens it had beyond the limit, about.
    """

    content: Any
    num_tokens: int
    cut_tokens: int = 0


class PreferenceModel(Protocol):
    """A loaded model. It is used by one thread of a process of its own, which may be killed."""

    def prepare(self, exchange: Exchange) -> Prepared:
        """Make an exchange ready; the response must not be able to leave its turn."""

    def score(self, batch: Sequence[Prepared]) -> list[float]:
        """One number for each exchange, higher for a better response; any finite range."""


# Options of the component (fields of `PreferenceSettings`) -> a loaded model. It raises ValueError
# for what cannot be loaded.
MODELS: Registry[Callable[[Mapping[str, Any]], PreferenceModel]] = Registry("preference model")


@MODELS.register("transformers")
def _transformers(options: Mapping[str, Any]) -> PreferenceModel:
    from rewards.preference.sequence_classifier import SequenceClassifier

    return SequenceClassifier(options)


def make_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions in batches of similar length, longest first.

    Each batch has at most `budget` tokens with its padding, or one text.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
