"""Actors as Ray knows them: how they are called within a deadline, and what becomes visible when
they die or hang.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grpo.common.errors import LostError, StalledError
from grpo.runtime.stacks import keep_stacks, stack_of

LOOK_SECONDS = 2.0  # between two looks at what else may have happened, while a call is waited for


@dataclass(slots=True, eq=False)
class Process:
    """An actor of the run, and where it is. Travels by pickle."""

    kind: str  # "engine" or "learner rank"
    number: int  # of its kind
    address: str  # of its node
    actor: Any
    place: Any  # becomes its node and PID
    _found: tuple[str, int] | None = None

    @classmethod
    def of(cls, kind: str, number: int, address: str, actor: Any) -> Process:
        """A process that has just been made. It is asked for its place before anything else, since
        it answers nothing while it loads a model.
        """
        return cls(kind, number, address, actor, actor.place.remote())

    def whereabouts(self) -> tuple[str, int] | None:
        """Its node and PID, also after its end. None where it never said."""
        if self._found is None and ray.wait([self.place], timeout=1.0)[0]:
            with suppress(RayError, GetTimeoutError):  # it had no time to say
                self._found = ray.get(self.place, timeout=1.0)
        return self._found

    @property
    def name(self) -> str:
        """Such as `engine 1`."""
        return f"{self.kind} {self.number}"

    def __str__(self) -> str:
        """As messages name it: `engine 1 (PID 4711 on 10.0.0.3)`."""
        found = self.whereabouts()
        pid = "PID unknown" if found is None else f"PID {found[1]}"
        return f"{self.name} ({pid} on {self.address})"

    def is_alive(self) -> bool:
        """Has Ray not heard of its end? One that hangs is alive."""
        try:
            ray.get(self.actor.__ray_ready__.remote(), timeout=2)
        except RayActorError:
            return False
        except GetTimeoutError:
            pass
        return True


def named(processes: Sequence[Process]) -> str:
    """Several processes in a message."""
    return ", ".join(map(str, processes))


def wait(
    calls: Sequence[Any],
    processes: Sequence[Process],
    seconds: float,
    phase: str,
    look: Callable[[], object] | None = None,
) -> list[Any]:
    """The results of remote calls. The first one that fails ends the wait.

    Args:
        calls: one open call of each process.
        processes: that were called.
        seconds: for all of them.
        phase: what they do, for messages. It may name the setting behind the deadline.
        look: called every two seconds meanwhile.

    Raises:
        StalledError: not all have answered in time. Names those that have not.
        LostError: a process has died.
        RayTaskError: the call has failed.
    """
    deadline = time.monotonic() + seconds
    found: dict[Any, Any] = {}
    waiting = list(calls)
    while waiting:
        left = max(0.0, deadline - time.monotonic())
        ready, waiting = ray.wait(
            waiting, timeout=left if look is None else min(left, LOOK_SECONDS)
        )
        if not ready and time.monotonic() >= deadline:
            late = [processes[calls.index(call)] for call in waiting]
            raise StalledError(f"{phase}: no answer for {seconds:g} s from {named(late)}")
        for call in ready:
            try:
                found[call] = ray.get(call)
            except RayActorError as error:
                dead = processes[calls.index(call)]
                raise LostError(f"{phase}: {dead} died: {first_line(error)}") from None
        if look is not None:
            look()
    return [found[call] for call in calls]


class Processes:
    """All engines and ranks of a run. Whoever waits for some of them waits here, so that a deadline
    which is missed says who is late and leaves the stacks of all.
    """

    def __init__(self) -> None:
        self._all: dict[tuple[str, int], Process] = {}

    def add(self, process: Process) -> Process:
        """A process that has been made. It takes the place of one with its number."""
        self._all[process.kind, process.number] = process
        return process

    def wait(
        self,
        calls: Sequence[Any],
        processes: Sequence[Process],
        seconds: float,
        phase: str,
        look: Callable[[], object] | None = None,
    ) -> list[Any]:
        """As the function `wait`, for the driver.

        Raises:
            StalledError: also where a process has waited for another one in vain.
            LostError: also where a process has found another one dead.
        """
        try:
            return wait(calls, processes, seconds, phase, look)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, StalledError):
                raise self.stalled(f"{phase}: {cause}") from None
            if isinstance(cause, LostError):
                raise LostError(f"{phase}: {cause}") from None
            # Those who wait for a dead one in a collective fail first, with whatever they see.
            if dead := [one for one in self._all.values() if not one.is_alive()]:
                why = first_line(cause)
                raise LostError(f"{phase}: {named(dead)} died ({why})") from None
            raise
        except StalledError as error:
            raise self.stalled(str(error)) from None

    def stalled(self, why: str) -> StalledError:
        """The error of a deadline that was missed, once the stacks of all processes are kept."""
        return StalledError(why + self.keep_stacks(why))

    def keep_stacks(self, why: str) -> str:
        """Write down what all processes are doing; where that is, for a message.

        One that cannot be asked says why. Whatever is wrong with a dump, what asked for it matters
        more.
        """
        found: dict[str, str] = {}
        by_node: dict[str, list[tuple[Process, int]]] = {}
        for process in self._all.values():
            if (place := process.whereabouts()) is not None:
                by_node.setdefault(place[0], []).append((process, place[1]))
            known = place is not None
            found[process.name] = f"{process}\n\n{'' if known else 'no stack: it never answered'}"
        calls = [
            _stacks.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote([pid for _, pid in there])
            for node, there in by_node.items()
        ]
        deadline = time.monotonic() + 60
        for call, there in zip(calls, by_node.values(), strict=True):
            try:
                stacks = ray.get(call, timeout=max(0.1, deadline - time.monotonic()))
            except Exception as error:
                stacks = [f"no stack: {type(error).__name__}: {first_line(error)}"] * len(there)
            for (process, _), stack in zip(there, stacks, strict=True):
                found[process.name] += stack
        return keep_stacks(found, why)

    def started(self, calls: Sequence[Any], processes: Sequence[Process], seconds: float) -> None:
        """Block until all processes of a kind have started.

        One that fails says why at once, whether or not the others still load.

        Args:
            calls: the open `start` call of each.
            processes: all of the kind.
            seconds: for all of them, `cluster.start_timeout_seconds`.

        Raises:
            StalledError: not all have, in time.
            LostError: one has died.
            RuntimeError: names process, node and cause.
        """
        deadline = time.monotonic() + seconds
        waiting = list(calls)
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                late = [processes[calls.index(call)] for call in waiting]
                raise self.stalled(
                    f"start of each {late[0].kind} (cluster.start_timeout_seconds): no answer for "
                    f"{seconds:g} s from {named(late)}"
                )
            for call in ready:
                process = processes[calls.index(call)]
                try:
                    ray.get(call)
                except RayActorError as error:
                    raise LostError(
                        f"{process} died while it started: {first_line(error)}"
                    ) from None
                except RayError as error:
                    cause = error.cause if isinstance(error, RayTaskError) else error
                    raise RuntimeError(
                        f"{process.name} on {process.address} did not start: "
                        f"{type(cause).__name__}: {cause}"
                    ) from error


def first_line(error: BaseException) -> str:
    """The first line of what Ray says of a dead process."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def with_place(worker: type, *more: type) -> Any:
    """The actor class of a worker, which can also say where it runs.

    Args:
        worker: the class.
        more: others, for further methods.
    """

    class Actor(*more, worker):  # type: ignore[misc]
        def place(self) -> tuple[str, int]:
            """Its node and its process."""
            return ray.get_runtime_context().get_node_id(), os.getpid()

    Actor.__name__ = Actor.__qualname__ = worker.__name__
    return ray.remote(Actor)


class Life:
    """What an actor with an event loop may have besides: a call that only its end ends."""

    async def life(self) -> None:
        """Waits for ever."""
        await asyncio.Event().wait()


@ray.remote(num_cpus=0, max_retries=0)
def _stacks(pids: Sequence[int]) -> list[str]:
    """The stacks of some processes of this node."""
    with ThreadPoolExecutor(len(pids)) as pool:
        return list(pool.map(stack_of, pids))
