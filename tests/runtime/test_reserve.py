"""What a run does where a cluster has too little: at its first start, for a later stage, and after the
loss of a node. The nodes are told, and no Ray is started.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from grpo import run as training
from grpo.common import command_line
from grpo.common.errors import EXIT_CONFIG, EXIT_RETRY, LostError, UserError
from grpo.config import load_config
from grpo.runtime.ray import cluster
from grpo.runtime.ray.placement import Node, Unit
from grpo.train import main
from tests.models import SMALL_MODEL

TWO_OF_EACH = ["learner.num_ranks=2", "rollout.num_engines=2", "cluster.start_timeout_seconds=1"]
TWO_OF_EACH += ["learner.cpus_per_rank=1", "rollout.cpus_per_engine=1"]


@pytest.fixture
def nodes(monkeypatch):
    """CPUs of every node, by address. A test may change them."""
    cpus = {"10.0.0.1": 2.0, "10.0.0.2": 2.0}

    def living():
        return [
            {
                "NodeID": address,
                "NodeManagerAddress": address,
                "Alive": True,
                "Resources": {"CPU": count},
            }
            for address, count in cpus.items()
        ]

    def free():
        return {address: {"CPU": count} for address, count in cpus.items()}

    def total():
        return {"CPU": sum(cpus.values())}

    monkeypatch.setattr(cluster.ray, "nodes", living)
    monkeypatch.setattr(cluster.ray, "cluster_resources", total)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "available_resources_per_node", free)
    monkeypatch.setattr(cluster, "_connect", lambda config: False)
    monkeypatch.setattr(cluster, "_hold", lambda name, unit, at: cluster.Role(name, unit, at, None))
    monkeypatch.setattr(cluster, "remove_placement_group", lambda group: None)
    monkeypatch.setattr(cluster, "take_signals", lambda: None)
    monkeypatch.setattr(cluster, "GRANT_SECONDS", 0)
    return cpus


def reserve(*overrides, **options):
    """Reserve and let go; the exit code of a command that does so."""

    def command(arguments):
        with cluster.reserve(load_config("tiny", [*TWO_OF_EACH, *overrides]), **options):
            return 0

    return command_line.run(command, [])


def test_at_the_first_start_too_little_is_for_the_user_to_mend(nodes, capsys):
    assert reserve() == 0
    del nodes["10.0.0.2"]
    assert reserve() == EXIT_CONFIG
    assert "the recipe asks for 4 CPUs and the cluster has 2" in capsys.readouterr().err


def test_a_run_that_has_lost_a_node_waits_for_it_and_can_be_started_again(nodes, capsys):
    del nodes["10.0.0.2"]
    notices = []
    assert reserve(again=True, notice=notices.append) == EXIT_RETRY
    told = capsys.readouterr().err
    assert "asks for 4 CPUs and the cluster has 2" in told
    assert "cluster.start_timeout_seconds=1" in told
    assert "learner.num_ranks=... allow_config_change=[learner]" in told
    (notice,) = notices
    assert "asks for 4 CPUs" in notice and "is waited for" in notice


def test_a_node_that_comes_back_in_time_is_taken(nodes):
    del nodes["10.0.0.2"]

    def back(text):
        nodes["10.0.0.2"] = 2.0

    overrides = ["cluster.start_timeout_seconds=60"]
    assert reserve(*overrides, again=True, notice=back) == 0


def test_a_head_node_that_is_gone_is_waited_for_where_the_run_has_known_it(monkeypatch, capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert reserve(again=True) == EXIT_RETRY
    assert f"RAY_ADDRESS={address}: nothing answers there" in capsys.readouterr().err
    assert reserve() == EXIT_CONFIG
    monkeypatch.setenv("RAY_ADDRESS", "head")  # which was never an address
    assert reserve(again=True) == EXIT_CONFIG


def test_a_run_has_known_the_cluster_once_its_processes_have_started(monkeypatch):
    """In this process, or in one that has left a checkpoint."""
    asked = []

    def start_parts(*args, again, **named):
        asked.append(again)
        raise LostError("a node")

    monkeypatch.setattr(training, "start_parts", start_parts)
    run = SimpleNamespace(status=print, notice=print)
    missing = dict.fromkeys(("scorer", "checkpoints", "journal", "processes"))
    work = training.Training(
        config=load_config("tiny", []),
        inputs=None,
        state=SimpleNamespace(stage=0),
        run=run,
        **missing,
    )
    for start, commits in ((None, None), (None, "some"), ("a checkpoint", None)):
        work.commits = commits
        with pytest.raises(LostError):
            work.attempt(start)
    assert asked == [False, True, True]


# --- stages -------------------------------------------------------------------------------------

STAGES = (
    "stages=[{name: short, until: {max_steps: 1}}, {name: long, set: {learner.num_ranks: 1000}}]"
)


def start(tmp_path, *overrides):
    model = ["model.base=null", f"model.path={SMALL_MODEL}", "tracking.wandb.mode=disabled"]
    command = ["--config-name", "tiny", *model, f"output_dir={tmp_path}/run", *overrides]
    return main(command)


def test_a_stage_that_a_named_cluster_is_too_small_for_ends_the_start(
    nodes, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert start(tmp_path, STAGES, "batch.num_prompts=250") == EXIT_CONFIG
    told = capsys.readouterr().err
    assert "grpo: stages.long: the recipe asks for 501 CPUs and the cluster has 4" in told


def test_a_stage_that_this_machine_is_too_small_for_ends_the_start(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert start(tmp_path, STAGES, "batch.num_prompts=250") == EXIT_CONFIG
    told = capsys.readouterr().err
    assert "grpo: stages.long: the recipe asks for 501 CPUs and the cluster has" in told


def test_enough_in_all_is_too_little_where_no_node_is_large_enough():
    nodes = [Node(str(i), f"10.0.0.{i}", 8, 1) for i in range(2)]
    with pytest.raises(UserError, match=r"^stages\.b: cluster: 1 x .*'GPU': 2.* do not fit"):
        cluster.check_fits({"engines": Unit(cpus=1, gpus=2, count=1)}, nodes, where="stages.b: ")


# --- the device ---------------------------------------------------------------------------------


def test_what_cannot_work_on_the_device_of_this_machine_is_said_before_ray_starts(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster.ray, "init", lambda **_: pytest.fail("Ray was started"))

    def refused(*overrides):
        with pytest.raises(UserError) as caught, cluster.reserve(load_config("tiny", overrides)):
            pass
        return str(caught.value)

    monkeypatch.setattr(cluster.torch.cuda, "is_available", lambda: False)
    assert "cluster.colocate=true" in refused("cluster.colocate=true")
    monkeypatch.setattr(cluster.torch.cuda, "is_available", lambda: True)
    assert "learner.gpus_per_rank=2.0: NCCL takes one rank a GPU" in refused(
        "learner.gpus_per_rank=2"
    )
    assert "learner.zero_stage=0" in refused("learner.zero_stage=0")


def test_what_cannot_work_on_the_device_is_said_with_the_stage(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cluster.torch.cuda, "device_count", lambda: 8)
    stages = "stages=[{name: a, until: {max_steps: 1}}, {name: b, set: {learner.gpus_per_rank: 2}}]"
    assert start(tmp_path, stages) == EXIT_CONFIG
    assert "grpo: stages.b: learner.gpus_per_rank=2.0: NCCL takes" in capsys.readouterr().err
