import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grpo.config.schema import TrackingConfig, WandbConfig
from grpo.stages import Switch
from grpo.tracking import open_run
from grpo.tracking.trackers.wandb import ResolvedMode, WandbTracker
from tests.tracking import wandb_file
from tests.tracking.conftest import Example
from tests.tracking.example_run import GIT_HASH


@pytest.fixture
def log(example: Example) -> Path:
    (path,) = example.folder.glob("wandb/offline-run-*/*.wandb")
    return path


def test_the_offline_run_holds_every_step_under_its_panel_keys(log: Path):
    rows = [row for row in wandb_file.history(log) if "reward/mean" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["reward/mean"] for row in rows] == pytest.approx([0.625, 0.75, 0.875, 1.0])
    assert rows[3]["length/mean"] == 34.0 and rows[3]["reward/component_accuracy"] == pytest.approx(
        0.9
    )
    assert rows[0]["stage/number"] == "8k" and "policy/kl" not in rows[0]
    assert math.isnan(rows[1]["policy/loss"])


def test_evaluations_carry_metrics_and_a_sample_table(log: Path):
    rows = wandb_file.history(log)
    greedy = next(row for row in rows if "eval/greedy_accuracy" in row)
    assert greedy["step"] == 0 and greedy["eval/greedy_accuracy"] == pytest.approx(0.45)
    key = "eval/sampled_samples/path"
    tables = [(row["step"], row[key]) for row in rows if key in row]
    assert [step for step, _ in tables] == [0, 4]
    table = json.loads((log.parent / "files" / tables[1][1]).read_text())
    assert table["columns"] == ["prompt", "response", "accuracy", "reasons"]
    assert len(table["data"]) == 3 and table["data"][0][0] == "1+2*3="
    assert table["data"][0][1].endswith("</think>\n<answer>7</answer>")


def test_step_is_the_axis_of_every_metric(log: Path):
    metrics = [record.metric for record in wandb_file.records(log) if record.HasField("metric")]
    assert any(metric.name == "step" for metric in metrics)
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in metrics)


def test_recipe_git_hash_group_and_tags_are_there(log: Path):
    run = next(record.run for record in wandb_file.records(log) if record.HasField("run"))
    config = wandb_file.items(run.config.update)
    assert config["recipe"] == "tiny" and config["git_hash"] == GIT_HASH
    assert config["model"]["revision"] == GIT_HASH and config["model"]["hf_token"] == "[redacted]"
    assert (
        run.project == "grpo" and run.run_group == "examples" and list(run.tags) == ["tiny", "test"]
    )


def test_the_summary_holds_base_and_final(log: Path):
    summary: dict[str, object] = {}
    for record in wandb_file.records(log):
        if record.HasField("summary"):
            summary |= wandb_file.items(record.summary.update)
    assert summary["final/sampled/accuracy"] == pytest.approx(0.9)
    assert summary["base/sampled/worked_share"] == 0.3 and summary["secret_note"] == "[redacted]"


def test_a_service_that_fails_at_start_leaves_the_run_offline(tmp_path: Path):
    import wandb

    class Cut(WandbTracker):
        def _init(self, mode: ResolvedMode) -> Any:
            if mode == "online":
                raise wandb.errors.CommError("no route to host")
            return super()._init(mode)

    tracker = Cut(WandbConfig(), "online", tmp_path, {}, "tiny")
    tracker.start()
    tracker.log(1, {"reward/mean": 0.5})
    where = tracker.finish({"steps": 1})
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert where == f"wandb sync {log.parent} (offline, since the service failed: CommError)"
    wandb_file.wait_until_complete(log)
    assert wandb_file.history(log)[0]["reward/mean"] == 0.5


def test_the_ends_of_stages_are_a_table_with_names_and_reasons(tmp_path: Path):
    """The second end comes from another process of the run."""
    first = Switch(step=3, source="short", target="long", reason="3 of 3 steps")
    for at, switch in enumerate([first, replace(first, step=8, source="long", target=None)]):
        settings = TrackingConfig(wandb=WandbConfig(mode="offline"), tensorboard=False, plots=False)
        with open_run(tmp_path, {}, settings, "tiny", 9, None, goes_on=bool(at)) as run:
            run.log_switch(switch)
            run.close({})
    rows = []
    for log in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        wandb_file.wait_until_complete(log)
        rows += [(log.parent, row) for row in wandb_file.history(log)]
    assert [row["step"] for _, row in rows if row.get("stage/switch") == 1] == [3, 8]
    tables = [
        json.loads((folder / "files" / row["stage/switches/path"]).read_text())
        for folder, row in rows
        if "stage/switches/path" in row
    ]
    assert tables[0]["columns"] == ["step", "from", "to", "reason"]
    before = [3, "short", "long", "3 of 3 steps"]
    assert [table["data"] for table in tables] == [
        [before],
        [before, [8, "long", "end", "3 of 3 steps"]],
    ]


def test_a_record_that_cannot_be_read_costs_the_earlier_switches_alone(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "swi\n{"step": 2}\n')
    tracker = WandbTracker(WandbConfig(), "offline", tmp_path, {}, "tiny")
    tracker.start()
    tracker.log_switch(4, {"from": "a", "to": "b", "reason": "because"})
    tracker.finish(None)
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    wandb_file.wait_until_complete(log)
    (row,) = wandb_file.history(log)
    table = json.loads((log.parent / "files" / row["stage/switches/path"]).read_text())
    assert table["data"] == [[4, "a", "b", "because"]]
