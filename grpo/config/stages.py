"""The stages of a run as recipes write them, and the recipe that holds in each.

A stage names what changes. Its effective recipe is the recipe with those settings replaced, checked
by the same schema, so a stage can ask for nothing that a recipe of its own could not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from data.types import Problem
from grpo.common.names import hint
from grpo.common.recipes import Settings, check
from grpo.stages import Restart, Stage, parse
from grpo.stages.machine import plan_problems, retention_problems

if TYPE_CHECKING:
    from grpo.config.schema import TrainConfig

Range = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...],
    Field(min_length=2, max_length=2),
]


class Subset(Settings):
    """The training problems of a stage: those that pass every filter here."""

    levels: tuple[str, ...] | None = None
    """Values of `level`."""
    pass_rate: Range | None = None
    """[low, high], both included."""
    prompt_tokens: Range | None = None
    """[low, high] tokens of the prompt with its template, both included."""
    sources: tuple[str, ...] | None = None
    """Values of `source`, or names in a mix."""

    @model_validator(mode="after")
    def _ranges_have_a_low_and_a_high_end(self) -> Subset:
        for key in ("pass_rate", "prompt_tokens"):
            ends = getattr(self, key)
            if ends is not None and ends[0] > ends[1]:
                raise ValueError(f"{key}={list(ends)}: no value lies between; write [low, high]")
        return self

    def keeps(self, problem: Problem, prompt_tokens: int) -> bool:
        """Does a problem belong to the stage? What it has no value of, it passes no filter on."""
        names = {problem.source, problem.extra.get("mix_source")}
        ranges = (
            (self.pass_rate, problem.extra.get("pass_rate")),
            (self.prompt_tokens, prompt_tokens),
        )
        return (
            (self.levels is None or problem.level in self.levels)
            and (self.sources is None or not names.isdisjoint(self.sources))
            and all(
                ends is None or (value is not None and ends[0] <= value <= ends[1])
                for ends, value in ranges
            )
        )


class BestCheckpoint(Settings):
    """Which checkpoint is the best one."""

    metric: Annotated[str, Field(min_length=1)] = "eval/sampled/reward"
    """The metric that decides. A checkpoint counts where its step has a value of it."""
    window: Annotated[int, Field(ge=1)] = 1
    """Values up to the checkpoint whose mean counts. A metric of one batch wants 20 or more."""
    mode: Literal["max", "min"] = "max"
    """Is more better, or less?"""
    stage: str | None = None
    """The stage whose checkpoints count. Null: the one that ends."""


class StageConfig(Settings):
    """A part of the run with settings of its own. docs/stages.md has the rules."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Its name in the record and in messages: letters, digits, `_`, `.` and `-`."""
    until: dict[str, Any] | None = None
    """The condition that ends it, such as `{max_steps: 500}`. The last stage needs none."""
    min_steps: Annotated[int, Field(ge=0)] = 0
    """`until` is not asked before so many steps of the stage."""
    restart_from: Literal["last", "best"] | Annotated[int, Field(ge=1)] = "last"
    """The weights that it begins with: `last` goes on with those of the moment, `best` takes the
    best checkpoint, a number the checkpoint of that step."""
    best: BestCheckpoint = BestCheckpoint()
    """`restart_from: best` only. Which checkpoint is the best one."""
    optimizer: Literal["keep", "reset"] = "keep"
    """`reset` begins with new moments."""
    refresh_reference: bool = False
    """The reference policy becomes the policy that the stage begins with."""
    subset: Subset | None = None
    """Training problems of the stage. Null: all."""
    max_response_tokens: int | None = None
    """`sampling.max_response_tokens` of the stage. `rollout.max_model_len` grows with it."""
    temperature: float | None = None
    """`sampling.temperature` of the stage."""
    num_prompts: int | None = None
    """`batch.num_prompts` of the stage."""
    num_samples: int | None = None
    """`batch.num_samples` of the stage."""
    num_updates: int | None = None
    """`batch.num_updates` of the stage."""
    lr: float | None = None
    """`optimizer.lr` of the stage."""
    kl_coef: float | None = None
    """`algorithm.kl_coef` of the stage."""
    clip_low: float | None = None
    """`algorithm.clip_low` of the stage."""
    clip_high: float | None = None
    """`algorithm.clip_high` of the stage."""
    entropy_coef: float | None = None
    """`algorithm.entropy_coef` of the stage."""
    num_engines: int | None = None
    """`rollout.num_engines` of the stage."""
    set: dict[str, Any] = Field(default={})
    """Any other setting of the stage by its dotted key, such as `{learner.num_ranks: 16}`."""

    @field_validator("until")
    @classmethod
    def _until_can_be_read(cls, until: dict[str, Any] | None) -> dict[str, Any] | None:
        if until is not None:
            try:
                parse(until)
            except ValueError as error:
                raise ValueError("; ".join(str(error).splitlines())) from None
        return until

    @field_validator("restart_from", mode="before")
    @classmethod
    def _restart_is_a_word_or_a_step(cls, value: object) -> object:
        if value in ("last", "best") or (type(value) is int and value > 0):
            return value
        raise ValueError(f"{value!r} is none; write last, best or the number of a step")

    @model_validator(mode="after")
    def _best_is_looked_at(self) -> StageConfig:
        if self.restart_from != "best" and self.best != BestCheckpoint():
            raise ValueError(f"best: restart_from={self.restart_from} does not look at it")
        return self

    @model_validator(mode="after")
    def _each_setting_is_given_once(self) -> StageConfig:
        for name, key in DIRECT.items():
            if key in self.set and getattr(self, name) is not None:
                raise ValueError(f"set.{key}={self.set[key]}: {name} says it too; remove one")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """Dotted key and value of every setting that the stage replaces."""
        direct = {key: getattr(self, name) for name, key in DIRECT.items()}
        return {key: value for key, value in direct.items() if value is not None} | self.set

    def as_stage(self) -> Stage:
        """What the state machine has to know of it."""
        step = self.restart_from if isinstance(self.restart_from, int) else None
        restart = Restart(
            kind="step" if isinstance(self.restart_from, int) else self.restart_from,
            step=step,
            **self.best.model_dump(),
        )
        return Stage(
            name=self.name,
            until=None if self.until is None else parse(self.until),
            min_steps=self.min_steps,
            restart=restart,
            optimizer=self.optimizer,
            refresh_reference=self.refresh_reference,
        )


DIRECT = {
    "max_response_tokens": "sampling.max_response_tokens",
    "temperature": "sampling.temperature",
    "num_prompts": "batch.num_prompts",
    "num_samples": "batch.num_samples",
    "num_updates": "batch.num_updates",
    "lr": "optimizer.lr",
    "kl_coef": "algorithm.kl_coef",
    "clip_low": "algorithm.clip_low",
    "clip_high": "algorithm.clip_high",
    "entropy_coef": "algorithm.entropy_coef",
    "num_engines": "rollout.num_engines",
}

# What cannot change while a run goes on, and why. A key stands for all below it.
FIXED = {
    "modules": "they are imported once, before the recipe is read",
    "runtime": "the processes of a run are started once",
    "seed": "it makes the samples of the whole run one experiment",
    "output_dir": "a run has one folder",
    "model": "the weights are what all stages train",
    "data": "prompts are made once, at the start; `subset` chooses among them",
    "sampling.seeded": "samples are made again by their seeds in all stages or in none",
    "rewards": "conditions and the best checkpoint compare rewards over the whole run",
    "trainer": "it is the length of the whole run; `until` ends a stage",
    "learner.lora": "the adapter is what all stages train",
    "learner.zero_stage": "the optimizer state is laid out for it",
    "cluster": "the processes of a run are started once",
    "tracking": "a run has one record",
    "checkpoint": "a run has one series of checkpoints",
    "resume": "it is how the run begins",
    "supervise": "it is how the run begins",
    "health.max_restarts": "losses of processes are counted over the whole run",
    "allow_config_change": "it is how the run begins",
    "stages": "a stage has no stages",
}


def stage_plan(config: TrainConfig) -> list[Stage]:
    """The stages for `grpo.stages.StageMachine`."""
    return [stage.as_stage() for stage in config.stages]


def effective_config(config: TrainConfig, index: int) -> TrainConfig:
    """The recipe that holds in a stage. It has no stages itself.

    Raises:
        ValueError: settings that the schema refuses; one problem a line.
    """
    effective, problems = _effective(config, config.stages[index])
    if effective is None or problems:
        raise ValueError("\n".join(problems))
    return effective


def stage_recipes(config: TrainConfig) -> list[TrainConfig]:
    """The recipe as each stage has it; the recipe itself where it has no stages."""
    return [effective_config(config, i) for i in range(len(config.stages))] or [config]


def named_recipes(config: TrainConfig) -> dict[str, TrainConfig]:
    """`stage_recipes` by what a message about each begins with, such as "stages.long: "."""
    names = [f"stages.{stage.name}: " for stage in config.stages] or [""]
    return dict(zip(names, stage_recipes(config), strict=True))


def _effective(config: TrainConfig, stage: StageConfig) -> tuple[TrainConfig | None, list[str]]:
    """The recipe of a stage and what the schema says about it."""
    tree = config.as_tree() | {"stages": []}
    problems = []
    limit = stage.changes.get(DIRECT["max_response_tokens"])
    if isinstance(limit, int) and config.rollout.max_model_len is not None:
        # The room for the prompt stays as it is.
        room = config.rollout.max_model_len - config.sampling.max_response_tokens
        tree["rollout"]["max_model_len"] = limit + room
    for key, value in stage.changes.items():
        fixed = next((f for f in FIXED if key == f or key.startswith(f"{f}.")), None)
        if fixed is not None:
            problems.append(f"{key}={value}: {fixed} cannot change in a run, {FIXED[fixed]}")
            continue
        *above, last = key.split(".")
        place: Any = tree
        for part in above:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            known = [*_keys(tree)]
            problems.append(f"{key}: unknown key; {hint(key, known)}")
            continue
        place[last] = value
    effective, wrong = check(type(config), tree)
    return effective, problems + wrong


def needs_new_processes(before: TrainConfig, after: TrainConfig) -> list[str]:
    """Settings that differ between two stages and that engines or learner ranks are started with.

    All others travel with the samples and with each update.
    """
    travelling = {
        "rollout": {"strategy", "max_model_len"},
        "learner": set[str](),
        "optimizer": {"lr", "schedule", "warmup_steps", "final_lr_share"},
        "algorithm": {
            *("advantage", "advantage_std", "advantage_eps", "token_discount", "mask_truncated"),
            *("clip_low", "clip_high", "kl_coef", "kl_target", "kl_horizon"),
            *("reference_refresh_every", "entropy_coef", "entropy_target"),
            *("entropy_coef_step", "entropy_coef_max"),
        },
    }
    then, now = before.as_tree(), after.as_tree()
    return [
        f"{block}.{key}"
        for block, travels in travelling.items()
        for key in now[block]
        if key not in travels and then[block][key] != now[block][key]
    ]


def _keys(tree: Mapping[str, Any], above: str = "") -> list[str]:
    """All dotted keys of a plain tree."""
    keys = []
    for key, value in tree.items():
        keys.append(f"{above}{key}")
        if isinstance(value, Mapping):
            keys += _keys(value, f"{above}{key}.")
    return keys


def check_stages(
    config: TrainConfig, impossible: Callable[[TrainConfig], list[str]], known: Sequence[str]
) -> list[str]:
    """What is wrong with the stages of a recipe, those of every stage at once.

    Args:
        config: the whole recipe.
        impossible: what cannot work together in a recipe. It is asked about every stage.
        known: metrics that a run records.
    """
    if not config.stages:
        return []
    plan = stage_plan(config)
    # A problem that the recipe has without its stages is told once, without their names.
    elsewhere = impossible(config.model_copy(update={"stages": ()}))
    problems = plan_problems(plan) + retention_problems(plan, config.checkpoint.every)
    for index, (stage, planned) in enumerate(zip(config.stages, plan, strict=True)):
        effective, found = _effective(config, stage)
        if effective is not None:
            if config.runtime != "ray":
                found += [
                    f"{key}: runtime={config.runtime} starts its processes once; use runtime=ray"
                    for key in needs_new_processes(config, effective)
                ]
            found += [problem for problem in impossible(effective) if problem not in elsewhere]
            if stage.refresh_reference and not effective.algorithm.needs_reference:
                found.append(
                    "refresh_reference=true: algorithm.kl_coef=0 keeps no reference; leave it out"
                )
        if stage.refresh_reference and config.learner.lora is not None:
            found.append(
                "refresh_reference=true: with learner.lora the reference is the model without its "
                "adapter, which does not move; leave it out"
            )
        for key, idle in (("optimizer", "keep"), ("refresh_reference", False)):
            if index == 0 and getattr(stage, key) != idle:
                found.append(f"{key}={getattr(stage, key)}: the first stage begins the run anyway")
        if planned.restart.step is not None and planned.restart.step >= config.trainer.max_steps:
            found.append(
                f"restart_from={planned.restart.step}: the run ends at trainer.max_steps="
                f"{config.trainer.max_steps}, so the stage never begins"
            )
        metrics = set() if planned.until is None else set(planned.until.needs())
        if planned.restart.kind == "best":
            metrics.add(planned.restart.metric)
        found += [
            problem for name in sorted(metrics) for problem in _metric_problems(config, name, known)
        ]
        problems += [f"stages.{stage.name}: {problem}" for problem in found]
    return problems


def _metric_problems(config: TrainConfig, name: str, known: Sequence[str]) -> list[str]:
    """Why a condition would never see a metric of this name."""
    group, _, rest = name.partition("/")
    if group == "eval":
        if rest.partition("/")[0] not in ("sampled", "greedy"):
            return [f"metric {name!r}: write eval/sampled/... or eval/greedy/..."]
        if config.evaluation.every == 0:
            return [
                f"metric {name!r}: evaluation.every=0 measures it only at the start and at the "
                "end; set evaluation.every"
            ]
        return []
    if group == "reward" and rest and rest not in config.rewards.components:
        return [f"metric {name!r}: no such reward; {hint(rest, config.rewards.components)}"]
    # Parts of the recipe's modules may record names of their own, with a group before a slash.
    if name in known or rest:
        return []
    return [f"metric {name!r}: no run records it; {hint(name, known)}"]
