"""How rank 0 leads the others: a group beside that of the training, over gloo.

Rank 0 sends calls, the others make them in the order in which they come. Most calls are
collectives of the learner and have no answer. The end of a process breaks its connections, so
whoever waits for it hears of that at once.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist

from grpo.common.errors import LostError, StalledError, UserError
from grpo.common.signals import held, relay
from grpo.config.schema import RunConfig, gpu_problems
from grpo.runtime.stacks import keep_stacks, stack_of
from grpo.runtime.torchrun.messages import decode, encode
from grpo.weights import gloo

EXIT = "exit"  # the last call
_FOREVER = 365 * 24 * 3600  # seconds: as long as rank 0 works, the others wait for it
_CALL, _REPLY = 1, 2  # tags
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (UserError, LostError, StalledError)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Which of torchrun's processes this one is, and what it may use."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: str  # "cpu" or "cuda"
    learner_gpu: str | None = None  # as CUDA_VISIBLE_DEVICES has it
    engine_gpus: str | None = None

    @property
    def is_alone(self) -> bool:
        """Are all ranks on this machine?"""
        return self.local_world_size == self.world_size


def place_of(config: RunConfig, environment: Mapping[str, str], num_gpus: int) -> Place:
    """The place of this process.

    Args:
        config: of the run.
        environment: of the process.
        num_gpus: of this machine, as far as the process sees them.

    Raises:
        UserError: torchrun has not started it, or has started another number than the recipe says,
            or there are too few GPUs.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    ranks = config.learner.num_ranks
    if any(name not in environment for name in names):
        raise UserError(
            "runtime=torchrun: this process was not started by torchrun; use "
            f"`torchrun --standalone --nproc-per-node {ranks} -m grpo.train --config-name RECIPE "
            "runtime=torchrun`, or runtime=ray"
        )
    rank, world, local_rank, local_world = (int(environment[name]) for name in names[:4])
    problems = [
        f"{key}={value}: torchrun has started {world} processes, and each is one; set "
        f"{key}={world}, or let torchrun start {value}"
        for key, value in (
            ("learner.num_ranks", ranks),
            ("rollout.num_engines", config.rollout.num_engines),
        )
        if value != world
    ]
    wanted = config.trainer.device
    device = {"cpu": "cpu", "gpu": "cuda"}.get(wanted) or ("cuda" if num_gpus else "cpu")
    learner_gpu = engine_gpus = None
    if device == "cuda":
        problems += gpu_problems(config)
        each = int(config.rollout.gpus_per_engine)
        needed = local_world * (1 + each)
        if num_gpus < needed:
            problems.append(
                f"runtime=torchrun: {local_world} processes on this machine need {needed} GPUs, "
                f"one for each learner rank and rollout.gpus_per_engine={each} for each engine, "
                f"and there are {num_gpus}; lower --nproc-per-node, or set trainer.device=cpu"
            )
        else:
            visible = environment.get("CUDA_VISIBLE_DEVICES")
            gpus = visible.split(",") if visible else [str(i) for i in range(num_gpus)]
            first = local_world + local_rank * each  # engines come behind all learner ranks
            learner_gpu, engine_gpus = gpus[local_rank], ",".join(gpus[first : first + each])
    if problems:
        raise UserError("\n".join(problems))
    return Place(
        rank=rank,
        world_size=world,
        local_rank=local_rank,
        local_world_size=local_world,
        device=device,
        learner_gpu=learner_gpu,
        engine_gpus=engine_gpus,
    )


class Group:
    """The ranks of a run, as rank 0 leads them and as the others follow."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        group: dist.ProcessGroup,
        learn_seconds: float,
        address: str = "127.0.0.1",
        homes: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.rank, self.world_size, self.group = rank, world_size, group
        self.learn_seconds = learn_seconds  # `cluster.learn_timeout_seconds`
        self.address = address  # by which all ranks reach rank 0
        self.homes = homes  # PID and machine of every rank
        self.signal = 0  # that came to this process, and that rank 0 has not been told of
        self.lost: str | None = None  # why no call can be made any more

    @classmethod
    def join(cls, place: Place, learn_seconds: float) -> Self:
        """Meet all processes that torchrun has started.

        Args:
            place: of this one.
            learn_seconds: longest wait of rank 0 for the others in a collective.
        """
        store, rank, world_size = next(iter(dist.rendezvous("env://")))
        # It is for this meeting only: the learner's ranks meet elsewhere, in a store of rank 0.
        os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
        # The store outlives processes that torchrun starts again, and their addresses are in it.
        attempt = f"control/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        store = dist.PrefixStore(attempt, store)
        address = "127.0.0.1"
        if not place.is_alone:
            if rank == 0:
                probe = socket.create_server(("", 0))
                store.set("port", str(probe.getsockname()[1]))
            # Rank 0 cannot know by which address others reach it: its machine may have several,
            # and its name may stand for 127.0.1.1 there. The first rank of another machine can.
            elsewhere, first = int(os.environ["GROUP_RANK"]), place.local_rank == 0
            if elsewhere == 1 and first:
                store.set("address", socket.gethostbyname(os.environ["MASTER_ADDR"]))
            address = store.get("address").decode()
            if elsewhere and first and (found := gloo.unreachable(address, int(store.get("port")))):
                raise UserError(f"{found} on {where()}")
        store.set(f"home/{rank}", f"{os.getpid()} {where()}")
        group = gloo.join(store, rank, world_size, _FOREVER, address)
        told = [store.get(f"home/{one}").decode().split(maxsplit=1) for one in range(world_size)]
        homes = [(int(pid), host) for pid, host in told]
        return cls(rank, world_size, group, learn_seconds, address, homes)

    # --- rank 0 ---------------------------------------------------------------------------------

    def tell(self, method: str, *args: Any, asks: bool = False) -> None:
        """Have all other ranks make a call.

        Raises:
            StalledError: they have not taken it within `learn_seconds`.
            LostError: one of them has ended.
        """
        if self.lost is not None:
            raise LostError(self.lost)
        message = encode([method, list(args)])
        head = torch.tensor([len(message), int(asks)])
        phase, patience = f"call of {method}", timedelta(seconds=self.learn_seconds)
        with held():
            for rank in range(1, self.world_size):
                with self._connected(phase, [rank]):
                    self.group.send([head], rank, _CALL).wait(patience)
            with self._connected(phase):
                gloo.broadcast(self.group, _tensor(message), self.learn_seconds)

    def ask(self, own: Callable[..., Any], method: str, *args: Any, seconds: float) -> list[Any]:
        """What a call returns on every rank, rank 0 first.

        Args:
            own: the same call here.
            method, args: the call.
            seconds: that the others may take longer than this rank.

        Raises:
            StalledError: not all have answered in time.
            LostError: a rank has ended, or the call has lost something there.
            UserError, RuntimeError: the call has failed somewhere.
        """
        with held():  # a signal must not leave answers behind
            self.tell(method, *args, asks=True)
            try:
                with self._connected(method):
                    found, failed = [own(*args)], None
            except Exception as error:
                found, failed = [], error
            number = 0
            for rank in range(1, self.world_size):
                with self._connected(f"answer to {method}", [rank]):
                    head = torch.zeros(3, dtype=torch.int64)
                    self.group.recv([head], rank, _REPLY).wait(timedelta(seconds=seconds))
                    size, ok, came = head.tolist()
                    message = torch.empty(size, dtype=torch.uint8)
                    self.group.recv([message], rank, _REPLY).wait(timedelta(seconds=seconds))
                    result = decode(message.numpy().tobytes())
                    number = number or came
                    if ok:
                        found.append(result)
                    elif failed is None:
                        kind, text = result
                        failed = _ERRORS.get(kind, RuntimeError)(f"{self.named(rank)}: {text}")
            if number:
                relay(number)
            if isinstance(failed, StalledError) and self.lost is None:
                raise self.stalled(str(failed))  # an engine hangs
            if failed is not None:
                raise failed
        return found

    def collective(self, own: Callable[..., Any], method: str, *args: Any) -> Any:
        """Make a collective call of the learner on all ranks; what it returns here.

        Raises:
            StalledError: the others have not come within `learn_seconds`.
            LostError: a rank has ended in the middle of it.
        """
        self.tell(method, *args)
        try:
            with self._connected(f"learner, {method}"):
                return own(*args)
        except Exception as error:
            # The others may be in the middle of it, so nothing that comes next would meet them.
            self.lost = self.lost or f"{method} has failed on rank 0: {_first_line(error)}"
            raise

    def leave(self, code: int) -> None:
        """The end of the run: the others end too, with this exit code."""
        with suppress(LostError):  # whoever is left hears of the end of this process
            self.tell(EXIT, code)

    def named(self, rank: int) -> str:
        """A rank in messages: `rank 1 (PID 4711 on node3)`."""
        if not self.homes:
            return f"rank {rank}"
        pid, host = self.homes[rank]
        return f"rank {rank} (PID {pid} on {host})"

    def stalled(self, why: str) -> StalledError:
        """The error of a deadline that was missed, once the stacks of all ranks and engines of this
        machine are kept. Nobody can be asked on the others.
        """
        stacks = {}
        for rank, (pid, host) in enumerate(self.homes):
            if host == where():
                stacks[f"rank {rank}"] = f"{self.named(rank)}\n\n{stack_of(pid, children=True)}"
        return StalledError(why + keep_stacks(stacks, why))

    @contextmanager
    def _connected(self, phase: str, ranks: Sequence[int] = ()) -> Iterator[None]:
        """A block that needs the other ranks. What breaks a connection there ends the group.

        Args:
            phase: for messages.
            ranks: that it needs. None: all others.
        """
        try:
            yield
        except RuntimeError as error:
            # gloo's errors have no class of their own.
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            late = "Timed out" in str(error)
            told = "no answer in time from" if late else "has ended:"
            who = " or ".join(map(self.named, ranks or range(1, self.world_size)))
            self.lost = f"{phase}: {told} {who} ({_first_line(error)})"
            if late:
                raise self.stalled(self.lost) from None
            raise LostError(self.lost) from None

    # --- the others -----------------------------------------------------------------------------

    def follow(self, calls: object) -> int:
        """Make the calls of rank 0, methods of `calls`, until it says what exit code to end with.

        Signals are noted and passed on to rank 0, which decides.

        Raises:
            LostError: rank 0 has ended without a word.
            Exception: a collective has failed here, and not on rank 0.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        while True:
            method, args, asked = self._next(timedelta(seconds=_FOREVER))
            if method == EXIT:
                return int(args[0])
            try:
                result, ok = getattr(calls, method)(*args), True
            except Exception as error:
                if not asked:
                    # Where it has failed on rank 0 too, the end of the run comes next. Otherwise
                    # rank 0 waits for this one, and only its end tells.
                    if (code := self._end_within(seconds=30)) is not None:
                        return code
                    raise
                expected = type(error).__name__ in _ERRORS
                text = str(error) if expected else traceback.format_exc()
                result, ok = (type(error).__name__, text), False
            if asked:
                message = encode(result)
                head = torch.tensor([len(message), int(ok), self.signal])
                self.signal = 0
                try:
                    self.group.send([head], 0, _REPLY).wait()
                    self.group.send([_tensor(message)], 0, _REPLY).wait()
                except RuntimeError as error:
                    raise LostError(f"rank 0 has ended ({_first_line(error)})") from None

    def _next(self, patience: timedelta) -> tuple[str, list[Any], bool]:
        head = torch.zeros(2, dtype=torch.int64)
        try:
            self.group.recv([head], 0, _CALL).wait(patience)
            size, asked = head.tolist()
            message = torch.empty(size, dtype=torch.uint8)
            gloo.broadcast(self.group, message)
        except RuntimeError as error:
            raise LostError(f"rank 0 has ended ({_first_line(error)})") from None
        method, args = decode(message.numpy().tobytes())
        return method, args, bool(asked)

    def _end_within(self, seconds: float) -> int | None:
        try:
            method, args, _ = self._next(timedelta(seconds=seconds))
        except LostError:
            return None
        return int(args[0]) if method == EXIT else None

    def _note(self, number: int, frame: object) -> None:
        self.signal = number


def where() -> str:
    """This machine, for messages."""
    return socket.gethostname()


def _tensor(message: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
