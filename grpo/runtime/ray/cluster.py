"""A Ray cluster: the one that RAY_ADDRESS or the recipe names, or a private one on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from grpo.common.errors import UserError, raise_on_sigterm
from grpo.config.schema import RunConfig, gpu_problems
from grpo.runtime.ray.preflight import check_address, short_folder


@dataclass(frozen=True, slots=True)
class Role:
    """The processes of one kind: a placement group of their own, with one bundle for each."""

    name: str  # "engines" or "ranks"
    bundle: dict[str, float]  # resources of one process
    count: int
    group: PlacementGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A reserved share of a cluster, by role."""

    device: str  # "cpu" or "cuda"
    local: bool  # started by us, on this machine only
    engines: Role | None  # None where nothing is sampled
    ranks: Role | None  # None where nothing is trained


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
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise UserError(
            f"{setting}={address}: cannot reach Ray there ({error}); is it running, and is its "
            f"token that of this user "
            "(~/.ray/auth_token, or RAY_AUTH_TOKEN)?"
        ) from None
    try:
        raise_on_sigterm()  # Ray has set a handler of its own
        device = _device(config, private=not address)
        if device == "cuda" and (problems := gpu_problems(config)):
            raise UserError("\n".join(problems))
        needed = layout(config, device, with_learner=with_learner, with_engines=with_engines)
        check_enough(needed, ray.cluster_resources())
        roles: dict[str, Role] = {}
        try:
            for name, (bundle, count) in needed.items():
                roles[name] = _place(name, bundle, count, config.cluster.placement)
            yield Cluster(
                device=device,
                local=address is None,
                engines=roles.get("engines"),
                ranks=roles.get("ranks"),
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


Layout = dict[str, tuple[dict[str, float], int]]  # resources of one process and how many, by role


def layout(
    config: RunConfig, device: str, *, with_learner: bool, with_engines: bool = True
) -> Layout:
    """What the recipe asks for. Engines and ranks are placed apart, so that neither can split the
    other.
    """
    rollout, learner = config.rollout, config.learner
    on_gpu = device == "cuda"
    engine = {"CPU": rollout.cpus_per_engine}
    rank = {"CPU": learner.cpus_per_rank}
    if on_gpu:
        engine["GPU"], rank["GPU"] = rollout.gpus_per_engine, learner.gpus_per_rank
    needed = {"engines": (engine, rollout.num_engines)} if with_engines else {}
    return {**needed, "ranks": (rank, learner.num_ranks)} if with_learner else needed


def _place(name: str, bundle: dict[str, float], count: int, strategy: str) -> Role:
    group = placement_group([bundle] * count, strategy=strategy)
    if not group.wait(timeout_seconds=60):
        remove_placement_group(group)
        raise UserError(
            f"cluster.placement={strategy}: the cluster has not granted {count} x {bundle} for "
            f"the {name} within "
            "60 s; something else may hold its resources, or no node is large enough for one of "
            "them"
        )
    return Role(name, bundle, count, group)


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
        wanted = layout(config, device, with_learner=with_learner, with_engines=with_engines)
        check_enough(wanted, have)


def check_enough(wanted: Layout, available: Mapping[str, float]) -> None:
    """Compare what the recipe asks for with what the cluster has.

    Raises:
        UserError: names the resource, both amounts and the settings to change.
    """
    settings = {
        "CPU": ("cpus_per_engine", "cpus_per_rank"),
        "GPU": ("gpus_per_engine", "gpus_per_rank"),
    }
    for kind, (engine_key, rank_key) in settings.items():
        need = sum(bundle.get(kind, 0.0) * count for bundle, count in wanted.values())
        have = available.get(kind, 0.0)
        if need > have + 1e-9:
            raise UserError(
                f"the recipe asks for {need:g} {kind}s and the cluster has {have:g}: lower "
                f"rollout.num_engines, "
                f"learner.num_ranks, rollout.{engine_key} or learner.{rank_key} "
                + ("or use the CPU stack (STACK=cpu)" if kind == "GPU" else "or add nodes")
            )
