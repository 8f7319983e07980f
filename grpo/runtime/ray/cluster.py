"""A Ray cluster: the one that RAY_ADDRESS or the recipe names, or a private one on this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray._private import worker as ray_worker
from ray._private.state import available_resources_per_node
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grpo.common.errors import LostError, UserError
from grpo.common.signals import take_signals
from grpo.config.schema import RunConfig, cpu_problems, gpu_problems
from grpo.runtime.ray.placement import Node, Unit, place, units
from grpo.runtime.ray.preflight import check_address, check_addresses, short_folder
from grpo.tracking.folder import CLAIM
from grpo.weights.gloo import unreachable

GRANT_SECONDS = 60  # a cluster grants free resources at once


@dataclass(frozen=True, slots=True)
class Role:
    """The processes of one kind: a placement group of their own, with one bundle for each."""

    name: str  # "engines", "ranks" or "pairs"
    unit: Unit
    nodes: list[Node]  # of each bundle
    group: PlacementGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A reserved share of a cluster, by role."""

    device: str  # "cpu" or "cuda"
    local: bool  # started by us, on this machine only
    engines: Role | None  # None where nothing is sampled, and in pairs
    ranks: Role | None  # None where nothing is trained, and in pairs
    pairs: Role | None = None  # an engine with the ranks on its GPUs: `cluster.colocate`


def _tell(data: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray tells of its own accord, to stderr. Ray would print it on stdout.

    The death of a process is left out: whoever needed it says so, with what becomes of its work.
    """
    for line in data["lines"]:
        if not line.startswith("A worker died or was killed while executing a task"):
            print(f"ray: {line}", file=sys.stderr)


@contextmanager
def reserve(
    config: RunConfig, *, with_learner: bool = True, with_engines: bool = True
) -> Iterator[Cluster]:
    """Connect, check that there is enough, and hold the resources of a recipe until the end of the
    block.

    Raises:
        UserError: too few CPUs or GPUs, or the cluster does not grant them in time.
    """
    setting, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS")
    if not address:
        setting, address = "cluster.address", config.cluster.address
    if address:
        address = check_address(setting, address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the priority of background work. Here they are the work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray_worker.print_to_stdstream = _tell
    try:
        ray.init(
            # Without a name Ray would join any cluster that it finds on this machine.
            address=address or "local",
            namespace="grpo",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address=None if address else "127.0.0.1",
            _temp_dir=None if address else str(short_folder()),
        )
    # Ray raises a bare Exception where a node does not come up in its 30 seconds.
    except Exception as error:
        if not address:
            raise LostError(f"the private Ray cluster did not start: {error}") from None
        raise UserError(
            f"{setting}={address}: cannot reach Ray there ({error}); is it running, and is its "
            f"token that of this user "
            "(~/.ray/auth_token, or RAY_AUTH_TOKEN)?"
        ) from None
    try:
        take_signals()  # Ray has set a handler of its own
        check_addresses([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
        device = _device(config, private=not address)
        if problems := (gpu_problems if device == "cuda" else cpu_problems)(config):
            raise UserError("\n".join(problems))
        wanted = units(config, device, with_learner=with_learner, with_engines=with_engines)
        check_enough(wanted, ray.cluster_resources())
        roles: dict[str, Role] = {}
        try:
            for name, nodes in find_nodes(wanted, config.cluster.placement).items():
                roles[name] = _hold(name, wanted[name], nodes)
            yield Cluster(
                device=device,
                local=address is None,
                engines=roles.get("engines"),
                ranks=roles.get("ranks"),
                pairs=roles.get("pairs"),
            )
        finally:
            for role in roles.values():
                remove_placement_group(role.group)
    finally:
        ray.shutdown()


def _device(config: RunConfig, *, private: bool) -> str:
    if config.trainer.device != "auto":
        return {"cpu": "cpu", "gpu": "cuda"}[config.trainer.device]
    if private and not torch.cuda.is_available():
        return "cpu"  # the CPU stack on a machine with GPUs, which Ray counts all the same
    return "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"


def find_nodes(
    wanted: dict[str, Unit], placement: Literal["PACK", "SPREAD"]
) -> dict[str, list[Node]]:
    """The node of every unit, on what is free in the cluster now.

    Raises:
        UserError: it does not fit, and has not for 60 s. What an earlier stage had is given back in
            that time.
    """
    deadline = time.monotonic() + GRANT_SECONDS
    while True:
        free = available_resources_per_node()
        nodes = sorted(
            (
                Node(
                    node["NodeID"],
                    node["NodeManagerAddress"],
                    free.get(node["NodeID"], {}).get("CPU", 0.0),
                    free.get(node["NodeID"], {}).get("GPU", 0.0),
                )
                for node in ray.nodes()
                if node["Alive"]
            ),
            key=lambda node: (node.address, node.id),
        )
        if (placed := place(wanted, nodes, spread_engines=placement == "SPREAD")) is not None:
            return placed
        if time.monotonic() > deadline:
            have = ", ".join(f"{n.address}: {n.cpus:g} CPUs, {n.gpus:g} GPUs" for n in nodes)
            need = ", ".join(f"{unit.count} x {unit.bundle}" for unit in wanted.values())
            raise UserError(
                f"cluster: {need} do not fit into what is free ({have}), each of them on one node; "
                "something else may hold the resources, or no node is large enough for one of them"
            )
        time.sleep(0.5)


def _hold(name: str, unit: Unit, nodes: list[Node]) -> Role:
    group = placement_group(
        [unit.bundle] * unit.count,
        bundle_label_selector=[{"ray.io/node-id": node.id} for node in nodes],
    )
    if not group.wait(timeout_seconds=GRANT_SECONDS):
        remove_placement_group(group)
        raise UserError(
            f"cluster: it has not granted {unit.count} x {unit.bundle} for the {name} within "
            f"{GRANT_SECONDS} s; something else may have taken them, start again"
        )
    return Role(name, unit, nodes, group)


def check_folders(nodes: Sequence[Node], model: str, outputs: Sequence[Path]) -> None:
    """Look at the folders of a run from every node that needs them.

    Args:
        nodes: that processes run on.
        model: folder of the model, which every node reads.
        outputs: folders that this process has claimed, into which the ranks write.

    Raises:
        UserError: names the folders and nodes that miss them.
    """
    _ask(nodes, _missing, model, [str(folder) for folder in outputs])


def check_network(nodes: Sequence[Node], address: str, port: int) -> None:
    """Look at a port that rank 0 has opened from every node that will meet it.

    Raises:
        UserError: names the port and the nodes that cannot reach it.
    """
    _ask(nodes, _unreachable, address, port)


def _ask(nodes: Sequence[Node], look: Callable[..., list[str]], *args: Any) -> None:
    """Run a check on every node, and raise a `UserError` of all problems that it returns."""
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    calls = {
        node.address: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(*args)
        for node in {node.id: node for node in nodes}.values()
    }
    problems = []
    for node, call in calls.items():
        try:
            problems += [f"{found} on node {node}" for found in ray.get(call, timeout=120)]
        except (RayError, GetTimeoutError) as error:
            reason = str(error).strip().splitlines()[-1]
            problems.append(f"node {node} cannot run this code ({reason}); install it there")
    if problems:
        raise UserError("\n".join(problems))


def _unreachable(address: str, port: int) -> list[str]:
    found = unreachable(address, port)
    return [] if found is None else [found]


def _missing(model: str, outputs: Sequence[str]) -> list[str]:
    """What this node does not have."""
    problems = []
    if not Path(model, "config.json").is_file():
        problems.append(
            f"model.path={model}: no such model folder; put it on a disk that all nodes share, or "
            "at the same place on each,"
        )
    for output in outputs:
        if not Path(output, CLAIM).is_file():
            problems.append(
                f"output_dir={output}: the run's folder is not there; name one on a disk that all "
                "nodes share,"
            )
        elif not os.access(output, os.W_OK):
            problems.append(f"output_dir={output}: this user may not write there")
    return problems


def check_machine(config: RunConfig, *, with_learner: bool, with_engines: bool = True) -> None:
    """Where a private cluster would be started: is this machine large enough? Before a base model
    is pre-trained.

    Raises:
        UserError: as `check_enough`.
    """
    if not (os.environ.get("RAY_ADDRESS") or config.cluster.address):
        gpus = torch.cuda.device_count()
        device = (
            "cuda"
            if config.trainer.device == "gpu" or (config.trainer.device == "auto" and gpus)
            else "cpu"
        )
        have = {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}
        wanted = units(config, device, with_learner=with_learner, with_engines=with_engines)
        check_enough(wanted, have)


def check_enough(wanted: Mapping[str, Unit], available: Mapping[str, float]) -> None:
    """Compare what the recipe asks for with what the cluster has.

    Raises:
        UserError: names the resource, both amounts and the settings to change.
    """
    settings = {
        "CPU": ("cpus_per_engine", "cpus_per_rank"),
        "GPU": ("gpus_per_engine", "gpus_per_rank"),
    }
    for kind, (engine_key, rank_key) in settings.items():
        need = sum(unit.bundle.get(kind, 0.0) * unit.count for unit in wanted.values())
        have = available.get(kind, 0.0)
        if need > have + 1e-9:
            raise UserError(
                f"the recipe asks for {need:g} {kind}s and the cluster has {have:g}: lower "
                f"rollout.num_engines, "
                f"learner.num_ranks, rollout.{engine_key} or learner.{rank_key} "
                + ("or use the CPU stack (STACK=cpu)" if kind == "GPU" else "or add nodes")
            )
