"""A Ray cluster: the one that RAY_ADDRESS or the recipe names, or a private one on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from grpo.common.errors import UserError
from grpo.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A reserved share of a cluster. Bundles are in the order engines, then learner ranks."""

    device: str  # "cpu" or "cuda"
    placement: PlacementGroup
    local: bool  # started by us, on this machine only


@contextmanager
def reserve(config: TrainConfig, *, with_learner: bool = True) -> Iterator[Cluster]:
    """Connect, check that there is enough, and hold the resources of a recipe until the end of the
    block.

    Raises:
        UserError: too few CPUs or GPUs, or the cluster does not grant them in time.
    """
    setting, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS")
    if not address:
        setting, address = "cluster.address", config.cluster.address
    if address:
        _check_reachable(setting, address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address
            or "local",  # without a name Ray would join any cluster that it finds on this machine
            namespace="grpo",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address=None if address else "127.0.0.1",
        )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise UserError(
            f"{setting}={address}: cannot reach Ray there ({error}); is it running, and is its token that of this user "
            "(~/.ray/auth_token, or RAY_AUTH_TOKEN)?"
        ) from None
    try:
        device = _device(config, private=not address)
        group = _place(config, device, with_learner)
        try:
            yield Cluster(device=device, placement=group, local=address is None)
        finally:
            remove_placement_group(group)
    finally:
        ray.shutdown()


def _check_reachable(setting: str, address: str) -> None:
    """Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"{setting}={address}: nothing answers there ({error}); start Ray, or correct it"
        ) from None


def _device(config: TrainConfig, *, private: bool) -> str:
    if config.trainer.device != "auto":
        return {"cpu": "cpu", "gpu": "cuda"}[config.trainer.device]
    if private and not torch.cuda.is_available():
        return "cpu"  # the CPU stack on a machine with GPUs, which Ray counts all the same
    return "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"


def bundles(config: TrainConfig, device: str, with_learner: bool) -> list[dict[str, float]]:
    """Resources of every actor: one bundle an engine, then one a learner rank."""
    rollout, learner = config.rollout, config.learner
    on_gpu = device == "cuda"
    engine = {
        "CPU": rollout.cpus_per_engine,
        **({"GPU": rollout.gpus_per_engine} if on_gpu else {}),
    }
    rank = {"CPU": learner.cpus_per_rank, **({"GPU": learner.gpus_per_rank} if on_gpu else {})}
    return [engine] * rollout.num_engines + [rank] * (learner.num_ranks if with_learner else 0)


def _place(config: TrainConfig, device: str, with_learner: bool) -> PlacementGroup:
    wanted = bundles(config, device, with_learner)
    check_enough(wanted, ray.cluster_resources())
    group = placement_group(wanted, strategy=config.cluster.placement)
    if not group.wait(timeout_seconds=60):
        raise UserError(
            f"cluster.placement={config.cluster.placement}: the cluster has not granted {wanted} within 60 s; "
            "something else may hold its resources, or no node is large enough for one bundle"
        )
    return group


def check_machine(config: TrainConfig, *, with_learner: bool) -> None:
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
        check_enough(
            bundles(config, device, with_learner), {"CPU": os.cpu_count() or 1, "GPU": gpus}
        )


def check_enough(wanted: list[dict[str, float]], available: Mapping[str, float]) -> None:
    """Compare what the recipe asks for with what the cluster has.

    Raises:
        UserError: names the resource, both amounts and the settings to change.
    """
    settings = {
        "CPU": ("cpus_per_engine", "cpus_per_rank"),
        "GPU": ("gpus_per_engine", "gpus_per_rank"),
    }
    for kind, (engine_key, rank_key) in settings.items():
        need = sum(bundle.get(kind, 0.0) for bundle in wanted)
        have = available.get(kind, 0.0)
        if need > have + 1e-9:
            raise UserError(
                f"the recipe asks for {need:g} {kind}s and the cluster has {have:g}: lower rollout.num_engines, "
                f"learner.num_ranks, rollout.{engine_key} or learner.{rank_key} (fractions share a device), "
                + ("or use the CPU stack (STACK=cpu)" if kind == "GPU" else "or add nodes")
            )
