"""The weighted sum of named rewards that a recipe asks for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from grpo.common.names import hint, import_modules
from rewards import registry, symbolic
from rewards.execution.pool import Pool, Task, shared_pool
from rewards.preference.process import ModelProcess
from rewards.preference.reward import preference_rewards
from rewards.preference.settings import PreferenceSettings, read_settings
from rewards.types import (
    NeedsWorkerError,
    Reward,
    RewardFailedError,
    Sample,
    Score,
    WorkerStartError,
)

_FAILED_SHARE = 0.9  # of at least `_MIN_SAMPLES` samples: the reward is broken, not the texts
_MIN_SAMPLES = 8
_MAX_LOST_CALLS = 3  # calls in a row without any worker, before the run ends


Kind = Literal["rule", "preference"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One named reward of a recipe.

    kind: `rule` is the registered function of that name. `preference` is a model of preferences,
        under a name of the recipe's choice.
    weight: its factor in the sum; 0 keeps it in the logs and available to other components only.
    options: keyword arguments of its function.
    requires: names of components that must score above 0, or this one counts 0 (accuracy only if
        the format holds).
    """

    weight: float
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()
    kind: Kind = "rule"


def _preference_rule(samples: Sequence[Sample]) -> list[Reward]:
    raise AssertionError("a model of preferences is asked by its process")


# What the scorer must know of a component that a model scores: it looks at its own texts alone.
_PREFERENCE = registry.Entry(
    function=_preference_rule,
    bounded=True,
    group=False,
    owns_gold=False,
    per_token=False,
    check_gold=None,
    wants_earlier=False,
    options=(),
)


def _entry(name: str, component: Component) -> registry.Entry:
    return _PREFERENCE if component.kind == "preference" else registry.entry(name)


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Scorer:
    """Scores groups of samples by a weighted sum of rewards; built once from a recipe.

    Where several components decide what is right (accuracy and countdown, say), a row is scored by
    the one that its `Sample.reward` names. The others are absent from its sum and its `Score`.
    Rows without a checker are scored by models of preferences; `docs/rewards.md` has the rules.

    Args:
        components: by name; those that look at others (`earlier`) are computed after the others,
            and after the one that their option `correct` names.
        modules: the operator's own modules, imported here and in the workers.
        num_workers: processes for rewards whose cost has no small bound. With 0 the operator's own
            rewards run in this process, and the few answers that `accuracy` will not grade here go
            to one shared worker.
        wall_seconds: budget of one sample in a worker.
        memory_bytes: address space of one worker.
        on_failure: takes the message about the first failure of each reward; stderr by default.

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
        on_failure: Callable[[str], None] = _print,
    ) -> None:
        import_modules(modules)
        registry.load_entry_points()
        errors = _problems(components)
        if errors:
            raise ValueError("\n".join(errors))
        self.components = dict(components)
        self._order = _order(components)
        self._owners = _owners(components)
        self._on_failure = on_failure
        self._told: set[str] = set()  # components whose first failure was shown
        # Component -> (failed, scored) samples since its share of failures was last looked at.
        self._counts: dict[str, tuple[int, int]] = {}
        self._lost_calls = 0
        # SymPy is loaded before the time of a worker's first answer runs.
        accuracy = components.get("accuracy")
        asked = accuracy is not None and symbolic.asked_for(accuracy.options)
        self._preloaded = [symbolic.PRELOAD] if asked else []
        self.pool: Pool | None = None
        if num_workers:
            self.pool = Pool(
                num_workers,
                wall_seconds=wall_seconds,
                memory_bytes=memory_bytes,
                modules=[*modules, *_modules_of(components), *self._preloaded],
            )
        self._preferences: dict[str, PreferenceSettings] = {}
        self._models: dict[PreferenceSettings, ModelProcess] = {}  # started when they are needed
        for name, component in components.items():
            if component.kind == "preference":
                settings = read_settings(name, component.options)
                assert isinstance(settings, PreferenceSettings)  # `_problems` has looked
                self._preferences[name] = settings
                where = f"rewards.components.{name}.model"
                process = ModelProcess(where, settings.of_process(), modules)
                self._models.setdefault(settings.of_process(), process)

    @property
    def needs_tokens(self) -> bool:
        """Does a component want `Sample.token_ids` and `Sample.token_texts`?"""
        return any(_entry(name, part).per_token for name, part in self.components.items())

    def start(self) -> None:
        """Load the models of preferences now, so that a fault of theirs comes before anything else
        is started. Without it they are loaded when they are first asked.

        Raises:
            RewardFailedError: a model that cannot be loaded.
            WorkerStartError: its process died or did not answer in time.
        """
        for process in self._models.values():
            process.start()

    def can_score(self, sample: Sample) -> str | None:
        """Why the recipe cannot score a row, with the fix; None where it can.

        Only the row is looked at (`reward`, `gold`), not the response. A row that names `accuracy`
        has a plain gold, so another checker that can read it may score it alone.
        """
        plain_row = sample.named == ("accuracy",) and len(self._owners) == 1
        unknown = [name for name in sample.named if name not in self.components]
        if unknown and (self._owners or self._preferences) and not plain_row:
            name, known = unknown[0], {*registry.names(), *self.components}
            if name not in known:
                return f"names the reward {name!r}, which does not exist; {hint(name, known)}"
            return (
                f"is scored by the reward {name!r}, which the recipe lacks; add "
                f"rewards.components.{name}: {{weight: 1.0}} or leave such rows out"
            )
        for name in self._owners:
            if not self._applies(name, sample):
                continue
            if (check := registry.entry(name).check_gold) is not None:
                try:
                    check(sample.gold)
                except ValueError as error:
                    fix = f"; set its `reward` to one of {', '.join(self._owners)}"
                    several = len(self._owners) > 1 and not sample.named
                    return f"{error}{fix if several else ''}"
            elif not sample.gold.strip():
                return f"has an empty gold, for which the reward {name!r} can never pay"
        return None

    def score_group(self, samples: Sequence[Sample]) -> list[Score]:
        """Scores of all responses to one prompt, in order.

        Raises:
            InfrastructureError: workers keep dying, or could not start in three calls in a row.
            RewardFailedError: a reward fails on at least 90% of at least 8 samples.
        """
        return self.score_groups([samples])[0]

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of several groups; their samples share the workers, which is faster than one group
        at a time.

        Raises:
            InfrastructureError: as `score_group`.
            RewardFailedError: as `score_group`.
        """
        rewards: list[list[dict[str, Reward]]] = [[{} for _ in group] for group in groups]
        for name in self._order:
            self._compute(name, groups, rewards)
        return [
            [self._total(sample, one) for sample, one in zip(group, row, strict=True)]
            for group, row in zip(groups, rewards, strict=True)
        ]

    def close(self) -> None:
        """End the workers and the models."""
        if self.pool is not None:
            self.pool.close()
        for process in self._models.values():
            process.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _applies(self, name: str, sample: Sample) -> bool:
        """Is the component computed for this row?"""
        named, component = sample.named, self.components[name]
        if name in named:
            return True
        if name in self._owners:
            # without a name all of them, and the only checker of a recipe stands in for others
            others = any(other in self.components for other in named)
            return not named or (not others and len(self._owners) == 1)
        has_checker = any(self._applies(owner, sample) for owner in self._owners)
        if name in self._preferences:
            rows = self._preferences[name].rows
            return rows == "all" or (not has_checker and (rows == "unverifiable" or not named))
        looks_at = _looks_at(name, component)
        # What looks at right and wrong has nothing to look at where nothing decides that.
        return (
            looks_at is None
            or has_checker
            or (looks_at in self.components and self._applies(looks_at, sample))
        )

    def _compute(
        self, name: str, groups: Sequence[Sequence[Sample]], rewards: list[list[dict[str, Reward]]]
    ) -> None:
        """Add the rewards of one component to `rewards`, in this process or in workers."""
        if name in self._preferences:
            self._ask(name, groups, rewards)
            return
        entry = registry.entry(name)
        options = self.components[name].options
        looks_at = _looks_at(name, self.components[name])
        done: list[tuple[list[Reward], list[dict[str, Reward]]]] = []
        remote: list[tuple[Task, list[dict[str, Reward]]]] = []
        for group, group_rewards in zip(groups, rewards, strict=True):
            pairs = [
                (sample, kept)
                for sample, kept in zip(group, group_rewards, strict=True)
                if self._applies(name, sample)
            ]
            if not pairs:
                continue
            for part in [pairs] if entry.group else [[pair] for pair in pairs]:
                samples, kept = [sample for sample, _ in part], [one for _, one in part]
                earlier: list[dict[str, Reward]] = (
                    [self._seen(sample, one, looks_at) for sample, one in part]
                    if entry.wants_earlier
                    else []
                )
                if self.pool is None or entry.bounded:
                    try:
                        done.append((registry.call(name, samples, options, earlier), kept))
                        continue
                    except NeedsWorkerError:
                        pass
                task = Task(name=name, samples=samples, options=options, earlier=earlier)
                remote.append((task, kept))
        if remote:
            results = self._in_workers([task for task, _ in remote])
            done += [(found, kept) for (_, kept), found in zip(remote, results, strict=True)]
        for found, kept in done:
            for reward, one in zip(found, kept, strict=True):
                one[name] = reward
        self._watch(name, [reward for found, _ in done for reward in found])

    def _ask(
        self, name: str, groups: Sequence[Sequence[Sample]], rewards: list[list[dict[str, Reward]]]
    ) -> None:
        """As `_compute`, for a component that a model of preferences scores."""
        pairs = [
            (sample, kept)
            for group, group_rewards in zip(groups, rewards, strict=True)
            for sample, kept in zip(group, group_rewards, strict=True)
            if self._applies(name, sample)
        ]
        settings = self._preferences[name]
        process = self._models[settings.of_process()]
        found = preference_rewards([sample for sample, _ in pairs], settings, process)
        for (_, kept), reward in zip(pairs, found, strict=True):
            kept[name] = reward
        if lost := [reward for reward in found if not reward.graded]:
            error = lost[0].details["error"]
            self._tell(name, f"the reward {name!r} gave no score: {error}; such responses count "
                       "in no baseline")  # fmt: skip

    def _in_workers(self, tasks: Sequence[Task]) -> list[list[Reward]]:
        """The rewards of tasks; ungraded where no worker could be started.

        Raises:
            WorkerStartError: for the third time in a row.
        """
        try:
            results = (self.pool or shared_pool(self._preloaded)).run(tasks)
        except WorkerStartError as error:
            self._lost_calls += 1
            self._tell("", str(error))
            if self._lost_calls >= _MAX_LOST_CALLS:
                raise
            lost = Reward(0.0, "no_worker", {"error": str(error)[:300]}, graded=False)
            return [[lost] * len(task.samples) for task in tasks]
        self._lost_calls = 0
        return results

    def _watch(self, name: str, rewards: Sequence[Reward]) -> None:
        """Show the first failure of a reward, and stop where it fails on nearly everything."""
        failures = [reward for reward in rewards if reward.reason == "error"]
        if failures:
            details = failures[0].details
            where = f" ({details['where']})" if "where" in details else ""
            message = f"the reward {name!r} failed: {details.get('error')}{where}"
            self._tell(name, f"{message}; such responses score 0 with the reason error")
        failed, scored = self._counts.get(name, (0, 0))
        failed, scored = failed + len(failures), scored + len(rewards)
        # Groups may come one at a time, so small calls are counted together.
        self._counts[name] = (failed, scored) if scored < _MIN_SAMPLES else (0, 0)
        if failures and scored >= _MIN_SAMPLES and failed >= _FAILED_SHARE * scored:
            raise RewardFailedError(
                f"rewards.components.{name}: {message}. It failed on {failed} of {scored} samples, "
                "so there is nothing to learn from; mend the function or take it out of the recipe"
            )

    def _tell(self, name: str, message: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._on_failure(message)

    def _seen(
        self, sample: Sample, rewards: Mapping[str, Reward], looks_at: str | None = None
    ) -> dict[str, Reward]:
        """What other components see of a row: its own checker answers for those that are absent."""
        own = next((rewards[name] for name in self._owners if name in rewards), None)
        if own is None:
            return dict(rewards)
        absent = [name for name in (*self._owners, looks_at) if name and name not in rewards]
        return {**rewards, **dict.fromkeys(absent, own)}

    def _total(self, sample: Sample, rewards: dict[str, Reward]) -> Score:
        seen = self._seen(sample, rewards)
        ordered = {
            name: _gated(rewards[name], component.requires, seen)
            for name, component in self.components.items()
            if name in rewards
        }
        total = 0.0
        tokens: list[float] | None = None
        for name, reward in ordered.items():
            weight = self.components[name].weight
            if not _entry(name, self.components[name]).per_token:
                total += weight * reward.score
            elif reward.token_scores is not None:
                tokens = tokens or [0.0] * len(reward.token_scores)
                tokens = [a + weight * b for a, b in zip(tokens, reward.token_scores, strict=True)]
        graded = all(reward.graded for reward in ordered.values())
        return Score(total, ordered, tokens, graded)


def _gated(reward: Reward, requires: Sequence[str], rewards: Mapping[str, Reward]) -> Reward:
    failed = next((name for name in requires if name in rewards and rewards[name].score <= 0), None)
    if failed is None:
        return reward
    details = {**reward.details, "ungated_score": reward.score, "ungated_reason": reward.reason}
    tokens = None if reward.token_scores is None else [0.0] * len(reward.token_scores)
    return replace(
        reward, score=0.0, reason=f"gated_by_{failed}", details=details, token_scores=tokens
    )


def _problems(components: Mapping[str, Component]) -> list[str]:
    """Everything that is wrong with the components, as messages."""
    errors: list[str] = []
    owners = _owners(components)
    for name, component in components.items():
        if component.kind == "preference":
            settings = read_settings(name, component.options)
            errors += settings if isinstance(settings, list) else []
            if name in registry.names():
                errors.append(
                    f"rewards.components.{name}: this is the name of a rule, and kind=preference "
                    "is a model; choose another name, such as helpful"
                )
        else:
            try:
                errors += registry.check_options(name, component.options)
            except ValueError as error:
                model = "; a reward model needs kind: preference"
                errors.append(f"{error}{model if 'model' in component.options else ''}")
                continue
        if name == "accuracy" and symbolic.asked_for(component.options):
            why = symbolic.missing()
            errors += [f"rewards.components.accuracy.symbolic=True: {why}"] if why else []
        if not math.isfinite(component.weight):
            errors.append(
                f"rewards.components.{name}.weight={component.weight}: must be a finite number"
            )
        correct = _looks_at(name, component)
        needed = [*component.requires, *([correct] if correct else [])]
        errors += [
            f"rewards.components.{name}: needs the component {other!r}; "
            "add it, with weight 0 if need be"
            for other in needed
            if other == name
            or (
                other not in components
                # The default of `correct` is accuracy; the checker that the recipe has will do.
                and not (owners and other == correct and "correct" not in component.options)
            )
        ]
    if not errors and (circle := [name for name in components if name not in _order(components)]):
        errors.append(
            f"rewards.components: {', '.join(circle)} look at each other, "
            "so none can be computed first"
        )
    return errors


def _owners(components: Mapping[str, Component]) -> list[str]:
    """The components that decide what is right, as listed; unknown names are left out."""
    return [
        name
        for name, component in components.items()
        if component.kind == "rule" and registry.owns_gold(name)
    ]


def _looks_at(name: str, component: Component) -> str | None:
    """The component whose verdict this one takes for right or wrong; None where it has no option
    `correct`.
    """
    entry = _entry(name, component)
    if not entry.wants_earlier or "correct" not in entry.options:
        return None
    if "correct" in component.options:
        return str(component.options["correct"])
    return str(registry.parameters(name)["correct"].default)


def _order(components: Mapping[str, Component]) -> list[str]:
    """Each component after those it looks at, else as listed; those that look at each other in a
    circle are left out.

    Who looks at others may look at all that do not, so these come first.
    """
    waiting = [name for name, part in components.items() if _entry(name, part).wants_earlier]
    order = [name for name in components if name not in waiting]
    while ready := [name for name in waiting if _looks_at(name, components[name]) not in waiting]:
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def _modules_of(components: Mapping[str, Component]) -> list[str]:
    """Modules whose import registers the components' functions."""
    modules = {
        registry.lookup(name).__module__
        for name, component in components.items()
        if component.kind == "rule"
    }
    return sorted(
        module for module in modules if module != "__main__" and not module.startswith("rewards.")
    )
