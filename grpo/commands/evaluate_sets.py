"""An evaluation of a model folder on problem sets: what `grpo eval` does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.sources import FileSource, load
from data.types import Problem
from grpo.common.command_line import say
from grpo.common.errors import UserError
from grpo.common.files import check_writable, json_line, work_folder, write_atomically
from grpo.common.provenance import git_hash, versions
from grpo.config.evaluation import EvalConfig, data_sources, engine_config
from grpo.evaluation.evaluate import EVALUATION_STEP
from grpo.evaluation.progress import Progress
from grpo.evaluation.report import pass_rate_rows, report
from grpo.evaluation.samples import RESULT, Row, SampleFile, sample_rows
from grpo.inputs import Inputs
from grpo.parts import start_parts
from grpo.rollout.scoring import sample_groups
from grpo.types import Prompt, SamplingSettings, ScoredGroup
from rewards import Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemSet:
    """One set: its problems as the model sees them, and a digest of where they come from."""

    name: str
    label: str
    sha256: str  # of the file's bytes, or of the rows where there is no file
    prompts: list[Prompt]


def run_evaluation(config: EvalConfig) -> tuple[Path, dict[str, Any]]:
    """Sample what is not sampled yet, and score everything.

    Returns:
        The folder, and what its result.json holds.

    Raises:
        UserError: a model, data set, folder or cluster that cannot be used.
    """
    check_writable(
        [Path(config.pass_rates)] if config.pass_rates else [],
        [work_folder() / (config.output_dir or "evals")],
    )
    sets, inputs, template = load_sets(config)
    identity = {
        "settings": _deciding_settings(config, template, inputs.sampling),
        "data": {
            one.name: {"sha256": one.sha256, "num_problems": len(one.prompts)} for one in sets
        },
        "model": {"weights_sha256": _weights(inputs.model_folder)},
        "versions": versions(),
    }
    folder = output_folder(config, inputs.model_folder, identity)
    say(f"evaluation in {folder}")
    with (
        SampleFile.opened(folder, identity, config.n) as file,
        config.rewards.scorer() as scorer,
    ):
        order = [(one.name, prompt.problem.id) for one in sets for prompt in one.prompts]
        if missing := [key for key in order if key not in file.groups]:
            if done := len(order) - len(missing):
                say(f"{done} of {len(order)} problems are there already")
            _sample(config, inputs, sets, file, scorer)
        file.rewrite(order)
        result = {
            "model": {"path": str(inputs.model_folder), **identity["model"]},
            "settings": {**identity["settings"], "confidence": config.confidence},
            "data": {one.name: {"from": one.label, **identity["data"][one.name]} for one in sets},
            "versions": identity["versions"],
            "git_hash": git_hash(),
            **report(file.groups, config.confidence),
        }
        files: dict[Path, Any] = {folder / RESULT: result}
        if config.pass_rates:
            files[Path(config.pass_rates)] = pass_rate_rows(file.groups.items())
        write_atomically(files)
    return folder, result


def load_sets(config: EvalConfig) -> tuple[list[ProblemSet], Inputs, dict[str, Any]]:
    """Problems, model folder and prompts, all checked before an engine is started.

    Returns:
        The sets, what engines start from, and the template's name and text.

    Raises:
        UserError: one of them cannot be used.
    """
    from grpo.learner.model_folder import (
        check_model,
        embedding_rows,
        end_token_ids,
        load_tokenizer,
        model_folder,
        pad_token_id,
    )
    from grpo.rollout.prompts import (
        check_lengths,
        check_rewards,
        check_tokens,
        make_prompts,
        make_template,
    )

    problems: dict[str, tuple[str, str, list[Problem]]] = {}
    with config.rewards.scorer() as scorer:
        for name, source in data_sources(config).items():
            found = load(source, name=f"sources.{name}", seed=0, split="held_out")
            digest = _digest(source, found)
            found = found[: config.num_problems]
            check_rewards(found, scorer, f"sources.{name}", config.max_response_tokens)
            problems[name] = (source.label, digest, found)
    train = engine_config(config)
    if config.runtime == "ray":
        from grpo.runtime.ray.cluster import check_machine

        check_machine(train, with_learner=False)
    try:
        folder = model_folder(train.model, say)
    except UserError as error:  # in a recipe the setting has another name
        raise UserError(str(error).replace("model.path=", "model=")) from None
    tokenizer, context = load_tokenizer(folder), check_model(folder)
    try:
        template = make_template(train.data, tokenizer)
    except UserError as error:
        raise UserError(str(error).replace("data.template=", "template=")) from None
    sets = [
        ProblemSet(
            name=name,
            label=label,
            sha256=digest,
            prompts=make_prompts(found, template, tokenizer),
        )
        for name, (label, digest, found) in problems.items()
    ]
    prompts = [prompt for one in sets for prompt in one.prompts]
    check_tokens(prompts, embedding_rows(folder))
    limits = {"max_response_tokens": config.max_response_tokens}
    check_lengths(prompts, limits, context, "the context of the model")
    longest = max(len(prompt.token_ids) for prompt in prompts)
    max_model_len = config.rollout.max_model_len or longest + config.max_response_tokens
    check_lengths(prompts, limits, max_model_len, "rollout.max_model_len")
    inputs = Inputs(
        model_folder=str(folder),
        prompts=[],
        held_out=prompts,
        sampling=SamplingSettings(
            num_samples=config.n,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_response_tokens,
            stop=template.stop,
            cut=template.cut,
            seed=config.seed,
            prompt_opens_think=template.opens_think,
        ),
        pad_token_id=pad_token_id(folder, tokenizer),
        end_token_ids=end_token_ids(folder, tokenizer),
        max_model_len=max_model_len,
    )
    return sets, inputs, {"name": config.template, "text": template.text}


def _digest(source: Any, problems: Sequence[Problem]) -> str:
    if isinstance(source, FileSource):
        return hashlib.sha256(Path(source.path).expanduser().read_bytes()).hexdigest()
    rows = "".join(json_line(problem.to_row()) + "\n" for problem in problems)
    return hashlib.sha256(rows.encode()).hexdigest()


def _weights(folder: str) -> str:
    from grpo.learner.model_folder import folder_sha256

    say("hash of the weights")
    return folder_sha256(Path(folder))


def _deciding_settings(
    config: EvalConfig, template: Mapping[str, Any], sampling: SamplingSettings
) -> dict[str, Any]:
    """Everything of the settings that can change a sample or its verdict. The number of engines and
    where they run cannot, but for the rounding of GPU kernels.
    """
    tree = config.model_dump(mode="json")
    keys = ("n", "temperature", "top_p", "max_response_tokens", "seed", "dtype", "float32_head")
    return {
        **{key: tree[key] for key in keys},
        "template": dict(template),
        "stop": list(sampling.stop),
        "cut": list(sampling.cut),
        "rewards": tree["rewards"]["components"],
    }


def output_folder(config: EvalConfig, model: str, identity: Mapping[str, Any]) -> Path:
    """`output_dir`, or a folder of its own for each model, data and settings. So the same command
    finds what it has done, and another one begins anew.
    """
    if config.output_dir is not None:
        return work_folder() / Path(config.output_dir).expanduser()
    text = json.dumps(identity, sort_keys=True)
    name = Path(model).name
    return work_folder() / "evals" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _sample(
    config: EvalConfig,
    inputs: Inputs,
    sets: Sequence[ProblemSet],
    file: SampleFile,
    scorer: Scorer,
) -> None:
    """Sample and store all problems that are not in the file yet, set by set."""
    started = time.perf_counter()
    with start_parts(engine_config(config), inputs, say, with_learner=False) as (rollouts, _):
        for one in sets:
            todo = [p for p in one.prompts if (one.name, p.problem.id) not in file.groups]
            if not todo:
                continue
            with Progress(one.name, len(one.prompts), len(one.prompts) - len(todo)) as progress:
                finished = partial(_store, one.name, inputs.sampling, scorer, file, progress)
                sample_groups(
                    todo,
                    inputs.sampling,
                    EVALUATION_STEP,
                    rollouts,
                    scorer,
                    finished=finished,
                )
    say(f"sampled in {time.perf_counter() - started:.0f} s")


def _store(
    name: str,
    settings: SamplingSettings,
    scorer: Scorer,
    file: SampleFile,
    progress: Progress,
    groups: Sequence[ScoredGroup],
) -> None:
    rows: list[list[Row]] = [sample_rows(name, group, settings, scorer) for group in groups]
    file.add(rows)
    progress.add(rows)
