"""The engine of a rank, in a process of its own.

The learner's rank lives in torchrun's world. vLLM would read the same variables and join it, so the
engine is started without them, in a session of its own: signals to the rank are not for it. Rank
and engine talk over a pair of sockets that nobody else has. When the rank ends, however it ends,
so does its engine.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from grpo.common.errors import LostError, StalledError
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.environment import MALLOC
from grpo.runtime.torchrun.messages import decode, encode

_HEAD = struct.Struct("!Q")  # bytes of the message that follows
# What torchrun sets for its processes, and what a learner rank sets for itself.
_NOT_FOR_ENGINES = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
    *("DS_ACCELERATOR", "CROSS_RANK", "CROSS_SIZE", "PYTORCH_CUDA_ALLOC_CONF"),
}


def engine_environment(
    environment: Mapping[str, str], spec: EngineSpec, gpus: str | None
) -> dict[str, str]:
    """The environment of a rank's engine.

    Args:
        environment: of the rank.
        spec: of the engine.
        gpus: that the engine may see; None: as the rank does.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _NOT_FOR_ENGINES and not name.startswith("TORCHELASTIC_")
    }
    own = spec.environment() if spec.device != "cpu" else {**MALLOC, **spec.environment()}
    return {**kept, **own, **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})}


class EngineProcess:
    """The rank's end. Calls may come from any thread.

    Args:
        spec: of the engine, which begins to load its model at once.
        name: for messages, such as "engine 1".
        gpus: that it may see.
    """

    def __init__(self, spec: EngineSpec, name: str, gpus: str | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        # A process that hangs reads nothing, and a socket that is full would block for ever.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 60, 0))
        # Read when the engine has died.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=engine_environment(os.environ, spec, gpus),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        theirs.close()
        self.name = f"{name} (PID {self._process.pid} on {socket.gethostname()})"
        self._numbers = itertools.count()
        self._open: dict[int, Future[Any]] = {}  # calls without an answer, by number
        self._lock = threading.Lock()
        self._ended = False
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(encode(spec))
        self._starting = self._begin("start", ())

    def is_ready(self, seconds: float) -> bool:
        """Has the model been loaded? Waits so long for it.

        Raises:
            LostError: the process has ended.
            RuntimeError: the model cannot be loaded.
        """
        try:
            self._starting.result(seconds)
        except TimeoutError:
            return False
        return True

    def call(self, method: str, *args: Any, seconds: float) -> Any:
        """What a method of the engine's `RolloutWorker` returns.

        Raises:
            StalledError: it has not answered in time.
            LostError: the process has ended.
            RuntimeError: the method has failed.
        """
        try:
            return self._begin(method, args).result(seconds)
        except TimeoutError:
            raise StalledError(f"{self.name}, {method}: no answer for {seconds:g} s") from None

    def close(self) -> None:
        """End the process. One that does not answer is killed."""
        self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._output.close()

    def _begin(self, method: str, args: tuple[Any, ...]) -> Future[Any]:
        answer: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._ended:
                raise self._lost()
            self._open[number] = answer
        self._send(encode([number, method, list(args)]))
        return answer

    def _send(self, message: bytes) -> None:
        try:
            with self._lock:
                self._socket.sendall(_HEAD.pack(len(message)) + message)
        except BlockingIOError:
            raise StalledError(f"{self.name} has read nothing for 60 s") from None
        except OSError:
            raise self._lost() from None

    def _listen(self) -> None:
        with self._socket.makefile("rb") as stream:
            try:
                while len(head := stream.read(_HEAD.size)) == _HEAD.size:
                    number, failed, result = decode(stream.read(_HEAD.unpack(head)[0]))
                    with self._lock:
                        answer = self._open.pop(number)
                    if failed:
                        answer.set_exception(RuntimeError(f"{self.name}: {result}"))
                    else:
                        answer.set_result(result)
            # A message that was cut is the end of the process, like no message.
            except (OSError, ValueError):
                pass
        with self._lock:
            self._ended, left = True, list(self._open.values())
            self._open.clear()
        for answer in left:
            answer.set_exception(self._lost())

    def _lost(self) -> LostError:
        """Why there is no process any more, with the last that it wrote."""
        try:
            how = f"exit code {self._process.wait(5)}"
        except subprocess.TimeoutExpired:
            how = "it has closed its connection"
        size = os.fstat(self._output.fileno()).st_size
        written = os.pread(self._output.fileno(), 4000, max(0, size - 4000))
        last = "\n".join(written.decode(errors="replace").splitlines()[-15:])
        return LostError(f"{self.name} has died ({how})" + (f":\n{last}\n" if last else ""))


async def serve(connection: socket.socket) -> None:
    """The engine's end: answer calls until the rank is gone."""
    from grpo.rollout.vllm.worker import RolloutWorker

    reader, writer = await asyncio.open_connection(sock=connection)

    async def next_message() -> Any:
        (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        return decode(await reader.readexactly(size))

    worker = RolloutWorker(await next_message())

    async def answer(number: int, method: str, args: list[Any]) -> None:
        try:
            reply = encode([number, False, await getattr(worker, method)(*args)])
        except Exception:
            reply = encode([number, True, traceback.format_exc()])
        writer.write(_HEAD.pack(len(reply)) + reply)

    answering: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive
    try:
        while True:
            task = asyncio.create_task(answer(*await next_message()))
            answering.add(task)
            task.add_done_callback(answering.discard)
    except (asyncio.IncompleteReadError, ConnectionError):
        await worker.shutdown()


def main() -> None:
    """The process: `python -m grpo.runtime.torchrun.engine_process FILE_DESCRIPTOR`."""
    pr_set_pdeathsig = 1  # of prctl(2): also when the rank is killed while this process hangs
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
    sys.stdout.flush()
    os._exit(0)  # what vLLM still has under way is of no use to anybody


if __name__ == "__main__":
    main()
