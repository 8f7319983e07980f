"""A pipeline: stages of fine-tuning, RL and sampling, each started from what an earlier one made.

    grpo pipeline --config-name r1_pipeline_tiny

Every stage is a command of `grpo` with a recipe of its own, run in its own process and folder. So a
stage can be run again by hand, with the command that `pipeline.json` has. That file also says who
started from whom, with the SHA-256 of everything that a stage depends on.

A pipeline that is started again skips what is finished and unchanged, goes on with the stage that
was interrupted, and runs a changed stage again together with everything that depends on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.errors import (
    EXIT_CONFIG,
    EXIT_RETRY,
    EXIT_UNHEALTHY,
    LostError,
    RecipeError,
    Stopped,
    UnhealthyError,
    UserError,
)
from grpo.common.files import write_atomically
from grpo.common.recipes import compose, hydra_text, read
from grpo.common.signals import name_of
from grpo.config.average import AverageConfig, load_average_config
from grpo.config.evaluation import EvalConfig, data_sources, load_eval_config
from grpo.config.load import RECIPES, load_config, load_sample_config, load_sft_config
from grpo.config.pipeline import Kind, PipelineConfig, PipelineStage, pipeline_problems
from grpo.config.sample import SampleConfig
from grpo.config.schema import RunConfig

RECORD, TABLE = "pipeline.json", "pipeline.md"
PAIRS = "pairs.jsonl"  # what a stage of kind `sample` leaves besides, where pairs are wanted
# The verb of `grpo`, and what it leaves in the folder of its stage.
_VERBS: dict[Kind, str] = {
    "sft": "sft",
    "rl": "train",
    "sample": "sample",
    "evaluate": "eval",
    "average": "average",
}
_OUTPUTS: dict[Kind, str] = {
    "sft": "policy",
    "rl": "policy",
    "sample": "examples.jsonl",
    "evaluate": "result.json",
    "average": "policy",
}
# Settings that decide nothing of what a stage makes.
_FREE = ("output_dir", "resume", "allow_config_change", "tracking", "cluster", "health")
Config = RunConfig | EvalConfig | AverageConfig
# Columns of the table, of those that some stage has measured.
_SHOWN = ("accuracy", "format", "language_share", "one_language_share", "response_length")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A stage that is ready to run."""

    stage: PipelineStage
    folder: Path
    config: Config  # its recipe, checked, with everything that the pipeline sets
    command: tuple[str, ...]  # the arguments of `grpo`
    depends_on: tuple[str, ...]  # stages whose outputs it reads

    @property
    def output(self) -> Path:
        """What later stages take from it: a model folder, or a file."""
        return self.folder / _OUTPUTS[self.stage.kind]

    @property
    def origin(self) -> str:
        """The model that it starts from, or those that it averages."""
        return self.stage.start or " + ".join(self.stage.models)


Record = dict[str, Any]  # of a stage in pipeline.json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a pipeline from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo pipeline", "Stages of fine-tuning, RL and sampling, one after the other.")
    add_recipe(parser)
    args = parser.parse(arguments)
    config, jobs = load_pipeline(args.config_name, args.overrides, args.config_dir)
    run_pipeline(args.config_name, config, jobs)
    return 0


# --- what is to be done -------------------------------------------------------------------------


def load_pipeline(
    name: str, overrides: Sequence[str], folder: Path | None = None
) -> tuple[PipelineConfig, list[Job]]:
    """A pipeline and its stages, all of them checked. Nothing is started.

    Raises:
        UserError: no such recipe, or an override that Hydra's grammar refuses.
        RecipeError: everything that is wrong with the pipeline and with the recipes of its stages.
    """
    jobs: list[Job] = []

    def problems(config: PipelineConfig) -> list[str]:
        found, wrong = plan(name, config, folder)
        jobs[:] = found
        return [*pipeline_problems(config), *wrong]

    tree = compose(name, overrides, folder or RECIPES, RECIPES)
    return read(PipelineConfig, tree, name, problems), jobs


def plan(
    name: str, config: PipelineConfig, recipes: Path | None = None
) -> tuple[list[Job], list[str]]:
    """The stages as commands, and what is wrong with their recipes.

    Args:
        name: of the pipeline.
        config: of the pipeline.
        recipes: the folder of its stages' recipes.
    """
    place = folder_of(name, config)
    jobs: dict[str, Job] = {}
    outputs: dict[str, str] = {}
    problems: list[str] = []
    for stage in config.stages:
        where, own = f"stages.{stage.name}", place / stage.name
        # What is no stage is a file.
        examples = [outputs.get(name, name) for name in stage.examples]
        for sampled in stage.pairs:
            job = jobs.get(sampled)
            examples.append(sampled if sampled not in outputs else str(place / sampled / PAIRS))
            drawn = None if job is None else job.config
            if isinstance(drawn, SampleConfig) and not drawn.rejection.pairs:
                problems.append(
                    f"{where}.pairs: stage {sampled} makes no pairs; set rejection.pairs=true in "
                    "its overrides"
                )
        outputs[stage.name] = str(own / _OUTPUTS[stage.kind])
        model = config.models.get(stage.start)
        path, base, options = (
            (outputs.get(stage.start, "unset"), None, {})
            if model is None
            else (model.path, model.base, model.base_options)
        )
        if path is None and base is None:
            path = "unset"  # which is a problem of the pipeline already
        values: dict[str, Any] = {"path": path, "base": base, "base_options": options}
        command = [_VERBS[stage.kind]]
        overrides = list(stage.overrides)
        if stage.kind == "evaluate":
            # Its command has no other flags, and its settings of the model stand at the top.
            values = {"model": values.pop("path"), **values}
            own_recipe = [] if stage.recipe is None else [_recipe_path(stage.recipe, recipes)]
            overrides = [*(f"recipe={hydra_text(path)}" for path in own_recipe), *overrides]
        elif stage.kind == "average":
            named = {n: one.path for n, one in config.models.items() if one.path is not None}
            averaged = [outputs.get(n, named.get(n, "unset")) for n in stage.models]
            values = {"models": averaged}
            if stage.weights is not None:
                values["weights"] = list(stage.weights)
        elif stage.recipe is None:
            continue  # which is a problem of the pipeline already
        else:
            values = {f"model.{key}": value for key, value in values.items()}
            overrides = [*config.overrides, *overrides]
            command += ["--config-name", stage.recipe]
            command += [] if recipes is None else ["--config-dir", str(recipes)]
        if examples:
            values["data.train"] = examples
        values["output_dir"] = str(own)
        overrides += [f"{key}={hydra_text(value)}" for key, value in values.items()]
        try:
            settings = _load(stage, overrides, recipes)
            files = list(data_files(settings))
        except RecipeError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
            continue
        except UserError as error:
            problems.append(f"{where}: {error}")
            continue
        jobs[stage.name] = Job(
            stage=stage,
            folder=own,
            config=settings,
            command=(*command, *overrides),
            depends_on=tuple(
                n for n in (stage.start, *stage.models, *stage.examples, *stage.pairs) if n in jobs
            ),
        )
        for key, file in files:
            if not file.is_relative_to(place) and not file.exists():
                said = "pairs" if stage.pairs else "examples"
                shown = said if str(file) in examples else key
                problems.append(f"{where}: {shown}={file}: no such file; mend the path")
    return list(jobs.values()), problems


def _load(stage: PipelineStage, overrides: Sequence[str], recipes: Path | None) -> Config:
    """The checked settings of a stage.

    Raises:
        UserError: as the command of the stage would say.
    """
    if stage.kind == "evaluate":
        return load_eval_config(overrides)
    if stage.kind == "average":
        return load_average_config(overrides)
    assert stage.recipe is not None
    if stage.kind == "sft":
        return load_sft_config(stage.recipe, overrides, recipes)
    if stage.kind == "sample":
        return load_sample_config(stage.recipe, overrides, recipes)
    return load_config(stage.recipe, overrides, recipes)


def _recipe_path(recipe: str, recipes: Path | None) -> str:
    """How `grpo eval` is told of a recipe in another folder."""
    return recipe if recipes is None else str(recipes.absolute() / f"{recipe}.yaml")


def folder_of(name: str, config: PipelineConfig) -> Path:
    """The folder of a pipeline, as an absolute path."""
    from grpo.tracking.folder import run_path

    return run_path(config.output_dir or Path("runs") / name)


def data_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Setting and path of every file of problems or examples that a stage reads.

    Raises:
        UserError: an evaluation names a set that has no file.
    """

    def walk(tree: Any, key: str) -> Iterator[tuple[str, Path]]:
        if isinstance(tree, Mapping):
            for name, value in tree.items():
                yield from walk(value, f"{key}.{name}")
        elif isinstance(tree, list):
            for value in tree:
                yield from walk(value, key)
        elif isinstance(tree, str) and key.endswith((".path", ".files")):
            yield key, Path(tree)

    if isinstance(config, RunConfig):
        yield from walk(config.as_tree()["data"], "data")
        return
    if isinstance(config, AverageConfig):
        return
    for name, source in data_sources(config).items():
        yield from walk(source.model_dump(mode="json"), f"sources.{name}")


# --- what is done -------------------------------------------------------------------------------


def run_pipeline(
    name: str,
    config: PipelineConfig,
    jobs: Sequence[Job],
    perform: Callable[[Job], None] | None = None,
) -> Path:
    """Run the stages that have to run. Returns the folder of the pipeline.

    Args:
        name: of the recipe.
        config: of the pipeline.
        jobs: its stages, as `load_pipeline` returns them.
        perform: runs one stage and leaves its output; null runs its command in a new process.

    Raises:
        UserError: a stage that cannot run, or another pipeline in the folder.
        UnhealthyError: the numbers of a stage went wrong.
    """
    place = folder_of(name, config)
    with locked(place):
        before = read_record(place)
        records: dict[str, Record] = {}

        def write() -> None:
            # Stages that have not been reached yet keep what an earlier start wrote of them.
            later = {
                job.stage.name: before[job.stage.name]
                for job in jobs[len(records) :]
                if job.stage.name in before
            }
            write_atomically({place / RECORD: {"recipe": name, "stages": records | later}})

        for number, job in enumerate(jobs, start=1):
            stage, title = job.stage, f"stage {number} of {len(jobs)}, {job.stage.name}"
            inputs, old = inputs_of(job, records, place), before.get(stage.name, {})
            same = old.get("inputs") == inputs
            if same and old["state"] == "finished" and _output_sha256(job) == old["output"]:
                say(f"{title}: finished before, and nothing that it depends on has changed")
                records[stage.name] = old
                continue
            check_free(job)
            if same and old["state"] == "running":
                say(f"{title}: goes on ({stage.kind} from {job.origin})")
            else:
                move_aside(job.folder, place)
                say(f"{title}: {stage.kind} from {job.origin}")
            started = time.perf_counter()
            record: Record = {
                "kind": stage.kind,
                "start": job.origin,
                "examples": [*stage.examples, *stage.pairs],
                "command": ["grpo", *job.command],
                "inputs": inputs,
                "state": "running",
            }
            records[stage.name] = record
            write()
            (perform or run_command)(job)
            output = _output_sha256(job)
            if output is None:
                raise RuntimeError(f"stage {stage.name} left no {job.output}")
            record |= {
                "state": "finished",
                "output": output,
                "result": result_of(job),
                "seconds": round(time.perf_counter() - started, 1),
            }
            write()
        write()
        table = table_of(name, records)
        write_atomically({place / TABLE: table})
        print(table)
        say(f"the pipeline is in {place}")
    return place


def inputs_of(job: Job, records: Mapping[str, Record], place: Path) -> dict[str, Any]:
    """What a stage depends on, as hashes: settings, model and files, and for what another stage
    made, that stage's own inputs too.

    Args:
        job: the stage.
        records: of the stages before it, all finished.
        place: the folder of the pipeline. A pipeline that is moved stays the same.
    """
    settings = job.config.model_dump(mode="json")
    tree = {key: value for key, value in settings.items() if key not in _FREE}
    text = json.dumps(tree, sort_keys=True).replace(json.dumps(str(place))[1:-1], "PIPELINE")
    inputs: dict[str, Any] = {"settings": hashlib.sha256(text.encode()).hexdigest()}
    if isinstance(job.config, AverageConfig):
        inputs["models"] = [
            sha256_of(Path(path).expanduser())
            for name, path in zip(job.stage.models, job.config.models, strict=True)
            if name not in job.depends_on
        ]
    else:
        path = settings["model"] if job.stage.kind == "evaluate" else settings["model"]["path"]
        if path is not None and job.stage.start not in job.depends_on:
            inputs["model"] = sha256_of(Path(path))
        # Fine-tuning may have no rewards.
        rewards = [] if settings["rewards"] is None else settings["rewards"]["components"].values()
        judges = [options["model"] for options in rewards if options.get("kind") == "preference"]
        if judges:
            found = {judge: sha256_of(Path(judge).expanduser()) for judge in judges}
            inputs["reward_models"] = found
    inputs["stages"] = {
        name: {
            "inputs": hashlib.sha256(
                json.dumps(records[name]["inputs"], sort_keys=True).encode()
            ).hexdigest(),
            "output": records[name]["output"],
        }
        for name in job.depends_on
    }
    inputs["files"] = {
        str(file): sha256_of(file)
        for _, file in data_files(job.config)
        if not file.is_relative_to(place)
    }
    return inputs


def sha256_of(path: Path) -> str | None:
    """Of a file's bytes, or of the names and hashes of all files in a folder; None where there is
    nothing.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = "\n".join(f"{file.relative_to(path)} {sha256_of(file)}" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest() if files else None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _output_sha256(job: Job) -> str | None:
    found = sha256_of(job.output)
    if isinstance(job.config, SampleConfig) and job.config.rejection.pairs and found is not None:
        pairs = sha256_of(job.folder / PAIRS)
        return None if pairs is None else hashlib.sha256(f"{found} {pairs}".encode()).hexdigest()
    return found


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """No other pipeline works in the folder inside the block.

    Raises:
        UserError: one does, or the folder cannot be made.
    """
    from grpo.common.files import check_writable

    check_writable([place / RECORD])
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".claim").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"output_dir={place}: another pipeline works in it; wait for it, or name another "
                "folder"
            ) from None
        yield


def read_record(place: Path) -> dict[str, Record]:
    """The stages of pipeline.json; none where there is no such file.

    Raises:
        UserError: the file cannot be read.
    """
    file = place / RECORD
    try:
        stages: dict[str, Record] = json.loads(file.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: is no record of a pipeline; name another output_dir") from None
    return stages


def check_free(job: Job) -> None:
    """The process of a stage can outlive a pipeline that was killed.

    Raises:
        UserError: it is still at work.
    """
    from grpo.tracking.folder import read_state

    if read_state(job.folder).get("state") == "running":
        raise UserError(
            f"{job.folder}: a run still works in it; wait for it or stop it, then start the "
            "pipeline again"
        )


def move_aside(folder: Path, place: Path) -> None:
    """What a stage left before goes into `previous/TIME/` of the pipeline, whole."""
    if not folder.exists():
        return
    old = place / "previous" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    old.mkdir(parents=True)
    folder.rename(old / folder.name)
    say(f"what was in {folder} is now in {old}")


def run_command(job: Job) -> None:
    """Run a stage in a process of its own. Ctrl-C and SIGTERM end it as they would end it alone.

    Raises:
        UserError: the stage says that there is something to mend.
        UnhealthyError: its numbers went wrong.
        RuntimeError: any other failure.
    """
    # A group of its own: the terminal's Ctrl-C would reach it beside the signal below, and a second
    # signal ends a run without closing it.
    child = subprocess.Popen(
        [sys.executable, "-m", "grpo.commands.main", *job.command], process_group=0
    )
    try:
        code = child.wait()
    except BaseException as error:
        stop = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        os.kill(child.pid, stop)
        if child.wait() != EXIT_RETRY:
            raise
        raise Stopped(
            name_of(error), "the pipeline was stopped; the same command goes on in its stage"
        ) from None
    if code == EXIT_CONFIG:
        raise UserError(f"stage {job.stage.name} cannot run; what to mend stands above")
    if code == EXIT_RETRY:
        raise LostError(f"stage {job.stage.name} ended early; the reason stands above")
    if code == EXIT_UNHEALTHY:
        raise UnhealthyError(f"stage {job.stage.name}; the reason stands above")
    if code:
        raise RuntimeError(f"stage {job.stage.name} ended with exit code {code}")


# --- what came of it ----------------------------------------------------------------------------


def result_of(job: Job) -> dict[str, Any]:
    """What a finished stage came to, from the summary that it wrote."""
    file = job.output if job.stage.kind == "evaluate" else job.folder / "summary.json"
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if job.stage.kind == "evaluate":
        sets = {
            name: {"accuracy": one["accuracy"], "response_length": one["mean_length"]}
            for name, one in told["sets"].items()
        }
        return {"sets": sets}
    if job.stage.kind == "sample":
        keys = ("problems", "problems_kept", "kept", "kept_hinted", "mean_tokens")
        mixed = sum(told[way]["reasons"].get("mixed_language", 0) for way in ("plain", "hinted"))
        return {**{key: told[key] for key in keys}, "mixed_language": mixed}
    if job.stage.kind == "average":
        return {key: told[key] for key in ("weights", "models_sha256", "weights_sha256")}
    return {key: told[key] for key in ("base", "final", "steps")}


def table_of(name: str, records: Mapping[str, Record]) -> str:
    """What each stage gained, as a table in Markdown: sampled evaluations before -> after."""
    measured: list[tuple[str, Record, list[Mapping[str, float]]]] = []
    for stage, record in records.items():
        result = record["result"]
        sets = result.get("sets", {})
        measured += [(f"{stage}: {named}", record, [one]) for named, one in sets.items()]
        if not sets:
            # Fine-tuning without held-out problems samples nothing.
            evaluated = [result[key] for key in ("base", "final") if key in result]
            changes = [one["sampled"] for one in evaluated if "sampled" in one]
            measured.append((stage, record, changes))
    shown = [key for key in _SHOWN if any(key in one for *_, found in measured for one in found)]
    head = ["stage", "kind", "start", "steps", *(key.replace("_", " ") for key in shown)]
    rows = [[*head, "examples"], ["---"] * (len(head) + 1)]
    for title, record, found in measured:
        result, examples = record["result"], ", ".join(record["examples"])
        if record["kind"] == "sample":
            examples = (
                f"kept {result['kept']}, of {result['problems_kept']} of {result['problems']} "
                f"problems; {result['mixed_language']} of mixed language"
            )
        cells = [" -> ".join(f"{one[key]:.3g}" for one in found if key in one) for key in shown]
        steps = str(result.get("steps", ""))
        rows.append([title, record["kind"], record["start"], steps, *cells, examples])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"# {name}", "", *lines, ""])


def say(text: str) -> None:
    """A line about what is going on."""
    print(f"pipeline: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
