"""The settings of `grpo eval`, and how they are read from its command line.

A recipe can stand behind them: `recipe=tiny` gives the template, rewards, sampling, engines and
held-out problems of a training run, and what the command line says replaces them one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from data.sources.spec import Source
from data.templates import CHAT_PREFIX, TEMPLATES
from grpo.common.errors import RecipeError, UserError
from grpo.common.names import hint, import_modules
from grpo.common.recipes import UNSET, PathText, Settings, compose, read, with_overrides
from grpo.config.load import RECIPES
from grpo.config.schema import (
    ClusterConfig,
    Count,
    EvaluationConfig,
    Index,
    ModelConfig,
    NotNegative,
    PositiveShare,
    RewardsConfig,
    RolloutConfig,
    SamplingConfig,
    Text,
    Tokens,
    TrainConfig,
    Unit,
)
from rewards import Scorer, registry

# The sets that can be named, and how their files may be called in `data_dir`.
NAMED_SETS = {
    "aime24": ("aime24",),
    "aime25": ("aime25",),
    "amc23": ("amc23",),
    "math500": ("math500",),
    "minerva": ("minerva",),
    "olympiadbench": ("olympiadbench",),
    "gsm8k": ("gsm8k_test", "gsm8k"),
}
ENDINGS = (".jsonl", ".json", ".parquet", ".jsonl.gz")

# Golds of Minerva are rounded to different precisions, and some are written as code.
_REWARDS: dict[str, Any] = {
    "accuracy": {
        "weight": 1.0,
        "per_data_source": {"minerva": {"rel_tol": 0.01, "programming": True}},
    }
}


class EvalConfig(Settings):
    """What `grpo eval` reads: `grpo eval model=FOLDER data=[aime24,math500] n=16`. None of it is
    part of a training recipe."""

    recipe: Text | None = None
    """A recipe of recipes/, or the path of one that ends in .yaml. It gives all settings below that
    are not named on the command line, `evaluation.*` and `data.held_out` among them."""
    model: PathText | None = None
    """A local Hugging Face folder. Null: the model of the recipe."""
    base: Text | None = None
    """The registered builder of a small base model, in place of `model`."""
    base_options: dict[str, Any] = Field(default={})
    """Options of that builder."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights. `auto` is float32 on CPU and bfloat16 on GPU."""
    float32_head: Literal["auto", True, False] = "auto"
    """Logits in float32 although the weights are bfloat16. `auto` is true."""
    modules: tuple[Text, ...] = ()
    """Importable modules that register generators and model builders."""
    data: tuple[Text, ...] = ()
    """Names of known sets (aime24, aime25, amc23, math500, minerva, olympiadbench, gsm8k), and
    paths of files with the columns `problem` and `answer`."""
    data_dir: PathText = "eval_sets"
    """The folder in which NAME.jsonl of a known set is looked up; `gsm8k_test.jsonl` for gsm8k."""
    sources: dict[str, Source] = Field(default={})
    """Further sets by a name of your choice, as `data.held_out` of a recipe: Hugging Face sets,
    generators, files with other columns."""
    num_problems: Annotated[int | None, Field(ge=1), Unit("problems")] = None
    """The first so many problems of each set. Null: all."""
    template: Text = "chat:deepscaler_boxed"
    """As `data.template` of a recipe. It decides the score as much as the model does."""
    system_prompt: Text | None = None
    """The system message. Chat templates only."""
    enable_thinking: bool | None = None
    """The thinking switch of the tokenizer's chat template."""
    n: Annotated[Count, Unit("responses per problem")] = 16
    """Sampled responses to each problem."""
    temperature: NotNegative = 0.6
    """0 is greedy, with n=1."""
    top_p: PositiveShare = 0.95
    """Sampled tokens come from the smallest set with this share of probability. 1 takes all."""
    max_response_tokens: Tokens = 32_768
    """A response that reaches this length is cut, counts as truncated, and is wrong."""
    seed: Index = 0
    """Each response has a seed of its own: a hash of this one, the id of the problem and the number
    of the sample."""
    rewards: RewardsConfig = RewardsConfig(components=_REWARDS)
    """The grader, as in training. One component must say whether an answer is right."""
    confidence: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.95
    """Chance with which the intervals cover the true mean."""
    output_dir: PathText | None = None
    """The folder of samples and result. Null: evals/MODEL-HASH, one folder for each model, data
    and settings. A folder that holds a part of this evaluation is completed."""
    pass_rates: PathText | None = None
    """Writes `id` and `pass_rate` of each problem as JSONL, for filters and curricula."""
    runtime: Literal["ray", "in_process"] = "ray"
    """`in_process` runs one engine in this process, without Ray. CPU only."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes the GPUs of the cluster where it has some."""
    rollout: RolloutConfig = RolloutConfig()
    """The vLLM engines."""
    cluster: ClusterConfig = ClusterConfig()
    """Where they run."""


def load_eval_config(overrides: Sequence[str]) -> EvalConfig:
    """Settings from `key=value` words, written as Hydra writes them.

    Raises:
        UserError: an override that Hydra's grammar refuses, no such recipe, or settings that are
            wrong, all of them at once.
    """
    given = with_overrides({}, [o for o in overrides if not o.startswith("~")])
    name = given.get("recipe")
    behind = _from_recipe(name) if isinstance(name, str) and name else {}
    if {"model", "base"} & given.keys():
        for key in ("model", "base", "base_options"):
            behind.pop(key, None)
    if "data" in given:
        behind.pop("sources", None)
    tree = with_overrides(behind, overrides)
    missing = []
    rewards = tree.get("rewards")
    for key, modules in (
        ("modules", tree.get("modules")),
        ("rewards.modules", rewards.get("modules") if isinstance(rewards, dict) else None),
    ):
        for module in modules if isinstance(modules, list) else ():
            try:
                import_modules([str(module)])
            except ImportError as error:
                missing.append(f"{key}: cannot import {module!r}: {error}; is it on PYTHONPATH?")
    try:
        return read(EvalConfig, tree, "grpo eval", _conflicts, missing)
    except RecipeError as error:  # there may be no recipe at all
        raise UserError(str(error).replace("recipe 'grpo eval'", "the evaluation", 1)) from None


def _from_recipe(name: str) -> dict[str, Any]:
    """The settings of an evaluation that a training recipe has, as its trainer would use them.

    What the recipe leaves to the command line (`???`) stays out.
    """
    path = Path(name).expanduser()
    folder, stem = (path.parent, path.stem) if path.suffix == ".yaml" else (RECIPES, name)
    try:
        tree = compose(stem, [], folder, RECIPES)
    except UserError as error:
        raise UserError(str(error).replace("--config-name ", "recipe=")) from None

    def block(key: str, schema: type[Settings], wanted: Sequence[str]) -> dict[str, Any]:
        found = {**schema.model_construct().model_dump(), **(tree.get(key) or {})}
        return {name: found[name] for name in wanted if name in found}

    evaluation = block(
        "evaluation",
        EvaluationConfig,
        ("num_samples", "temperature", "top_p", "max_response_tokens"),
    )
    limit = block("sampling", SamplingConfig, ("max_response_tokens",))["max_response_tokens"]
    data, model = tree.get("data") or {}, block("model", ModelConfig, [*ModelConfig.model_fields])
    held_out = data.get("held_out")
    found = {
        "modules": tree.get("modules", []),
        "model": model.pop("path", None),
        **model,
        "template": data.get("template", "r1_zero"),
        "system_prompt": data.get("system_prompt"),
        "enable_thinking": data.get("enable_thinking"),
        "n": evaluation["num_samples"],
        "temperature": evaluation["temperature"],
        "top_p": evaluation["top_p"],
        "max_response_tokens": evaluation["max_response_tokens"] or limit,
        "seed": tree.get("seed", 0),
        "rewards": tree.get("rewards", {}),
        # A recipe for torchrun is evaluated without it.
        "runtime": "in_process" if tree.get("runtime") == "in_process" else "ray",
        "device": (tree.get("trainer") or {}).get("device", "auto"),
        "rollout": {**(tree.get("rollout") or {}), "strategy": "plain"},
        "cluster": tree.get("cluster") or {},
    }
    if isinstance(held_out, dict) and UNSET not in held_out.values():
        found["sources"] = {"held_out": held_out}
    return {key: value for key, value in found.items() if value != UNSET}


def _conflicts(config: EvalConfig) -> list[str]:
    """Everything that no single setting can see."""
    from grpo.learner.model_folder import BUILDERS

    problems = []
    if (config.model is None) == (config.base is None):
        problems.append(
            f"model={config.model}: one of model and base is needed, and not both; add model=FOLDER"
        )
    if config.base is not None and config.base not in BUILDERS:
        problems.append(f"base={config.base}: no such name; {hint(config.base, BUILDERS)}")
    if not config.data and not config.sources:
        problems.append("data=[]: nothing to evaluate on; add data=[math500] or data=[FILE.jsonl]")
    inner = config.template.removeprefix(CHAT_PREFIX)
    if config.template != "chat" and inner not in TEMPLATES:
        known = hint(inner, ["chat", *TEMPLATES])
        problems.append(f"template={config.template}: no such name; {known}")
    if config.temperature == 0 and config.n > 1:
        problems.append(
            f"n={config.n}: at temperature=0 all responses to a problem are the same; use n=1"
        )
    if config.rollout.strategy != "plain":
        problems.append(
            f"rollout.strategy={config.rollout.strategy}: an evaluation samples each response once "
            "and whole; leave it out"
        )
    context, limit = config.rollout.max_model_len, config.max_response_tokens
    if context is not None and context <= limit:
        problems.append(
            f"rollout.max_model_len={context} leaves no room for a prompt beside "
            f"max_response_tokens={limit}; raise it or leave it null"
        )
    try:
        scorer: Scorer | None = config.rewards.scorer()
    except ValueError as error:
        return [*problems, *str(error).splitlines()]
    assert scorer is not None
    if not any(map(registry.owns_gold, scorer.components)):
        problems.append(
            "rewards.components: none of them says whether an answer is right; add "
            "rewards.components.accuracy={weight: 1.0}"
        )
    scorer.close()
    return problems


def data_sources(config: EvalConfig) -> dict[str, Source]:
    """The sets of an evaluation by name: those of `data`, then those of `sources`.

    Raises:
        UserError: no file of a known set, no such file, or two sets of one name.
    """
    from data.sources.spec import read_source

    found: dict[str, Source] = {}
    folder = Path(config.data_dir)
    for entry in config.data:
        if entry in NAMED_SETS:
            files = [folder / f"{s}{end}" for s in NAMED_SETS[entry] for end in ENDINGS]
            name, path = entry, next((file for file in files if file.is_file()), None)
            if path is None:
                raise UserError(
                    f"data={entry}: {folder} has no {NAMED_SETS[entry][0]}.jsonl; put it there, "
                    "set data_dir=FOLDER, or name the file itself. docs/evaluation.md says where "
                    "the known sets come from"
                )
        else:
            path = Path(entry).expanduser()
            name = path.name.split(".")[0]
            if not path.is_file():
                known = hint(entry, NAMED_SETS) if path.parent == Path() else "check the path"
                raise UserError(f"data={entry}: no such file and no known set; {known}")
        if name in found:
            raise UserError(
                f"data={entry}: two sets are called {name!r}; name one by sources={{NAME: "
                f"{{path: {entry}}}}}"
            )
        found[name] = read_source({"path": str(path)}, f"data={entry}")
    for name, source in config.sources.items():
        if name in found:
            raise UserError(f"sources.{name}: `data` has a set of that name; choose another")
        found[name] = source
    return found


def engine_config(config: EvalConfig) -> TrainConfig:
    """The same engines as a training recipe has them, so that both start them by the same code.

    What only training looks at has its default.
    """
    tree: Mapping[str, Any] = config.model_dump(mode="json")
    source = {"source": "file", "path": "none"}  # an evaluation reads its problems itself
    keys = ("base", "base_options", "dtype", "float32_head")
    recipe = {
        **{
            key: tree[key]
            for key in ("modules", "runtime", "seed", "rewards", "rollout", "cluster")
        },
        "model": {"path": config.model, **{key: tree[key] for key in keys}},
        "data": {
            "train": source,
            "held_out": source,
            **{key: tree[key] for key in ("template", "system_prompt", "enable_thinking")},
        },
        "trainer": {"max_steps": 1, "device": config.device},
    }
    return TrainConfig.model_validate_json(json.dumps(recipe))
