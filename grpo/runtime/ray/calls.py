"""Actors as Ray knows them: where they go, how they are called within a deadline, and what becomes
visible when they die or hang.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from grpo.common.errors import LostError, StalledError
from grpo.runtime.environment import MALLOC
from grpo.runtime.ray.cluster import Cluster, Role
from grpo.runtime.ray.placement import Node


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


def wait(calls: Any, seconds: float, phase: str) -> Any:
    """The results of remote calls, or an error that says which phase has stalled.

    Raises:
        StalledError: not all have answered in time.
        LostError: a process has died.
    """
    try:
        return ray.get(calls, timeout=seconds)
    except GetTimeoutError:
        raise StalledError(f"{phase}: no answer for {seconds:g} s") from None
    except RayActorError as error:
        raise LostError(f"{phase}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """The first line of what Ray says of a dead process."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def is_alive(actor: Any) -> bool:
    """Has Ray not heard of this actor's end? One that hangs is alive."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=2)
    except RayActorError:
        return False
    except GetTimeoutError:
        pass
    return True


def with_place(worker: type) -> Any:
    """The actor class of a worker, which can also say where it runs."""

    class Actor(worker):  # type: ignore[misc]
        def place(self) -> tuple[str, int]:
            """Its node and its process."""
            return ray.get_runtime_context().get_node_id(), os.getpid()

    Actor.__name__ = Actor.__qualname__ = worker.__name__
    return ray.remote(Actor)


@ray.remote(num_cpus=0)
def _stack(pid: int) -> str:
    """What a process of this node is doing, asked from outside: it may hang or be stopped."""
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "dump", "--nonblocking", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return done.stdout or done.stderr


def stacks(places: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The stacks of some processes, by name; what could not be asked says why."""
    calls = {
        name: _stack.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(pid)
        for name, (node, pid) in places.items()
    }
    found = {}
    for name, call in calls.items():
        try:
            found[name] = str(ray.get(call, timeout=40))
        # Whatever is wrong with a dump, the error that asked for it matters more.
        except Exception as error:
            found[name] = f"no stack: {first_line(error)}"
    return found


def started(calls: Sequence[Any], nodes: Sequence[Node], seconds: float, what: str) -> None:
    """Block until all processes of a kind have started.

    One that fails says why at once, whether or not the others still load. `ray.get` would wait for
    those before it.

    Args:
        calls: the open `start` call of each.
        nodes: of each.
        seconds: for all of them.
        what: the kind.

    Raises:
        StalledError: not all have, in time.
        RuntimeError: names process, node and cause.
    """
    deadline = time.monotonic() + seconds
    waiting = list(calls)
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise StalledError(f"start of each {what}: no answer for {seconds:g} s")
        for call in ready:
            try:
                ray.get(call)
            except RayError as error:
                i = calls.index(call)
                cause = error.cause if isinstance(error, RayTaskError) else error
                raise RuntimeError(
                    f"{what} {i} on {nodes[i].address} did not start: "
                    f"{type(cause).__name__}: {cause}"
                ) from error
