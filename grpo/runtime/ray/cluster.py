"""A Ray cluster: the one that RAY_ADDRESS or the recipe names, or a private one on this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import ray
import torch
from ray._private import services
from ray._private import worker as ray_worker
from ray._private.state import available_resources_per_node
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from grpo.common.command_line import say
from grpo.common.errors import LostError, UserError
from grpo.common.signals import take_signals
from grpo.config.schema import RunConfig, device_problems
from grpo.runtime.environment import MALLOC
from grpo.runtime.ray.calls import Processes
from grpo.runtime.ray.placement import Node, Unit, place, units
from grpo.runtime.ray.preflight import (
    UnavailableError,
    check_address,
    check_addresses,
    short_folder,
)
from grpo.tracking.folder import CLAIM
from grpo.weights.gloo import unreachable

T = TypeVar("T")

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
    processes: Processes  # that were made on it


def actor_options(
    cluster: Cluster, role: Role, index: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Ray options of one actor of a role: it takes the whole bundle of that index."""
    variables = environment if cluster.device == "cuda" else {**MALLOC, **environment}
    return {
        "num_cpus": role.unit.cpus,
        "num_gpus": role.unit.gpus,
        "runtime_env": {"env_vars": variables},
        "scheduling_strategy": PlacementGroupSchedulingStrategy(role.group, index),
    }


def beside(engine: dict[str, Any], gpu: str) -> dict[str, Any]:
    """Ray options of a learner rank on a GPU that an engine has already.

    Ray gives a GPU to one actor. So the engine has the whole bundle, the rank takes nothing of it,
    and is told its GPU by hand, which Ray must not overrule.

    Args:
        engine: options of the engine, with the environment of the rank.
        gpu: as CUDA_VISIBLE_DEVICES names it.
    """
    variables = {
        **engine["runtime_env"]["env_vars"],
        "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": gpu,
    }
    return {**engine, "num_cpus": 0, "num_gpus": 0, "runtime_env": {"env_vars": variables}}


def _tell(data: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray tells of its own accord, to stderr. Ray would print it on stdout.

    The death of a process is left out: whoever needed it says so, with what becomes of its work.
    """
    for line in data["lines"]:
        if not line.startswith("A worker died or was killed while executing a task"):
            print(f"ray: {line}", file=sys.stderr)


@contextmanager
def _loopback_allowed() -> Iterator[None]:
    """Ray 2.60 takes 127.0.0.1 for a mistake: it puts the address of the machine in its place, and
    then all its processes listen on every interface. Within this block it does as it is told.
    """
    resolve = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


@contextmanager
def reserve(
    config: RunConfig,
    *,
    with_learner: bool = True,
    with_engines: bool = True,
    later: Mapping[str, RunConfig] | None = None,
    again: bool = False,
    notice: Callable[[str], None] = say,
) -> Iterator[Cluster]:
    """Connect, check that there is enough, and hold the resources of a recipe until the end of the
    block.

    Args:
        config: what runs now.
        with_learner, with_engines: leave one of them out.
        later: what will run on the cluster later, by what messages about it begin with. The cluster
            must be large enough for each.
        again: the run has had what it asks for. So what is missing now is waited for,
            `cluster.start_timeout_seconds` long.
        notice: told that something is waited for.

    Raises:
        UserError: too few CPUs or GPUs, or the cluster does not grant them in time.
        LostError: the same, with `again`.
    """
    patience = config.cluster.start_timeout_seconds if again else 0
    with ExitStack() as held:
        try:
            private = _until_there(lambda: _connect(config), patience, notice)
            held.callback(ray.shutdown)
            take_signals()  # Ray has set a handler of its own
            check_addresses([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
            device = _device(config, private=private)
            _check_device(config, device)

            def fitting(recipe: RunConfig) -> dict[str, Unit]:
                return units(recipe, device, with_learner=with_learner, with_engines=with_engines)

            for name, recipe in {} if again else (later or {}).items():
                check_fits(fitting(recipe), _nodes("Resources"), where=name)
            wanted = fitting(config)
            _until_there(lambda: check_fits(wanted, _nodes("Resources")), patience, notice)
            seconds = max(patience, GRANT_SECONDS)
            placed = find_nodes(wanted, config.cluster.placement, seconds)
            roles: dict[str, Role] = {}
            for name, nodes in placed.items():
                roles[name] = _hold(name, wanted[name], nodes)
                held.callback(_give_back, roles[name].group)
        except UnavailableError as error:
            if not again:
                raise
            raise LostError(
                f"{error}.\nThe run had what it asks for, so a node may be lost. It was waited for "
                f"as long as cluster.start_timeout_seconds={patience:g} says. Start the command "
                "again to wait on, or go on with what is there, such as with fewer ranks: "
                "learner.num_ranks=... allow_config_change=[learner]"
            ) from None
        yield Cluster(
            device=device,
            local=private,
            engines=roles.get("engines"),
            ranks=roles.get("ranks"),
            pairs=roles.get("pairs"),
            processes=Processes(),
        )


def _until_there(
    look: Callable[[], T], seconds: float, notice: Callable[[str], None], pause: float = 2.0
) -> T:
    """What `look` returns as soon as nothing is missing any more.

    Raises:
        UnavailableError: of the last look, after `seconds`.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            return look()
        except UnavailableError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                notice(
                    f"{error}. It was there before, and is waited for: "
                    f"cluster.start_timeout_seconds={seconds:g}"
                )
            told = True
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))


def _connect(config: RunConfig) -> bool:
    """Connect to the cluster that is named, or start a private one; is it private?

    Raises:
        UserError: the address is none.
        UnavailableError: no cluster answers there.
        LostError: a private one does not start.
    """
    setting, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS")
    if not address:
        setting, address = "cluster.address", config.cluster.address
    if address:
        address = check_address(setting, address)
    else:
        _check_device(config, _device(config, private=True))  # before Ray is started
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the priority of background work. Here they are the work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray_worker.print_to_stdstream = _tell
    try:
        with nullcontext() if address else _loopback_allowed():
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
        ray.shutdown()
        take_signals()  # Ray has set a handler of its own
        raise UnavailableError(
            f"{setting}={address}: cannot reach Ray there ({error}); is it running, and is its "
            f"token that of this user "
            "(~/.ray/auth_token, or RAY_AUTH_TOKEN)?"
        ) from None
    # Joined without a token, so the cluster asks nobody for one. Ray turns the mode on by itself
    # where it finds a token.
    if address and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        say(
            f"{setting}={address}: this cluster asks for no token, so whoever reaches its ports "
            "can run code on its machines; start it with launch/ray_node.sh, which makes one "
            "(docs/launch.md), or let nobody else into its network"
        )
    return not address


def _device(config: RunConfig, *, private: bool) -> str:
    """Where the recipe runs, "cpu" or "cuda". A private cluster is this machine, so it is known
    before Ray is started.
    """
    if config.trainer.device != "auto":
        return {"cpu": "cpu", "gpu": "cuda"}[config.trainer.device]
    if private:
        # The CPU stack on a machine with GPUs has none, though Ray would count them.
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"


def _check_device(config: RunConfig, device: str, where: str = "") -> None:
    """Can the recipe work on this device?

    Raises:
        UserError: it cannot. Each line begins with `where`.
    """
    if problems := device_problems(config, device):
        raise UserError("\n".join(where + problem for problem in problems))


def _nodes(what: Literal["Resources", "free"]) -> list[Node]:
    """The living nodes in a fixed order, with all that they have or with what is free."""
    free = available_resources_per_node() if what == "free" else {}
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = free.get(node["NodeID"], {}) if what == "free" else node["Resources"]
            cpus, gpus = has.get("CPU", 0.0), has.get("GPU", 0.0)
            found.append(Node(node["NodeID"], node["NodeManagerAddress"], cpus, gpus))
    return sorted(found, key=lambda node: (node.address, node.id))


def check_fits(wanted: dict[str, Unit], nodes: Sequence[Node], where: str = "") -> None:
    """Could a recipe run on these nodes, if nothing else did?

    Args:
        wanted: of `units`.
        nodes: with all that they have.
        where: what a message begins with.

    Raises:
        UnavailableError: names what is missing.
    """
    totals = {"CPU": sum(node.cpus for node in nodes), "GPU": sum(node.gpus for node in nodes)}
    check_enough(wanted, totals, where)
    if place(wanted, nodes) is None:
        raise UnavailableError(f"{where}{_misfit(wanted, nodes, 'all there is')}")


def _misfit(wanted: Mapping[str, Unit], nodes: Sequence[Node], what: str) -> str:
    have = ", ".join(f"{n.address}: {n.cpus:g} CPUs, {n.gpus:g} GPUs" for n in nodes)
    need = ", ".join(f"{unit.count} x {unit.bundle}" for unit in wanted.values())
    return f"cluster: {need} do not fit into {what} ({have}), each of them on one node"


def find_nodes(
    wanted: dict[str, Unit], placement: Literal["PACK", "SPREAD"], seconds: float
) -> dict[str, list[Node]]:
    """The node of every unit, on what is free in the cluster within so many seconds.

    Raises:
        UnavailableError: it does not fit, and has not for so long. What an earlier stage had is
            given back in 60 s.
    """
    deadline = time.monotonic() + seconds
    while True:
        nodes = _nodes("free")
        if (placed := place(wanted, nodes, spread_engines=placement == "SPREAD")) is not None:
            return placed
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"{_misfit(wanted, nodes, 'what is free')}; something else may hold the resources"
            )
        time.sleep(0.5)


def _give_back(group: PlacementGroup) -> None:
    try:
        remove_placement_group(group)
    except (RayError, ConnectionError) as error:
        # A head node that is gone holds nothing, and what ended the run matters more.
        say(f"cluster: it did not take back what it had granted: {error}")


def _hold(name: str, unit: Unit, nodes: list[Node]) -> Role:
    group = placement_group(
        [unit.bundle] * unit.count,
        bundle_label_selector=[{"ray.io/node-id": node.id} for node in nodes],
    )
    if not group.wait(timeout_seconds=GRANT_SECONDS):
        remove_placement_group(group)
        raise UnavailableError(
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


def check_machine(
    config: RunConfig, *, with_learner: bool, with_engines: bool = True, where: str = ""
) -> None:
    """Where a private cluster would be started: is this machine large enough, and can the recipe
    work on its device? Before a base model is pre-trained, and before Ray is started.

    Args:
        config: the recipe.
        with_learner, with_engines: leave one of them out.
        where: what a message begins with, such as the name of a stage.

    Raises:
        UserError: as `check_enough`, and what cannot work here.
    """
    if not (os.environ.get("RAY_ADDRESS") or config.cluster.address):
        device = _device(config, private=True)
        _check_device(config, device, where)
        have = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
        wanted = units(config, device, with_learner=with_learner, with_engines=with_engines)
        check_enough(wanted, have, where)


def check_enough(
    wanted: Mapping[str, Unit], available: Mapping[str, float], where: str = ""
) -> None:
    """Compare what the recipe asks for with what the cluster has.

    Args:
        wanted: of `units`.
        available: CPUs and GPUs, as Ray names them.
        where: what a message begins with.

    Raises:
        UnavailableError: names the resource, both amounts and the settings to change.
    """
    settings = {
        "CPU": ("cpus_per_engine", "cpus_per_rank"),
        "GPU": ("gpus_per_engine", "gpus_per_rank"),
    }
    for kind, (engine_key, rank_key) in settings.items():
        need = sum(unit.bundle.get(kind, 0.0) * unit.count for unit in wanted.values())
        have = available.get(kind, 0.0)
        if need > have + 1e-9:
            raise UnavailableError(
                f"{where}the recipe asks for {need:g} {kind}s and the cluster has {have:g}: lower "
                f"rollout.num_engines, "
                f"learner.num_ranks, rollout.{engine_key} or learner.{rank_key} "
                + ("or use the CPU stack (STACK=cpu)" if kind == "GPU" else "or add nodes")
            )
