"""The recipe of a pipeline: stages that start from a model or from what an earlier stage made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from grpo.common.names import hint
from grpo.common.recipes import PathText, Settings
from grpo.config.schema import Text

Kind = Literal["sft", "rl", "sample", "evaluate"]
MODEL_MAKERS: tuple[Kind, ...] = ("sft", "rl")
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
    `evaluate` is `grpo eval`."""
    start: Text
    """A name of `models`, or an earlier stage of kind `sft` or `rl`. R1's second fine-tuning starts
    from the base model again, not from the policy that made its samples."""
    recipe: Text | None = None
    """The recipe of that command. `evaluate` needs none: its `overrides` can name `data`."""
    examples: tuple[Text, ...] = ()
    """Kind `sft`, in place of `data.train`: earlier stages of kind `sample`, and files of
    examples."""
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
        if stage.start not in (known := [*config.models, *makers]):
            problems.append(
                f"{where}.start={stage.start}: neither a name of models nor an earlier stage of "
                f"kind {' or '.join(MODEL_MAKERS)}; {hint(stage.start, known)}"
            )
        if stage.examples and stage.kind != "sft":
            problems.append(
                f"{where}.examples={list(stage.examples)}: only kind=sft learns from examples; "
                "leave it out"
            )
        for name in stage.examples:
            if earlier.get(name, "sample") != "sample":
                problems.append(
                    f"{where}.examples: stage {name} is of kind {earlier[name]}, which makes no "
                    "examples; name one of kind sample"
                )
        if stage.recipe is None and stage.kind != "evaluate":
            problems.append(f"{where}.recipe: missing; kind={stage.kind} needs one")
        ours = _OURS_IN_EVALUATIONS if stage.kind == "evaluate" else _OURS
        for override in stage.overrides:
            problems += _reserved(f"{where}.overrides", override, ours)
            key = override.lstrip("+~").partition("=")[0]
            if stage.examples and (key == "data.train" or key.startswith("data.train.")):
                problems.append(
                    f"{where}.overrides: {override}: examples sets data.train; leave one out"
                )
        earlier[stage.name] = stage.kind
    return problems


def _reserved(where: str, override: str, ours: tuple[str, ...]) -> list[str]:
    """Settings of a stage that the pipeline decides."""
    key = override.lstrip("+~").partition("=")[0]
    if not any(key == name or key.startswith(f"{name}.") for name in ours):
        return []
    return [f"{where}: {override}: the pipeline sets {key}; use start, models and output_dir"]
