"""Which node gets which process: by the function alone, and by Ray on nodes with pretended GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from grpo.commands.dry_run import commands, environments, main, processes
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.runtime.ray.placement import Node, Unit, place, units

FILES = ["model.path=/m", "data.train.path=a.jsonl", "data.held_out.path=b.jsonl"]


def recipe(*overrides):
    return load_config("r1_zero_qwen2.5_7b", [*FILES, *overrides])


def nodes(count, gpus=8, cpus=64):
    return [Node(f"id{i}", f"10.0.0.{i}", cpus, gpus) for i in range(count)]


def test_one_node_of_eight_gpus_takes_the_recipe_as_it_is():
    found = processes(recipe(), nodes(1))
    assert [(p.kind, p.index, p.gpus) for p in found] == [
        *(("rank", i, (i,)) for i in range(4)),
        *(("engine", i, (4 + i,)) for i in range(4)),
    ]
    assert {p.node for p in found} == {"10.0.0.0"}


def test_on_four_nodes_ranks_fill_nodes_of_their_own_and_engines_take_the_others():
    asked = ["learner.num_ranks=16", "rollout.num_engines=8", "rollout.gpus_per_engine=2"]
    found = processes(recipe(*asked), nodes(4))
    where = {p.kind: [] for p in found}
    for p in found:
        where[p.kind].append((p.node, p.gpus))
    assert where["rank"] == [(f"10.0.0.{i // 8}", (i % 8,)) for i in range(16)]
    assert where["engine"] == [
        (f"10.0.0.{2 + i // 4}", (2 * (i % 4), 2 * (i % 4) + 1)) for i in range(8)
    ]


def test_ranks_take_the_tightest_node_that_holds_all_of_them():
    wanted = {"ranks": Unit(cpus=1, gpus=1, count=4), "engines": Unit(cpus=1, gpus=8, count=1)}
    uneven = [Node("big", "a", 64, 8), Node("small", "b", 64, 4)]
    placed = place(wanted, uneven)
    assert {role: {n.id for n in found} for role, found in placed.items()} == {
        "ranks": {"small"},
        "engines": {"big"},
    }


def test_engines_can_be_spread_and_what_does_not_fit_is_none():
    wanted = {"engines": Unit(cpus=1, gpus=1, count=5)}
    spread = place(wanted, nodes(3), spread_engines=True)
    assert Counter(n.id for n in spread["engines"]) == {"id0": 2, "id1": 2, "id2": 1}
    assert place({"engines": Unit(cpus=1, gpus=3, count=5)}, nodes(2)) is None  # two each node


def test_colocated_ranks_are_on_the_gpus_of_their_engines():
    asked = ["cluster.colocate=true", "rollout.gpus_per_engine=2", "learner.num_ranks=8"]
    found = processes(recipe(*asked), nodes(1))
    assert [p.gpus for p in found if p.kind == "rank"] == [(i,) for i in range(8)]
    assert [p.gpus for p in found if p.kind == "engine"] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert units(recipe(*asked), "cuda", with_learner=True)["pairs"].bundle == {"CPU": 3, "GPU": 2}
    variables = environments(recipe(*asked), "cuda")
    assert "PYTORCH_ALLOC_CONF" not in variables["rank"]
    apart = environments(recipe(), "cuda")
    assert apart["rank"]["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert apart["node"]["RAY_AUTH_MODE"] == "token"


def test_the_first_recipe_for_a_gpu_needs_one():
    config = load_config("gsm8k_qwen2.5_0.5b", FILES)
    found = processes(config, nodes(1, gpus=1))
    assert [(p.kind, p.index, p.gpus) for p in found] == [("rank", 0, (0,)), ("engine", 0, (0,))]
    with pytest.raises(UserError, match="do not fit on 1 nodes"):
        apart = load_config("gsm8k_qwen2.5_0.5b", [*FILES, "cluster.colocate=false"])
        processes(apart, nodes(1, gpus=1))


@pytest.mark.parametrize(
    ("asked", "gpus", "message"),
    [
        (["rollout.num_engines=5"], 8, r"do not fit on 1 nodes of 64 CPUs and 8 GPUs"),
        (["cluster.colocate=true", "rollout.num_engines=3"], 8, r"is not learner.num_ranks=4"),
        (["cluster.colocate=true"], 0, r"cluster.colocate=true: .* neither exists on CPU"),
        (["rollout.gpus_per_engine=0.5"], 8, r"engines cannot share a GPU"),
    ],
)
def test_a_plan_that_cannot_work_says_what_to_change(asked, gpus, message):
    with pytest.raises(UserError, match=message):
        processes(recipe(*asked), nodes(1, gpus))


def test_colocation_is_refused_in_a_recipe_for_cpu(capsys):
    for overrides in (["trainer.device=cpu"], ["runtime=in_process", "+shrink=tiny"]):
        with pytest.raises(UserError, match=r"cluster.colocate=true: .* neither exists on CPU"):
            recipe("cluster.colocate=true", *overrides)


def test_the_dry_run_prints_the_commands_of_every_node(capsys):
    asked = ["--nodes", "2", "--addresses", "10.0.0.7,10.0.0.8", "--config-name"]
    assert main([*asked, "r1_zero_qwen2.5_7b", *FILES]) == 0
    printed = capsys.readouterr().out
    for line in (
        "10.0.0.7         launch/ray_node.sh head",
        "10.0.0.8         launch/ray_node.sh worker 10.0.0.7",
        "rank 3   10.0.0.7         GPU 3",
        "engine 0   10.0.0.8         GPU 0",
        "ranks and engines meet at 10.0.0.7, on ports that the system chooses",
    ):
        assert line in printed.splitlines()
    (job,) = [text for where, text in commands(["a"], 8, FILES) if where == "anywhere"]
    assert job.startswith("RAY_ADDRESS=http://a:8265 launch/ray_job.sh model.path=/m")


ON_RAY = """
import json, os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"  # whatever token this user has
from grpo.config import load_config
from grpo.runtime.ray.cluster import actor_options, beside, reserve
import ray
from ray.cluster_utils import Cluster

fake = Cluster()
for _ in range(4):
    fake.add_node(num_cpus=64, num_gpus=8, include_dashboard=False)
os.environ["RAY_ADDRESS"] = fake.address

class Where:
    def ask(self):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return ray.get_runtime_context().get_node_id(), visible, ray.get_gpu_ids()

found = {}
for name, overrides in json.loads(sys.argv[1]).items():
    with reserve(load_config("r1_zero_qwen2.5_7b", overrides)) as cluster:
        roles = [r for r in (cluster.ranks, cluster.engines, cluster.pairs) if r]
        found[name] = {r.name: [n.id for n in r.nodes] for r in roles}
        role = cluster.pairs or cluster.engines
        options = actor_options(cluster, role, 1, {})
        engine = ray.remote(Where).options(**options).remote()
        answers = [ray.get(engine.ask.remote())]
        if cluster.pairs:
            rank = ray.remote(Where).options(**beside(options, str(answers[0][2][1]))).remote()
            answers.append(ray.get(rank.ask.remote()))
        found[name]["asked"] = answers
    os.environ["RAY_ADDRESS"] = fake.address
print(json.dumps(found))
os._exit(0)  # the end of four nodes takes long, and they end with their starter
"""


@pytest.mark.stack
def test_ray_places_as_the_dry_run_says():
    """On four nodes of eight GPUs that are not there."""
    asked = {
        "apart": ["learner.num_ranks=16", "rollout.num_engines=8", "rollout.gpus_per_engine=2"],
        "together": [
            "cluster.colocate=true",
            "rollout.num_engines=16",
            "learner.num_ranks=32",
            "rollout.gpus_per_engine=2",
        ],
    }
    overrides = {name: [*FILES, "trainer.device=gpu", *more] for name, more in asked.items()}
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, json.dumps(overrides)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "this cluster asks for no token" in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, given in overrides.items():
        config = load_config("r1_zero_qwen2.5_7b", given)
        expected = place(units(config, "cuda", with_learner=True), nodes(4))
        for role, places in expected.items():
            # The same nodes, whatever their names.
            names = dict(zip(found[name][role], (n.id for n in places), strict=True))
            assert [names[node] for node in found[name][role]] == [n.id for n in places]
            assert len(set(names.values())) == len(names)
    node, visible, gpus = found["apart"]["asked"][0]
    assert node == found["apart"]["engines"][1]
    assert visible == ",".join(map(str, gpus)) and len(gpus) == 2
    (node, visible, gpus), (rank_node, rank_visible, rank_gpus) = found["together"]["asked"]
    assert node == rank_node == found["together"]["pairs"][1]
    assert rank_visible == str(gpus[1]) and rank_gpus == []
