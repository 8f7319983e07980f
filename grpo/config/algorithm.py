"""What an algorithm's parts say of the settings beside them.

Objectives and advantages declare which settings they look at, so one that is set and ignored is
found without a list of combinations. Their registries load torch: this is checked when a run
begins, and not when a recipe is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grpo.common.errors import UserError
from grpo.common.names import hint
from grpo.config.schema import AlgorithmConfig, TrainConfig

if TYPE_CHECKING:
    from data.types import Problem


def check_algorithm(config: TrainConfig) -> None:
    """Look at objective, advantage and what they ask of the recipe.

    Raises:
        UserError: a name that no registry has, or settings that do not go together; all of them in
            one message.
    """
    problems = algorithm_problems(config)
    if problems:
        raise UserError("\n".join(problems))


def algorithm_problems(config: TrainConfig) -> list[str]:
    """Everything that is wrong with objective and advantage, as messages that name the fix."""
    from grpo.algorithm.advantages import ADVANTAGES
    from grpo.algorithm.objectives import OBJECTIVES, PolicyTerm

    algorithm = config.algorithm
    problems = [
        f"algorithm.{key}={name}: no such name; {hint(name, known)}"
        for key, name, known in (
            ("objective", algorithm.objective, OBJECTIVES),
            ("advantage", algorithm.advantage, ADVANTAGES),
        )
        if name not in known
    ]
    if problems:
        return problems
    advantage = ADVANTAGES[algorithm.advantage]
    advantages = {name: ADVANTAGES[name].uses for name in ADVANTAGES}
    problems += _ignored(algorithm, "advantage", advantage.uses, advantages)
    objective = OBJECTIVES[algorithm.objective]
    if not isinstance(objective, PolicyTerm):
        return problems  # somebody's own shape: only they know what it looks at
    terms = {name: OBJECTIVES[name] for name in OBJECTIVES}
    uses = {name: term.uses for name, term in terms.items() if isinstance(term, PolicyTerm)}
    problems += _ignored(algorithm, "objective", objective.uses, uses)
    if objective.on_policy and config.batch.num_updates > 1:
        problems.append(
            f"batch.num_updates={config.batch.num_updates}: algorithm.objective="
            f"{algorithm.objective} has no ratio, so only the first update of a batch is right; "
            "set batch.num_updates=1, or take grpo"
        )
    allowed = objective.aggregations
    if allowed is not None and algorithm.aggregation not in allowed:
        problems.append(
            f"algorithm.aggregation={algorithm.aggregation}: algorithm.objective="
            f"{algorithm.objective} is a loss of whole responses; use "
            f"{' or '.join(sorted(allowed))}"
        )
    if algorithm.objective == "gspo" and "token_repetition" in config.rewards.components:
        problems.append(
            "rewards.components.token_repetition: algorithm.objective=gspo has one ratio for a "
            "response and takes one advantage for it; leave the reward out, or take grpo"
        )
    return problems


def _ignored(
    algorithm: AlgorithmConfig, part: str, uses: frozenset[str], others: dict[str, frozenset[str]]
) -> Sequence[str]:
    """Settings of the other parts of this kind that were changed and are not looked at."""
    defaults = AlgorithmConfig()
    owned = set().union(*others.values()) - uses
    return [
        f"algorithm.{key}={getattr(algorithm, key)}: algorithm.{part}={getattr(algorithm, part)} "
        f"does not look at it, {', '.join(sorted(n for n in others if key in others[n]))} would; "
        "leave it out"
        for key in sorted(owned)
        if getattr(algorithm, key) != getattr(defaults, key)
    ]


def check_reference_rates(config: TrainConfig, problems: Sequence[Problem]) -> None:
    """Advantages that compare with a reference policy need its rate on every training problem.

    Raises:
        UserError: a problem without a `pass_rate` in [0, 1].
    """
    from grpo.algorithm.advantages import ADVANTAGES

    if not ADVANTAGES[config.algorithm.advantage].needs_reference:
        return
    for problem in problems:
        rate = problem.extra.get("pass_rate")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise UserError(
                f"algorithm.advantage={config.algorithm.advantage}: problem {problem.id!r} of "
                f"data.train has pass_rate={rate!r}, and the advantage is measured from the "
                "reference policy's mean reward on it; write a column pass_rate in [0, 1] with "
                "`grpo eval ... pass_rates=FILE`"
            )
