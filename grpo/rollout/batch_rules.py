"""Which of the sampled groups a step trains on.

A group whose rewards are all equal has no advantage and so no policy gradient. `keep` trains on it
all the same, as R1-Zero, DeepScaleR and simpleRL-zoo did: KL and entropy terms still act on it.
`drop` leaves it out. `resample` is DAPO's dynamic sampling (arXiv:2503.14476, section 3.2): other
prompts are drawn until the batch is full of groups that teach something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from grpo.config.schema import BatchConfig
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import GroupScorer
from grpo.rollout.strategies import Strategy
from grpo.runtime.protocols import Rollouts
from grpo.types import SamplingSettings, ScoredGroup


@dataclass(slots=True)
class Batch:
    """What a step sampled, and what of it is trained on."""

    sampled: list[ScoredGroup]  # all groups of the step, in the order of their draws
    groups: list[ScoredGroup]  # the batch: those of them that the loss knows
    counts_only: list[bool]  # of these, dropped ones that still stand in denominators
    refills: int = 0  # rounds of sampling after the first
    sample_seconds: float = 0.0
    score_seconds: float = 0.0
    generate_seconds: float = 0.0  # of both, from the first request to the last score

    @property
    def numbers(self) -> dict[str, float]:
        """Metrics of the rules."""
        taught = len(self.groups) - sum(self.counts_only)
        return {
            "groups_sampled": float(len(self.sampled)),
            "groups_trained": float(taught),
            "refills": float(self.refills),
        }


def fill_batch(
    rules: BatchConfig,
    sample: Strategy,
    stream: PromptStream,
    settings: SamplingSettings,
    step: int,
    rollouts: Rollouts,
    scorer: GroupScorer,
) -> Batch:
    """Sample and score the batch of a step as `batch.zero_variance` says.

    Prompts are taken in the order in which the stream gives them, whatever finishes first, so the
    batch depends on seeds and weights alone. With `resample`, groups beyond the size of the batch
    are left out, and after `batch.max_refills` rounds it is filled up with groups of equal rewards,
    the first ones first: its size never changes.
    """
    count, drawn = rules.num_prompts, Counter[str]()
    per_draw = rules.prompts_per_draw or count
    batch = Batch([], [], [])
    teaching: list[int] = []
    resampling = rules.zero_variance == "resample"
    for refill in range(rules.max_refills + 1 if resampling else 1):
        collected = sample(
            stream, per_draw if resampling else count, settings, step, rollouts, scorer, drawn
        )
        batch.sampled += collected.groups
        batch.sample_seconds += collected.sample_seconds
        batch.score_seconds += collected.score_seconds
        batch.refills = refill
        equal = [is_zero_variance(group, rules.variance_of) for group in batch.sampled]
        teaching = [i for i, is_equal in enumerate(equal) if not is_equal]
        if len(teaching) >= count:
            break
    chosen = list(range(len(batch.sampled)))
    if resampling:
        rest = [i for i in chosen if equal[i]]
        chosen = sorted([*teaching[:count], *rest[: max(0, count - len(teaching))]])
    elif rules.zero_variance == "drop" and not rules.count_dropped and teaching:
        chosen = teaching
    dropping = rules.zero_variance == "drop"
    batch.groups = [batch.sampled[i] for i in chosen]
    batch.counts_only = [dropping and equal[i] for i in chosen]
    return batch


def is_zero_variance(group: ScoredGroup, component: str) -> bool:
    """Are all graded rewards of this group equal?

    Args:
        component: `total`, or the reward whose own score decides. DAPO looks at accuracy, since a
            penalty of length makes the totals of a group of right answers differ.
    """
    scores: Sequence[float] = [
        score.total if component == "total" else score.components[component].score
        for score in group.scores
        if score.graded and (component == "total" or component in score.components)
    ]
    return len(set(scores)) < 2
