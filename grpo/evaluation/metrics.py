"""Numbers of a step and of an evaluation, from scored groups. Pure Python; keys as documented in
docs/tracking.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import fmean, pstdev
from typing import Any

from grpo.types import ScoredGroup
from rewards import Score


def rollout_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Rewards, accuracy, format and lengths over all responses of some groups. `accuracy` and
    `format` are rates, which gating leaves as they are.
    """
    scores = [score for group in groups for score in group.scores]
    responses = [response for group in groups for response in group.group.responses]
    lengths = [len(response.token_ids) for response in responses]
    components = {
        name: fmean(score.components[name].score for score in scores)
        for name in scores[0].components
    }
    rates: dict[str, float] = {
        name: fmean(rate(score, name) for score in scores)
        for name in ("accuracy", "format")
        if name in components
    }
    return {
        "reward": fmean(score.total for score in scores),
        "reward_std": pstdev(score.total for score in scores),
        **{f"reward/{name}": value for name, value in components.items()},
        **rates,
        "response_length": fmean(lengths),
        "response_length_max": max(lengths),
        "truncation_share": fmean(response.truncated for response in responses),
        "zero_variance_share": fmean(
            len({score.total for score in group.scores}) == 1 for group in groups
        ),
        "generated_tokens": sum(lengths),
    }


def rate(score: Score, component: str) -> float:
    """A component before gating: an answer is right or wrong, whatever it earns."""
    reward = score.components[component]
    return float(reward.details.get("ungated_score", reward.score))


def success_rates(groups: Iterable[ScoredGroup]) -> dict[str, float]:
    """Share of right answers by problem id; none where accuracy is no reward of the recipe."""
    return {
        group.group.prompt.problem.id: fmean(rate(score, "accuracy") for score in group.scores)
        for group in groups
        if "accuracy" in group.scores[0].components
    }


def evaluation_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """What an evaluation reports: rates and mean length, and how many samples they are means of."""
    keys = (
        "reward",
        "accuracy",
        "format",
        "response_length",
        "truncation_share",
        "generated_tokens",
    )
    everything = rollout_metrics(groups)
    metrics = {key: everything[key] for key in keys if key in everything}
    return {
        **metrics,
        "num_problems": len(groups),
        "num_samples": len(groups[0].scores),
    }


def rollout_rows(
    step: int, groups: Iterable[ScoredGroup], advantages: Sequence[Sequence[float]]
) -> list[dict[str, Any]]:
    """Every sample of a step as a row for rollouts/step_NNNNNN.jsonl."""
    rows = []
    for group, group_advantages in zip(groups, advantages, strict=True):
        prompt = group.group.prompt
        for response, score, advantage in zip(
            group.group.responses, group.scores, group_advantages, strict=True
        ):
            rows.append(
                {
                    "step": step,
                    "problem_id": prompt.problem.id,
                    "prompt": prompt.text,
                    "response": response.text,
                    "gold": prompt.problem.answer,
                    "reward": score.total,
                    "components": {name: reward.score for name, reward in score.components.items()},
                    "reasons": {name: reward.reason for name, reward in score.components.items()},
                    "advantage": advantage,
                    "length": len(response.token_ids),
                    "finish_reason": response.finish_reason,
                    "weight_version": response.weight_version,
                    "seed": response.seed,
                }
            )
    return rows


def rollout_arrays(groups: Iterable[ScoredGroup]) -> dict[str, list[Any]]:
    """Token ids, engine log-probs and weight versions of every sample, row by row as `rollout_rows`."""
    pairs = [(g.group.prompt, response) for g in groups for response in g.group.responses]
    return {
        "prompt_token_ids": [prompt.token_ids for prompt, _ in pairs],
        "token_ids": [response.token_ids for _, response in pairs],
        "logprobs": [response.logprobs for _, response in pairs],
        "versions": [response.versions_T() for _, response in pairs],
    }


def sample_rows(step: int, groups: Iterable[ScoredGroup], limit: int) -> list[dict[str, Any]]:
    """The first `limit` responses of some groups, for a table that a person reads. Nothing is
    learned from them.
    """
    ungraded = [(group, [0.0] * len(group.scores)) for group in islice(groups, limit)]
    rows = rollout_rows(step, (group for group, _ in ungraded), [zeros for _, zeros in ungraded])
    return [
        {key: value for key, value in row.items() if key != "advantage"} for row in rows[:limit]
    ]
