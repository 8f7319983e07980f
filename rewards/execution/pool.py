"""A pool of killable processes: a hang, a crash or a hunger for memory costs one answer, never its
neighbours.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from rewards.execution.worker import HEADER, MAX_MESSAGE, as_row, read_message, write_message
from rewards.types import InfrastructureError, Reward, Sample, WorkerStartError

__all__ = ["Pool", "Task", "shared_pool", "worker_environment"]

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_START_SECONDS = 60.0  # a slow disk is not a broken worker
_START_ATTEMPTS = 3
_MAX_FAULT_SHARE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One call of a registered reward: one sample, or all samples of a group."""

    name: str
    samples: Sequence[Sample]
    options: Mapping[str, Any] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, Reward]] = ()


class _Worker:
    """One process in its own session, with the task it is busy with."""

    def __init__(self, memory_bytes: int, modules: Sequence[str]) -> None:
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from rewards.execution.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=worker_environment(),
            start_new_session=True,  # so that whatever it starts is killed with it
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.task = -1  # index of the task it works on
        self.deadline = 0.0
        self._send({"memory_bytes": memory_bytes, "modules": list(modules)})

    def wait_ready(self) -> bool:
        """True once it has graded a known-good answer."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            return bool(selector.select(_START_SECONDS)) and read_message(self.replies) is not None

    def give(self, index: int, task: Task, seconds: float) -> None:
        """Hand over a task; its time runs from now."""
        self.task, self.deadline = index, time.monotonic() + seconds
        self._send(
            {
                "id": index,
                "name": task.name,
                "options": dict(task.options),
                "samples": [asdict(sample) for sample in task.samples],
                "earlier": [
                    {name: as_row(reward) for name, reward in one.items()} for one in task.earlier
                ],
            }
        )

    def take(self) -> list[Reward] | None:
        """The rewards of its task; None when the process is gone or speaks nonsense."""
        try:
            header = self.replies.read(HEADER.size)
            size = HEADER.unpack(header)[0] if len(header) == HEADER.size else MAX_MESSAGE + 1
            reply = None if size > MAX_MESSAGE else _decoded(self.replies.read(size))
            if reply is None or reply["id"] != self.task:
                return None
            return [Reward(*row) for row in reply["rewards"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def kill(self) -> None:
        """End it and everything it started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.requests, self.replies, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)  # it closes its streams before it has said everything
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - 2_000))
        return self.stderr.read().decode(errors="replace").strip()

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(
            BrokenPipeError
        ):  # a dead worker is noticed when its reply is read
            write_message(self.requests, message)


class Pool:
    """Scores tasks in worker processes; results come in the order of the tasks, whatever happens to
    the workers.

    Args:
        num_workers: processes; each is started when there is work for it.
        wall_seconds: budget of one task; at the deadline its worker is killed and replaced.
        memory_bytes: address space of one worker.
        modules: the operator's own modules that register rewards, imported by every worker.
    """

    def __init__(
        self,
        num_workers: int = 1,
        *,
        wall_seconds: float = 2.0,
        memory_bytes: int = 512 * 2**20,
        modules: Sequence[str] = (),
    ) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers}: a pool needs at least one worker")
        self.num_workers = num_workers
        self.wall_seconds = wall_seconds
        self.memory_bytes = memory_bytes
        self.modules = tuple(modules)
        self.workers: list[_Worker] = []
        self._lock = threading.Lock()  # callers in several threads take turns

    def apply(self, name: str, sample: Sample, options: Mapping[str, Any]) -> Reward:
        """One reward of one sample."""
        return self.run([Task(name=name, samples=[sample], options=options)])[0][0]

    def run(self, tasks: Sequence[Task]) -> list[list[Reward]]:
        """The rewards of all tasks, in order.

        A task that outlives its budget gets `timeout`; one whose worker dies twice gets `crash`, or
        `killed` (ungraded) if a signal from outside ended both. A worker that dies once, on a task
        that a second worker finishes, is a fault of the machine. Where no further worker can be
        started, what is left gets `no_worker` (ungraded).

        Raises:
            WorkerStartError: workers cannot start, and nothing was graded.
            InfrastructureError: more than 1% of the tasks met a fault of the machine.
        """
        with self._lock:
            return _Run(self, tasks).results()

    def start_worker(self) -> _Worker:
        """A worker that has graded a known-good answer.

        Raises:
            InfrastructureError: none could be started.
        """
        words = ""
        for _ in range(_START_ATTEMPTS):
            worker = _Worker(self.memory_bytes, self.modules)
            if worker.wait_ready():
                self.workers.append(worker)
                return worker
            words = worker.last_words()
            worker.kill()
        raise WorkerStartError(f"a reward worker cannot start: {words or 'it said nothing'}")

    def drop(self, worker: _Worker) -> None:
        """Kill a worker and forget it."""
        worker.kill()
        self.workers.remove(worker)

    def close(self) -> None:
        """End all workers; the pool can still be used, and starts new ones."""
        for worker in list(self.workers):
            self.drop(worker)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Run:
    """One batch of tasks on its way through the pool."""

    def __init__(self, pool: Pool, tasks: Sequence[Task]) -> None:
        self.pool = pool
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self.done: dict[int, list[Reward]] = {}
        self.deaths = dict.fromkeys(range(len(tasks)), 0)
        self.kills = dict.fromkeys(range(len(tasks)), 0)  # deaths by a signal from outside
        self.selector = selectors.DefaultSelector()

    def results(self) -> list[list[Reward]]:
        idle = deque(self.pool.workers)
        busy: list[_Worker] = []
        try:
            while self.waiting or busy:
                while self.waiting and (idle or len(busy) < self.pool.num_workers):
                    try:
                        worker = idle.popleft() if idle else self.pool.start_worker()
                    except WorkerStartError as error:
                        if not busy and not self.done:
                            raise
                        if busy:
                            break  # those that run go on with the rest
                        while self.waiting:
                            details = {"error": str(error)[:300]}
                            self._settle(self.waiting.popleft(), "no_worker", details, graded=False)
                        break
                    self._hand_out(worker)
                    busy.append(worker)
                if not busy:
                    break
                for worker in self._finished(busy):
                    busy.remove(worker)
                    if worker in self.pool.workers:
                        idle.append(worker)
        except BaseException:
            for worker in busy:  # their replies would be taken for those of the next batch
                self.pool.drop(worker)
            raise
        finally:
            self.selector.close()
        self._check_faults()
        return [self.done[index] for index in range(len(self.tasks))]

    def _hand_out(self, worker: _Worker) -> None:
        index = self.waiting.popleft()
        worker.give(index, self.tasks[index], self.pool.wall_seconds)
        self.selector.register(worker.replies, selectors.EVENT_READ, worker)

    def _finished(self, busy: list[_Worker]) -> list[_Worker]:
        """Wait for the next reply or deadline; the workers that are free or dead after it."""
        wait = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        finished = []
        for key, _ in self.selector.select(wait):
            worker: _Worker = key.data
            self.selector.unregister(worker.replies)
            self._collect(worker)
            finished.append(worker)
        now = time.monotonic()
        for worker in busy:
            if worker not in finished and worker.deadline <= now:
                self.selector.unregister(worker.replies)
                self._settle(worker.task, "timeout", {"seconds": self.pool.wall_seconds})
                self.pool.drop(worker)
                finished.append(worker)
        return finished

    def _collect(self, worker: _Worker) -> None:
        rewards = worker.take()
        index = worker.task
        if rewards is not None and len(rewards) == len(self.tasks[index].samples):
            self.done[index] = rewards
            if any(reward.details.get("limit") == "memory" for reward in rewards):
                self.pool.drop(worker)  # it is about to end itself
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=1)  # its own end, before we make one
        killed = worker.process.poll() in (-signal.SIGKILL, -signal.SIGTERM)
        self.pool.drop(worker)
        self.deaths[index] += 1
        self.kills[index] += killed
        if self.deaths[index] > 1 and self.kills[index] == self.deaths[index]:
            # Memory and time have limits of ours, so this is the kernel or a person.
            self._settle(index, "killed", {}, graded=False)
        elif self.deaths[index] > 1:
            self._settle(index, "crash", {})
        else:
            self.waiting.appendleft(index)

    def _settle(
        self, index: int, reason: str, details: dict[str, Any], *, graded: bool = True
    ) -> None:
        reward = Reward(0.0, reason, details, graded=graded)
        self.done[index] = [reward] * len(self.tasks[index].samples)

    def _check_faults(self) -> None:
        """Deaths that did not repeat belong to the machine; a few are retried in silence, many are
        an error.
        """
        faults = sum(
            1
            for index, count in self.deaths.items()
            if count == 1 and self.done[index][0].reason != "crash"
        )
        if faults > max(1.0, _MAX_FAULT_SHARE * len(self.tasks)):
            raise InfrastructureError(
                f"reward workers died on {faults} of {len(self.tasks)} answers that others could "
                "grade; look for memory pressure or killed processes on this machine"
            )


def _decoded(body: bytes) -> dict[str, Any] | None:
    import json

    message = json.loads(body)
    return message if isinstance(message, dict) else None


def worker_environment(threads: int = 1) -> dict[str, str]:
    """What a worker inherits: where to find modules, nothing else that could hold a secret."""
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "SYSTEMROOT",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    paths = [_PACKAGE_ROOT, *(path for path in sys.path if path)]
    environment |= {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONHASHSEED": "0"}
    return environment | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


_shared: dict[tuple[str, ...], Pool] = {}
_shared_lock = threading.Lock()


def shared_pool(modules: Sequence[str] = ()) -> Pool:
    """One worker for all callers in this process that have no pool of their own and want the same
    `modules` imported by it; it ends with the process.
    """
    key = tuple(modules)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Pool(1, modules=modules)
            atexit.register(_shared[key].close)
        return _shared[key]
