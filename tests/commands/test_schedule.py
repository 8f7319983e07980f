"""`grpo schedule simulate` on records: what it prints, and what it refuses."""

import json
import subprocess
import sys

import pytest

from grpo.commands.main import main
from tests.stages.curves import deepscaler

SIMULATE = ["schedule", "simulate", "--config-name"]
TWO = "stages=[{name: a, until: {max_steps: 3}}, {name: b, until: {max_steps: 2}}]"


@pytest.fixture
def record(tmp_path):
    def write(rows):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_a_line_for_each_switch_and_a_summary(record, capsys):
    rows = [{"step": 0, "eval/sampled/reward": 0.1}, *({"step": n} for n in range(1, 9))]
    rows.insert(4, {"step": 3, "eval/sampled/reward": 0.3})  # an evaluation has its own row
    assert main([*SIMULATE, "tiny", "--metrics", record(rows), TWO]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "step=3 from=a to=b reason=3 of 3 steps",
        "step=5 from=b to=end reason=2 of 2 steps",
        "steps=5 switches=2 stage=b steps_in_stage=2",
    ]


def test_the_published_recipe_switches_without_a_model_or_data(record, capsys):
    rows = [{"step": n, **row} for n, row in enumerate(deepscaler(0, 1150), start=1)]
    assert main([*SIMULATE, "deepscaler_1.5b", "--metrics", record(rows)]) == 0
    switch, summary = capsys.readouterr().out.splitlines()
    step = int(switch.split()[0].removeprefix("step="))
    assert 950 <= step <= 1150
    assert switch.startswith(f"step={step} from=8k to=16k reason=truncation_share is 0.06")
    # the best 20 steps of the reward lie before the switch
    assert "; the best checkpoint is step" in switch
    assert summary == f"steps=1150 switches=1 stage=16k steps_in_stage={1150 - step}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny"], "stages: recipe 'tiny' has none"),
        (["tiny", "stages=[{name: a}, {name: b}]"], "stages.0.until: missing"),
        (["tiny", "stages=[{name: a, until: {max_step: 3}}]"], "did you mean 'max_steps'?"),
        (
            ["tiny", "stages=[{name: a, until: {above: [rewrd, 0, 8]}}]"],
            "'rewrd', which no step has; did you mean 'reward'?",
        ),
        (
            ["tiny", "checkpoint.every=-1", TWO],
            "checkpoint.every=-1: must be at least 0",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(record, capsys, arguments, message):
    path = record([{"step": n, "reward": 1.0} for n in range(1, 12)])
    assert main([*SIMULATE, *arguments, "--metrics", path]) == 78
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["no json\n", '{"reward": 1}\n', "3\n"])
def test_a_file_that_is_no_record_is_refused(tmp_path, capsys, text):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert main([*SIMULATE, "tiny", TWO, "--metrics", str(path)]) == 78
    assert "not a record with a `step` in every row" in capsys.readouterr().err


def test_an_unknown_action_is_refused(record, capsys):
    assert main(["schedule", "simulat", "--config-name", "tiny", "--metrics", record([])]) == 78
    assert "did you mean 'simulate'?" in capsys.readouterr().err


def test_it_needs_no_torch():
    code = (
        "import sys, grpo.commands.schedule; assert not {'torch', 'ray', 'vllm'} & {*sys.modules}"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
