"""A recorded run is done again by `grpo verify` and `grpo replay`, each in a fork of the warm
process.
"""

from __future__ import annotations

import json
import math

import pytest

from grpo.tracking.chain import check_record, read_chain
from tests.models import SMALL_MODEL
from tests.stack import warm
from tests.stack.conftest import OVERRIDES

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "run"
    done = warm.run(
        "grpo.train",
        *("--config-name", "tiny", *OVERRIDES, f"model.path={SMALL_MODEL}"),
        *("runtime=in_process", "learner.num_ranks=1", "trainer.max_steps=3", "evaluation.every=0"),
        *("evaluation.num_samples=1", "tracking.plots=false", "tracking.tensorboard=false"),
        *("checkpoint.every=2", "checkpoint.keep=2", f"output_dir={folder}"),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def test_norms_by_layer_make_the_norm_of_the_gradient(recorded):
    assert check_record(recorded)[0] is None
    links = read_chain(recorded)
    rows = [json.loads(line) for line in (recorded / "metrics.jsonl").read_text().splitlines()]
    norms = {row["step"]: row["grad_norm"] for row in rows if "grad_norm" in row}
    assert [link.step for link in links] == [0, 1, 2, 3]
    for link in links[1:]:
        total = math.sqrt(sum(norm**2 for norm in link.gradients.values()))
        assert total == pytest.approx(norms[link.step], rel=1e-5)
    summary = json.loads((recorded / "summary.json").read_text())
    assert summary["chain"] == links[-1].chain
    assert len({tuple(link.weights.items()) for link in links}) == 4  # each step moved them


def test_steps_done_again_are_the_same_to_the_last_bit(recorded):
    done = warm.run("grpo.commands.verify", recorded, "--at", 2)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "the same to the last bit: steps 1, 2" in done.stdout


def test_a_sample_made_again_shows_its_part_of_the_update(recorded):
    """The advantage of a sample is that of its record. Loss and norm are those of the step."""
    lines = (recorded / "rollouts/step_000002.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    index = max(range(len(rows)), key=lambda i: rows[i]["advantage"])
    assert rows[index]["advantage"] > 0
    done = warm.run("grpo.commands.replay", recorded, f"2.{index}.0")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"advantage: {rows[index]['advantage']:.6g}" in done.stdout
    assert "as recorded, to the last bit: 1 of 1 samples" in done.stdout
    # seq-mean-token-mean: minus the advantage over the number of samples, on-policy
    assert f"loss {-rows[index]['advantage'] / len(rows):.4g}"[:10] in done.stdout
    metrics = [json.loads(line) for line in (recorded / "metrics.jsonl").read_text().splitlines()]
    norm = next(r["grad_norm"] for r in metrics if r["step"] == 2 and "grad_norm" in r)
    assert f"beside {norm:.6g}" in done.stdout


def test_a_record_of_another_learning_rate_does_not_come_out_again(recorded, tmp_path):
    """A record that agrees with its own chain and was still not made by its recipe."""
    import shutil

    forged = tmp_path / "forged"
    shutil.copytree(recorded, forged)
    config = (forged / "config.yaml").read_text()
    (forged / "config.yaml").write_text(config.replace("lr: 0.001\n", "lr: 0.002\n"))
    done = warm.run("grpo.commands.verify", forged, "--at", 1)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-4000:]
    assert "step 1 comes out different, first in settings:" in done.stdout
    assert "lr: 0.001 against 0.002 (record against now)" in done.stdout
