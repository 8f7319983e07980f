"""The recipe of a pipeline: stages that start from a model or from what an earlier stage made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from grpo.common.names import hint
from grpo.common.recipes import PathText, Settings
from grpo.config.schema import Positive, Text

Kind = Literal["sft", "rl", "sample", "evaluate", "average"]
MODEL_MAKERS: tuple[Kind, ...] = ("sft", "rl", "average")
# What the pipeline itself sets in every stage.
_OURS = ("model.path", "model.base", "model.base_options", "output_dir", "resume")
_OURS_IN_EVALUATIONS = ("model", "base", "base_options", "output_dir", "recipe")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"  # it becomes a folder


class StartModel(Settings):
    """A model that stages can start from. Set exactly one of `path` and `base`."""

    path: PathText | None = None
    """A local Hugging Face folder. `~` is your home folder."""
    base: Text | None = None
    """The registered builder of a small base model."""
    base_options: dict[str, Any] = Field(default={})
    """Options of that builder."""


class PipelineStage(Settings):
    """One stage: a recipe of its own, which starts from a model."""

    name: Annotated[str, Field(pattern=_NAME)]
    """Letters, digits, `_` and `-`. The stage has the folder of this name."""
    kind: Kind
    """`sft` is `grpo sft`, `rl` is `grpo train`, `sample` is `grpo sample` (rejection sampling),
    `evaluate` is `grpo eval`, `average` is `grpo average`."""
    start: Text = ""
    """A name of `models`, or an earlier stage of kind `sft`, `rl` or `average`. R1's second
    fine-tuning starts from the base model again, not from the policy that made its samples. All
    kinds but `average` need it."""
    models: tuple[Text, ...] = ()
    """Kind `average`: two or more of what `start` can name. A model of `models` needs `path`."""
    weights: tuple[Positive, ...] | None = None
    """Kind `average`: one weight for each of them, together 1. Null: equal ones."""
    recipe: Text | None = None
    """The recipe of that command. `evaluate` needs none: its `overrides` can name `data`. `average`
    has none."""
    examples: tuple[Text, ...] = ()
    """Kind `sft`, in place of `data.train`: earlier stages of kind `sample`, and files of
    examples."""
    pairs: tuple[Text, ...] = ()
    """Kind `sft` with `dpo`, in place of `data.train`: earlier stages of kind `sample` with
    `rejection.pairs=true`, and files of pairs."""
    overrides: tuple[Text, ...] = ()
    """Overrides of the recipe, as on the command line."""


class PipelineConfig(Settings):
    """A whole recipe of `grpo pipeline`."""

    output_dir: PathText | None = None
    """The folder of the pipeline, with one below it for each stage. Null: runs/RECIPE. A pipeline
    that is started again in its folder goes on there."""
    models: Annotated[dict[str, StartModel], Field(min_length=1, examples=[{"base": {}}])]
    """Models that stages start from, by a name of your choice, such as `base`. Each has `path`, or
    `base` with `base_options`, as the block `model` of a recipe."""
    overrides: tuple[Text, ...] = ()
    """Overrides of every `sft`, `rl` and `sample` stage, before its own."""
    stages: Annotated[tuple[PipelineStage, ...], Field(min_length=1, examples=[()])]
    """The stages in their order."""


def pipeline_problems(config: PipelineConfig) -> list[str]:
    """What no single field can see: who may start from whom."""
    problems, earlier = [], dict[str, Kind]()
    for name, model in config.models.items():
        if (model.path is None) == (model.base is None):
            problems.append(
                f"models.{name}.path={model.path}, models.{name}.base={model.base}: set exactly one"
            )
        if model.base is None and model.base_options:
            problems.append(
                f"models.{name}.base_options={model.base_options}: only base looks at it; leave it "
                "out"
            )
    for override in config.overrides:
        problems += _reserved("overrides", override, _OURS)
    for stage in config.stages:
        where = f"stages.{stage.name}"
        if stage.name in earlier:
            problems.append(f"{where}: two stages have this name; rename one")
        if stage.name in config.models:
            problems.append(f"{where}: models.{stage.name} has this name too; rename one")
        makers = [name for name, kind in earlier.items() if kind in MODEL_MAKERS]
        wanted = (stage.start,) if stage.kind != "average" else stage.models
        problems += _of_average(where, stage, config)
        for start in wanted:
            key = "start" if stage.kind != "average" else "models"
            if start in (known := [*config.models, *makers]):
                continue
            problems.append(
                f"{where}.{key}={start}: neither a name of models nor an earlier stage of "
                f"kind {' or '.join(MODEL_MAKERS)}; {hint(start, known)}"
            )
        for key, names in (("examples", stage.examples), ("pairs", stage.pairs)):
            if names and stage.kind != "sft":
                problems.append(
                    f"{where}.{key}={list(names)}: only kind=sft learns from {key}; leave it out"
                )
        if stage.examples and stage.pairs:
            problems.append(f"{where}: examples and pairs: a stage learns from one of them")
        for name in (*stage.examples, *stage.pairs):
            if earlier.get(name, "sample") != "sample":
                problems.append(
                    f"{where}.{'pairs' if stage.pairs else 'examples'}: stage {name} is of kind "
                    f"{earlier[name]}, which makes no examples; name one of kind sample"
                )
        if stage.recipe is None and stage.kind not in ("evaluate", "average"):
            problems.append(f"{where}.recipe: missing; kind={stage.kind} needs one")
        ours = _OURS_IN_EVALUATIONS if stage.kind == "evaluate" else _OURS
        for override in stage.overrides:
            problems += _reserved(f"{where}.overrides", override, ours)
            key = override.lstrip("+~").partition("=")[0]
            given = "examples" if stage.examples else "pairs" if stage.pairs else None
            if given and (key == "data.train" or key.startswith("data.train.")):
                problems.append(
                    f"{where}.overrides: {override}: {given} sets data.train; leave one out"
                )
        earlier[stage.name] = stage.kind
    return problems


def _of_average(where: str, stage: PipelineStage, config: PipelineConfig) -> list[str]:
    """What an average alone has, and what it cannot have."""
    if stage.kind != "average":
        return [
            f"{where}.{key}={list(value)}: only kind=average looks at it; leave it out"
            for key, value in (("models", stage.models), ("weights", stage.weights))
            if value
        ]
    problems = [
        f"{where}.{key}: kind=average does not look at it; leave it out"
        for key in ("start", "recipe", "overrides")
        if getattr(stage, key)
    ]
    problems += [
        f"{where}.models={name}: models.{name} has no path; average stages that start from it"
        for name in stage.models
        if name in config.models and config.models[name].path is None
    ]
    return problems


def _reserved(where: str, override: str, ours: tuple[str, ...]) -> list[str]:
    """Settings of a stage that the pipeline decides."""
    key = override.lstrip("+~").partition("=")[0]
    if not any(key == name or key.startswith(f"{name}.") for name in ours):
        return []
    return [f"{where}: {override}: the pipeline sets {key}; use start, models and output_dir"]
