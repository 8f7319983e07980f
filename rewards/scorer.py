"""The weighted sum of named rewards that a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rewards import registry
from rewards.execution.pool import Pool, Task, shared_pool
from rewards.types import NeedsWorkerError, Reward, Sample, Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One named reward of a recipe.

    weight: its factor in the sum; 0 keeps it in the logs and available to other components only.
    options: keyword arguments of its function.
    requires: names of components that must score above 0, or this one counts 0 (accuracy only if
        the format holds).
    """

    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()


class Scorer:
    """Scores groups of samples by a weighted sum of rewards; built once from a recipe.

    Args:
        components: by name; those that look at others (`earlier`) are computed after the others,
            and after the one that their option `correct` names.
        modules: the operator's own modules, imported here and in the workers.
        num_workers: processes for rewards whose cost has no small bound. With 0 the operator's own
            rewards run in this
            process, and the few answers that `accuracy` will not grade here go to one shared
            worker.
        wall_seconds: budget of one sample in a worker.
        memory_bytes: address space of one worker.

    Raises:
        ValueError: an unknown reward or option, a value that an option cannot have, or a component
            that needs another one; all problems are in one message, one a line.
    """

    def __init__(
        self,
        components: Mapping[str, Component],
        *,
        modules: Sequence[str] = (),
        num_workers: int = 0,
        wall_seconds: float = 2.0,
        memory_bytes: int = 512 * 2**20,
    ) -> None:
        registry.load_modules(modules)
        registry.load_entry_points()
        errors = _problems(components)
        if errors:
            raise ValueError("\n".join(errors))
        self.components = dict(components)
        self._order = _order(components)
        self.pool: Pool | None = None
        if num_workers:
            self.pool = Pool(
                num_workers,
                wall_seconds=wall_seconds,
                memory_bytes=memory_bytes,
                modules=[*modules, *_modules_of(components)],
            )

    def score_group(self, samples: Sequence[Sample]) -> list[Score]:
        """Scores of all responses to one prompt, in order.

        Raises:
            InfrastructureError: workers cannot start or keep dying; no score would mean anything.
        """
        return self.score_groups([samples])[0]

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of several groups; their samples share the workers, which is faster than one group
        at a time.

        Raises:
            InfrastructureError: as `score_group`.
        """
        rewards: list[list[dict[str, Reward]]] = [[{} for _ in group] for group in groups]
        for name in self._order:
            self._compute(name, groups, rewards)
        return [[self._total(one) for one in group] for group in rewards]

    def close(self) -> None:
        """End the workers."""
        if self.pool is not None:
            self.pool.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compute(
        self, name: str, groups: Sequence[Sequence[Sample]], rewards: list[list[dict[str, Reward]]]
    ) -> None:
        """Add the rewards of one component to `rewards`, in this process or in workers."""
        entry = registry.entry(name)
        options = self.components[name].options
        remote: list[tuple[Task, list[dict[str, Reward]]]] = []
        for samples, earlier in zip(groups, rewards, strict=True):
            parts = (
                [(samples, earlier)]
                if entry.group
                else [([s], [e]) for s, e in zip(samples, earlier, strict=True)]
            )
            for part, part_earlier in parts:
                found = (
                    None
                    if self.pool is not None and not entry.bounded
                    else _here(name, part, options, part_earlier)
                )
                if found is None:
                    known = [dict(one) for one in part_earlier] if entry.wants_earlier else ()
                    remote.append(
                        (
                            Task(name=name, samples=part, options=options, earlier=known),
                            part_earlier,
                        )
                    )
                else:
                    _keep(name, found, part_earlier)
        if remote:
            results = (self.pool or shared_pool()).run([task for task, _ in remote])
            for (_, part_earlier), found in zip(remote, results, strict=True):
                _keep(name, found, part_earlier)

    def _total(self, rewards: dict[str, Reward]) -> Score:
        gated = {
            name: _gated(reward, self.components[name].requires, rewards)
            for name, reward in rewards.items()
        }
        ordered = {name: gated[name] for name in self.components}
        return Score(
            sum(self.components[name].weight * reward.score for name, reward in ordered.items()),
            ordered,
        )


def _here(
    name: str,
    samples: Sequence[Sample],
    options: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Reward]],
) -> list[Reward] | None:
    """The rewards, computed in this process; None when a worker has to do it."""
    entry = registry.entry(name)
    try:
        if entry.group:
            return list(
                entry.function(
                    samples, **options, **({"earlier": earlier} if entry.wants_earlier else {})
                )
            )
        return [registry.apply(name, samples[0], options, earlier[0])]
    except NeedsWorkerError:
        return None


def _keep(name: str, found: Sequence[Reward], kept: Sequence[dict[str, Reward]]) -> None:
    for reward, rewards in zip(found, kept, strict=True):
        rewards[name] = reward


def _gated(reward: Reward, requires: Sequence[str], rewards: Mapping[str, Reward]) -> Reward:
    failed = next((name for name in requires if rewards[name].score <= 0), None)
    if failed is None:
        return reward
    details = {**reward.details, "ungated_score": reward.score, "ungated_reason": reward.reason}
    return replace(reward, score=0.0, reason=f"gated_by_{failed}", details=details)


def _problems(components: Mapping[str, Component]) -> list[str]:
    """Everything that is wrong with the components, as messages."""
    errors: list[str] = []
    for name, component in components.items():
        try:
            errors += registry.check_options(name, component.options)
        except ValueError as error:
            errors.append(str(error))
            continue
        if not math.isfinite(component.weight):
            errors.append(
                f"rewards.components.{name}.weight={component.weight}: must be a finite number"
            )
        needed = list(component.requires)
        if (correct := _looks_at(name, component)) is not None:
            needed.append(correct)
        errors += [
            f"rewards.components.{name}: needs the component {other!r}; add it, with weight 0 if need be"
            for other in needed
            if other not in components or other == name
        ]
    if not errors and (circle := [name for name in components if name not in _order(components)]):
        errors.append(
            f"rewards.components: {', '.join(circle)} look at each other, so none can be computed first"
        )
    return errors


def _looks_at(name: str, component: Component) -> str | None:
    """The component whose verdict this one takes for right or wrong; None where it has no option
    `correct`.
    """
    entry = registry.entry(name)
    if not entry.wants_earlier or "correct" not in entry.options:
        return None
    return str(component.options.get("correct", registry.parameters(name)["correct"].default))


def _order(components: Mapping[str, Component]) -> list[str]:
    """Each component after those it looks at, else as listed; those that look at each other in a
    circle are left out.

    Who looks at others may look at all that do not, so these come first.
    """
    order = [name for name in components if not registry.entry(name).wants_earlier]
    waiting = [name for name in components if registry.entry(name).wants_earlier]
    while ready := [name for name in waiting if _looks_at(name, components[name]) not in waiting]:
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def _modules_of(components: Mapping[str, Component]) -> list[str]:
    """Modules whose import registers the components' functions."""
    modules = {registry.lookup(name).__module__ for name in components}
    return sorted(
        module for module in modules if module != "__main__" and not module.startswith("rewards.")
    )
