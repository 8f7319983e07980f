"""Numbers of a step and of an evaluation, from scored groups. Pure Python; keys as documented in
docs/tracking.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from statistics import fmean, pstdev
from typing import Any

from grpo.evaluation.statistics import clustered_interval, pass_at_k, powers_up_to
from grpo.types import ScoredGroup
from rewards import Score, registry


def rollout_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Rewards, accuracy, format and lengths over all responses of some groups.

    `accuracy` is the share of right answers, each by the checker of its own row, and `format` the
    share of well-formed ones. Both are rates that gating leaves as they are. A component is a mean
    over the rows that it scores, and only these.
    """
    scores = [score for group in groups for score in group.scores]
    responses = [response for group in groups for response in group.group.responses]
    lengths = [len(response.token_ids) for response in responses]
    values: dict[str, list[float]] = {}
    for score in scores:
        for name, reward in score.components.items():
            values.setdefault(name, []).append(reward.score)
    rates: dict[str, float] = {}
    right = [rate(score, checker) for score in scores if (checker := checker_of(score))]
    if right:
        rates["accuracy"] = fmean(right)
    if "format" in values:
        rates["format"] = fmean(rate(s, "format") for s in scores if "format" in s.components)
    totals = [score.total for score in scores]
    return {
        "reward": fmean(totals),
        "reward_std": pstdev(totals),
        **{f"reward/{name}": fmean(found) for name, found in values.items()},
        **rates,
        "response_length": fmean(lengths),
        "response_length_max": max(lengths),
        "truncation_share": fmean(response.truncated for response in responses),
        "zero_variance_share": fmean(
            len({score.total for score in group.scores}) == 1 for group in groups
        ),
        "ungraded": sum(not score.graded for score in scores),
        "generated_tokens": sum(lengths),
    }


def rate(score: Score, component: str) -> float:
    """A component before gating: an answer is right or wrong, whatever it earns."""
    reward = score.components[component]
    return float(reward.details.get("ungated_score", reward.score))


def checker_of(score: Score) -> str | None:
    """The component that says whether the answer is right; None where the recipe has none."""
    return next(filter(registry.owns_gold, score.components), None)


def success_rates(groups: Iterable[ScoredGroup]) -> dict[str, float]:
    """Share of right answers by problem id; none where no reward of the recipe looks at answers."""
    return {
        group.group.prompt.problem.id: fmean(rate(score, checker) for score in group.scores)
        for group in groups
        if (checker := checker_of(group.scores[0]))
    }


def evaluation_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """What an evaluation reports: rates and mean length, and how many samples they are means of.

    Where each answer is right or wrong and nothing between, also the 95% interval of the accuracy,
    with problems as clusters, and pass@k. Few and hard problems, such as the 30 of AIME, move by
    more than most steps of training do.
    """
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
    verdicts = [
        [rate(score, checker) for score in group.scores]
        for group in groups
        if (checker := checker_of(group.scores[0]))
    ]
    if verdicts and all(verdict in (0.0, 1.0) for own in verdicts for verdict in own):
        n = len(verdicts[0])
        low, high = clustered_interval([fmean(own) for own in verdicts], n)
        metrics |= {"accuracy_low": low, "accuracy_high": high}
        for k in powers_up_to(n)[1:]:  # pass@1 is the accuracy
            metrics[f"pass@{k}"] = fmean(pass_at_k(n, int(sum(own)), k) for own in verdicts)
    return {
        **metrics,
        "num_problems": len(groups),
        "num_samples": len(groups[0].scores),
    }


def evaluation_keys(evaluations: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Evaluations by name under the keys of the record, `eval/<name>/<metric>`."""
    return {
        f"eval/{name}/{key}": value
        for name, found in evaluations.items()
        for key, value in found.items()
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
    """Token ids, engine log-probs and weight versions of every sample, row by row as
    `rollout_rows`.
    """
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
