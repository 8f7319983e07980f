"""Pipelines with stages that write their outputs at once: lineage, what a rerun skips, mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grpo.common.errors import LostError, RecipeError, UnhealthyError, UserError
from grpo.common.recipes import compose
from grpo.config import RECIPES
from grpo.config.pipeline import PipelineConfig
from grpo.pipeline import (
    Job,
    hydra_text,
    load_pipeline,
    locked,
    main,
    run_command,
    run_pipeline,
    sha256_of,
)
from tests.models import SMALL_MODEL, pretended_reward_model

STAGES = """
models: {base: {base: miniature}}
stages:
  - {name: cold, kind: sft, start: base, recipe: sft_tiny, overrides: [trainer.max_steps=8]}
  - {name: rl, kind: rl, start: cold, recipe: tiny, overrides: [trainer.max_steps=5]}
  - {name: drawn, kind: sample, start: rl, recipe: tiny, overrides: [batch.num_samples=4]}
  - {name: again, kind: sft, start: base, recipe: sft_tiny, examples: [drawn, more.jsonl]}
  - {name: measured, kind: evaluate, start: again, recipe: tiny}
"""
EVALUATIONS = {
    "base": {"sampled": {"accuracy": 0.25, "language_share": 0.75, "response_length": 10.0}},
    "final": {"sampled": {"accuracy": 0.5, "language_share": 1.0, "response_length": 20.0}},
}


class Pipeline:
    """A pipeline below a folder, whose stages are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "out"
        self.more = folder / "more.jsonl"
        self.more.write_text('{"messages": []}\n')
        self.recipe = folder / "mine.yaml"
        self.recipe.write_text(STAGES.replace("more.jsonl", str(self.more)))
        for name in ("tiny", "sft_tiny"):
            (folder / f"{name}.yaml").write_text((RECIPES / f"{name}.yaml").read_text())
        self.ran: list[str] = []
        self.loaded: dict[tuple[str, ...], tuple[PipelineConfig, list[Job]]] = {}
        self.fails: dict[str, BaseException] = {}

    def perform(self, job: Job) -> None:
        name = job.stage.name
        self.ran.append(name)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "begun").write_text("x")
        if name in self.fails:
            raise self.fails.pop(name)
        kept = {"problems": 4, "problems_kept": 3, "kept": 3, "kept_hinted": 0, "mean_tokens": 9.0}
        ways = {way: {"reasons": {"mixed_language": 2, "kept": 3}} for way in ("plain", "hinted")}
        averaged = {"weights": [1.0], "models_sha256": ["a"], "weights_sha256": "b"}
        summary = {"steps": 5, **EVALUATIONS, **kept, **ways, **averaged}
        (job.folder / "summary.json").write_text(json.dumps(summary))
        if job.output.name == "policy":
            job.output.mkdir(exist_ok=True)
            (job.output / "model.safetensors").write_text(f"weights of {name}")
        elif job.output.name == "result.json":
            one = {"accuracy": 0.75, "mean_length": 20.0}
            job.output.write_text(json.dumps({"sets": {"held_out": one}}))
        else:
            job.output.write_text("{}\n")
            (job.folder / "pairs.jsonl").write_text("{}\n")

    def run(self, *overrides: str) -> list[str]:
        """Names of the stages that ran."""
        self.ran = []
        given = [f"output_dir={self.place}", *overrides]
        # Composing six recipes is what costs, and the same text gives the same jobs.
        key = (self.recipe.read_text(), *given)
        if key not in self.loaded:
            self.loaded[key] = load_pipeline("mine", given, self.folder)
        run_pipeline("mine", *self.loaded[key], self.perform)
        return self.ran

    def record(self) -> dict:
        return json.loads((self.place / "pipeline.json").read_text())["stages"]


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path)


ALL = ["cold", "rl", "drawn", "again", "measured"]


def test_lineage_says_who_started_from_whom_with_the_hashes(pipeline):
    assert pipeline.run() == ALL
    record = pipeline.record()
    assert [record[name]["start"] for name in ALL] == ["base", "cold", "rl", "base", "again"]
    assert record["rl"]["inputs"]["stages"]["cold"]["output"] == record["cold"]["output"]
    assert set(record["again"]["inputs"]["stages"]) == {"drawn"}  # and not the RL policy
    assert record["again"]["inputs"]["files"] == {str(pipeline.more): sha256_of(pipeline.more)}
    policy = f"model.path='{pipeline.place}/cold/policy'"
    assert policy in record["rl"]["command"]
    assert "model.base='miniature'" in record["again"]["command"]


def test_the_table_has_what_each_stage_gained(pipeline, capsys):
    pipeline.run()
    table = (pipeline.place / "pipeline.md").read_text()
    assert "| cold | sft | base | 5 | 0.25 -> 0.5 | 0.75 -> 1 | 10 -> 20 |  |" in table
    assert (
        "| drawn | sample | rl |  |  |  |  | kept 3, of 3 of 4 problems; 4 of mixed language |"
        in table
    )
    assert "| measured: held_out | evaluate | again |  | 0.75 |  | 20 |  |" in table
    assert "| format |" not in table  # which no stage has measured
    assert table in capsys.readouterr().out


def test_a_rerun_without_a_change_runs_nothing(pipeline):
    pipeline.run()
    before = pipeline.record()
    assert pipeline.run() == []
    assert pipeline.record() == before


@pytest.mark.parametrize(
    ("old", "new", "ran"),
    [
        ("trainer.max_steps=5", "trainer.max_steps=6", ALL[1:]),
        ("batch.num_samples=4", "batch.num_samples=2", ALL[2:]),
        ("trainer.max_steps=5", "trainer.max_steps=5, tracking.plots=false", []),
    ],
)
def test_a_changed_stage_runs_again_with_all_that_depend_on_it(pipeline, old, new, ran):
    pipeline.run()
    text = pipeline.recipe.read_text()
    assert text.count(old) == 1
    pipeline.recipe.write_text(text.replace(old, new))
    assert pipeline.run() == ran
    aside = sorted(path.name for path in (pipeline.place).glob("previous/*/*"))
    assert aside == sorted(ran)
    assert pipeline.run() == []


def test_a_changed_file_or_a_damaged_output_runs_its_stage_again(pipeline):
    pipeline.run()
    pipeline.more.write_text('{"messages": [1]}\n')
    assert pipeline.run() == ["again", "measured"]
    (pipeline.place / "drawn" / "examples.jsonl").write_text("")
    # The same output comes back, so what depends on it has not changed.
    assert pipeline.run() == ["drawn"]


def test_a_reward_model_that_is_exchanged_in_its_folder_runs_its_stage_again(pipeline):
    judge = pipeline.folder / "judge"
    judge.mkdir()
    kind = {"architectures": ["Qwen2ForSequenceClassification"], "id2label": {"0": "score"}}
    (judge / "config.json").write_text(json.dumps(kind))
    (judge / "tokenizer.json").write_text("{}")
    weights = judge / "model.safetensors"
    weights.write_text("first")
    text, old = pipeline.recipe.read_text(), "trainer.max_steps=5"
    reward = f"{{kind: preference, model: {judge}, weight: 1.0, rows: all}}"
    pipeline.recipe.write_text(text.replace(old, f'"+rewards.components.liked={reward}"'))
    assert pipeline.run() == ALL
    assert pipeline.record()["rl"]["inputs"]["reward_models"] == {str(judge): sha256_of(judge)}
    assert "reward_models" not in pipeline.record()["cold"]["inputs"]
    weights.write_text("other")
    assert pipeline.run() == ALL[1:]


def test_an_interrupted_stage_goes_on_in_its_folder(pipeline):
    pipeline.fails = {"rl": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    assert pipeline.record()["rl"]["state"] == "running"
    mark = pipeline.place / "rl" / "checkpoint"
    mark.write_text("step 3")
    assert pipeline.run() == ALL[1:]
    assert mark.read_text() == "step 3"


def test_an_interrupted_stage_that_was_changed_begins_again(pipeline):
    pipeline.fails = {"rl": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    (pipeline.place / "rl" / "checkpoint").write_text("step 3")
    text = pipeline.recipe.read_text()
    pipeline.recipe.write_text(text.replace("max_steps=5", "max_steps=6"))
    assert pipeline.run() == ALL[1:]
    assert not (pipeline.place / "rl" / "checkpoint").exists()


def test_stages_that_were_not_reached_keep_their_record(pipeline):
    pipeline.run()
    text = pipeline.recipe.read_text()
    pipeline.recipe.write_text(text.replace("max_steps=8", "max_steps=9"))
    pipeline.fails = {"cold": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    pipeline.recipe.write_text(text)
    # Only the first stage had been touched. It makes the same policy again.
    assert pipeline.run() == ["cold"]


def test_a_stage_without_its_output_is_no_finished_stage(pipeline):
    config, jobs = load_pipeline("mine", [f"output_dir={pipeline.place}"], pipeline.folder)
    with pytest.raises(RuntimeError, match="stage cold left no"):
        run_pipeline("mine", config, jobs, lambda job: None)
    assert pipeline.record()["cold"]["state"] == "running"


LONG2SHORT = """
models: {{base: {{base: miniature}}, other: {{path: {other}}}}}
stages:
  - {{name: long, kind: rl, start: base, recipe: tiny}}
  - {{name: drawn, kind: sample, start: long, recipe: tiny, overrides: [rejection.pairs=true]}}
  - name: short
    kind: sft
    start: long
    recipe: sft_tiny
    pairs: [drawn]
    overrides: ["dpo={{beta: 0.2}}"]
  - {{name: mean, kind: average, models: [long, short, other], weights: [0.5, 0.25, 0.25]}}
  - {{name: measured, kind: evaluate, start: mean, recipe: tiny}}
"""


@pytest.fixture
def long2short(pipeline):
    other = pipeline.folder / "other"
    other.mkdir()
    (other / "model.safetensors").write_text("weights")
    pipeline.recipe.write_text(LONG2SHORT.format(other=other))
    return pipeline


def test_pairs_and_averages_are_stages_with_their_lineage(long2short):
    assert long2short.run() == ["long", "drawn", "short", "mean", "measured"]
    record, place = long2short.record(), long2short.place
    assert f"data.train=['{place}/drawn/pairs.jsonl']" in record["short"]["command"]
    assert record["short"]["examples"] == ["drawn"]
    other = long2short.folder / "other"
    models = f"models=['{place}/long/policy', '{place}/short/policy', '{other}']"
    command = ["grpo", "average", models, "weights=[0.5, 0.25, 0.25]", f"output_dir='{place}/mean'"]
    assert record["mean"]["command"] == command
    assert record["mean"]["start"] == "long + short + other"
    assert set(record["mean"]["inputs"]["stages"]) == {"long", "short"}
    assert record["mean"]["inputs"]["models"] == [sha256_of(other)]
    assert long2short.run() == []
    # Other pairs of the same examples are another output.
    (place / "drawn" / "pairs.jsonl").write_text('{"changed": 1}\n')
    assert long2short.run() == ["drawn"]
    (other / "model.safetensors").write_text("other weights")
    assert long2short.run() == ["mean", "measured"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.1.overrides=[]", "stages.short.pairs: stage drawn makes no pairs; set rejection"),
        ("stages.2.examples=[drawn]", "examples and pairs: a stage learns from one of them"),
        ("stages.2.pairs=[long]", "stages.short.pairs: stage long is of kind rl"),
        ("stages.1.pairs=[x]", "stages.drawn.pairs=['x']: only kind=sft learns from pairs"),
        ("stages.2.weights=[1]", "stages.short.weights=[1.0]: only kind=average looks at it"),
        ("stages.3.models=[long, shrt, other]", "stages.mean.models=shrt: neither a name of"),
        ("stages.3.models=[long, short, base]", "stages.mean.models=base: models.base has no path"),
        ("stages.3.weights=[1, 1, 1]", "weights=[1.0, 1.0, 1.0]: their sum is 3"),
        ("stages.3.recipe=tiny", "stages.mean.recipe: kind=average does not look at it"),
        ("stages.4.start=''", "stages.measured.start=: neither a name of models"),
    ],
)
def test_a_mistake_of_pairs_and_averages_is_refused_with_its_name(long2short, override, message):
    with pytest.raises(RecipeError) as caught:
        load_pipeline("mine", [override], long2short.folder)
    assert message in str(caught.value)


def test_two_pipelines_never_work_in_one_folder(pipeline):
    with (
        locked(pipeline.place),
        pytest.raises(UserError, match="another pipeline works in it"),
    ):
        pipeline.run()


def test_all_mistakes_of_all_stages_come_at_once(pipeline, capsys):
    text = pipeline.recipe.read_text()
    for old, new in {
        "max_steps=8": "max_stepz=8",
        "start: cold, recipe: tiny,": "start: clod, recipe: tiny,",
        "batch.num_samples=4": "output_dir=elsewhere",
        "start: again, recipe: tiny": "start: drawn, recipe: tinny",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    pipeline.recipe.write_text(text.replace(str(pipeline.more), "gone.jsonl"))
    assert main(["--config-name", "mine", "--config-dir", str(pipeline.folder)]) == 78
    told = capsys.readouterr().err
    assert "stages.cold: trainer.max_stepz: unknown key; did you mean 'max_steps'?" in told
    assert "stages.rl.start=clod: neither a name of models nor an earlier stage" in told
    assert "stages.drawn.overrides: output_dir=elsewhere: the pipeline sets output_dir" in told
    assert "stages.measured: recipe=" in told
    assert "tinny: no such recipe" in told
    assert "stages.measured.start=drawn: neither a name of models nor" in told
    assert "stages.again: examples=gone.jsonl: no such file" in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.base={}", "models.base.path=None, models.base.base=None: set exactly one"),
        ("models.base.path=x", "set exactly one"),
        ("stages.1.name=cold", "stages.cold: two stages have this name"),
        ("stages.0.name=base", "stages.base: models.base has this name too"),
        ("stages.0.name=a/b", "stages.0.name"),
        ("stages.2.kind=smple", "did you mean 'sample'?"),
        ("stages.1.examples=[cold]", "stages.rl.examples=['cold']: only kind=sft learns"),
        ("stages.1.recipe=null", "stages.rl.recipe: missing; kind=rl needs one"),
        ("stages.4.overrides=['model=x']", "model=x: the pipeline sets model"),
        ("stages.4.overrides=['data=[aime24]']", "stages.measured: data=aime24: eval_sets has no"),
        ("stages.3.examples=[rl]", "stages.again.examples: stage rl is of kind rl"),
        ("stages.3.overrides=['data.train=x']", "data.train=x: examples sets data.train"),
        ("overrides=['model.path=x']", "overrides: model.path=x: the pipeline sets model.path"),
    ],
)
def test_a_mistake_is_refused_with_its_name(pipeline, override, message):
    with pytest.raises(RecipeError) as caught:
        load_pipeline("mine", [override], pipeline.folder)
    assert message in str(caught.value)


def test_values_reach_a_stage_as_they_are_written(tmp_path):
    for name in ("p", "with spaces", "it's", "a=b, [c]"):
        value = {"path": str(tmp_path / name), "list": [1, 2.5, None, True], "deep": {"x": "y"}}
        (tmp_path / "empty.yaml").write_text("{}")
        assert compose("empty", [f"key={hydra_text(value)}"], tmp_path) == {"key": value}


def test_a_folder_is_hashed_by_names_and_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    assert sha256_of(tmp_path / "a") is None
    (tmp_path / "a" / "x").write_text("1")
    first = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, second, sha256_of(tmp_path / "a")}) == 3


@pytest.mark.parametrize(
    ("code", "error"), [(78, UserError), (76, UnhealthyError), (75, LostError), (70, RuntimeError)]
)
def test_the_exit_code_of_a_stage_becomes_that_of_the_pipeline(
    pipeline, monkeypatch, tmp_path, code, error
):
    (tmp_path / "stage").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "stage").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "stage"))
    _, jobs = load_pipeline("mine", [f"output_dir={pipeline.place}"], pipeline.folder)
    with pytest.raises(error, match="stage cold"):
        run_command(jobs[0])


def test_sigterm_ends_the_stage_too(tmp_path):
    """The stage writes down that SIGTERM reached it, and the pipeline waits for that."""
    stage = tmp_path / "stage"
    stage.write_text(
        f"#!/bin/sh\ntrap 'echo ended > {tmp_path}/told; exit 143' TERM\n"
        f"touch {tmp_path}/begun\nwhile :; do sleep 0.05; done\n"
    )
    stage.chmod(0o755)
    code = (
        "import sys; from grpo.pipeline import main; sys.executable = sys.argv[1]; "
        "sys.exit(main(['--config-name', 'r1_pipeline_tiny', 'output_dir=' + sys.argv[2]]))"
    )
    pipeline = subprocess.Popen(
        [sys.executable, "-c", code, str(stage), str(tmp_path / "out")], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pipeline.send_signal(signal.SIGTERM)
    assert pipeline.wait(timeout=60) == 143
    assert (tmp_path / "told").read_text() == "ended\n"


@pytest.mark.stack
def test_after_ctrl_c_in_a_stage_the_same_command_goes_on_to_the_end(tmp_path):
    """One stage of fine-tuning for real, without engines: its table has no evaluation."""
    shape = "arithmetic: {lengths: [3], max_term: 9}"
    overrides = [
        *("runtime=in_process", "learner.num_ranks=1", "data.held_out=null", "rewards=null"),
        f"data.train.options={{num_examples: 64, {shape}}}",
        f"data.held_out_examples.options={{num_examples: 4, {shape}}}",
        *("batch.num_examples=2", "trainer={max_steps: 60}", "evaluation={every: 0}"),
        *("tracking.plots=false", "tracking.tensorboard=false", "tracking.wandb.mode=disabled"),
    ]
    stage = {"name": "only", "kind": "sft", "start": "base", "recipe": "sft_tiny"}
    whole = {"models": {"base": {"path": str(SMALL_MODEL)}}, "overrides": overrides}
    (tmp_path / "one.yaml").write_text(json.dumps(whole | {"stages": [stage]}))
    # Started by a job in the background, it would ignore the signal.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from grpo.pipeline import main; sys.exit(main(sys.argv[1:]))"
    )
    for name in ("sft_tiny.yaml", "model"):
        (tmp_path / name).symlink_to(RECIPES / name)
    out = tmp_path / "out"
    recipe = ["--config-name", "one", "--config-dir", str(tmp_path), f"output_dir={out}"]
    told, codes = tmp_path / "told", []
    for attempt in (1, 2):
        with told.open("a") as log:
            pipeline = subprocess.Popen(
                [sys.executable, "-c", code, *recipe], stdout=log, stderr=log
            )
        metrics = out / "only" / "metrics.jsonl"
        while attempt == 1 and pipeline.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= 5:
                pipeline.send_signal(signal.SIGINT)
                break
            time.sleep(0.05)
        codes.append(pipeline.wait(timeout=400))
    assert codes == [75, 0], told.read_text()[-3000:]
    assert "goes on (sft from base)" in told.read_text()
    assert json.loads((out / "only/summary.json").read_text())["steps"] == 60
    assert "| only | sft | base | 60 |" in (out / "pipeline.md").read_text()


@pytest.mark.parametrize("recipe", sorted(p.stem for p in RECIPES.glob("*_pipeline_*.yaml")))
def test_every_pipeline_recipe_loads_and_fine_tunes_the_base_again(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cold_start", "other", "problems", "all_problems", "held_out"):
        (tmp_path / f"{name}.jsonl").write_text("")
    given = ["models.base.path=a", "models.student.path=b"] if recipe.endswith("7b") else []
    _, jobs = load_pipeline(recipe, given)
    starts = {job.stage.name: job.stage.start for job in jobs}
    assert starts["sft_again"] == starts["cold_start"] == "base"
    assert starts["samples"] == "reasoning_rl"
    assert starts["student_sft"] == starts["student_rl"] == "student"


def test_the_last_stage_of_r1_takes_reward_models(tmp_path, monkeypatch):
    """The three overrides that stand there as a comment."""
    monkeypatch.chdir(tmp_path)
    for name in ("cold_start", "other", "problems", "all_problems", "held_out"):
        (tmp_path / f"{name}.jsonl").write_text("")
    text = (RECIPES / "r1_pipeline_qwen2.5_7b.yaml").read_text()
    for line in ("+preferences=r1", "rewards.components.harmless.model=FOLDER"):
        assert f"      # - {line}\n" in text
    recipe = tmp_path / "with_models.yaml"
    recipe.write_text(text.replace("      # - ", "      - ").replace("model=FOLDER", "model=judge"))
    for name in ("r1_zero_qwen2.5_7b.yaml", "sft_qwen2.5_7b.yaml"):
        (tmp_path / name).symlink_to(RECIPES / name)
    given = ["models.base.path=a", "models.student.path=b"]
    with pytest.raises(
        UserError, match=r"rewards\.components\.helpful\.model=judge: no such folder"
    ):
        load_pipeline("with_models", given, tmp_path)
    pretended_reward_model(tmp_path / "judge")
    _, jobs = load_pipeline("with_models", given, tmp_path)
    (final,) = (job for job in jobs if job.stage.name == "final_rl")
    components = final.config.rewards.components
    assert {*components} == {"accuracy", "language_consistency", "helpful", "harmless"}
    assert components["helpful"]["reads"] == "summary"
    assert components["harmless"]["rows"] == "unverifiable"
