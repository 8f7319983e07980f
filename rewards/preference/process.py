"""The caller's side of the process that holds a model: deadlines, restarts, and what is lost."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from rewards.execution.pool import worker_environment
from rewards.execution.worker import read_message, write_message
from rewards.preference.model import Exchange
from rewards.preference.settings import PreferenceSettings
from rewards.types import InfrastructureError, RewardFailedError, WorkerStartError

_ATTEMPTS = 3  # processes in a row that end without a single score, before the run ends
_MAX_LOST_SHARE = 0.01
_REQUEST = 256  # exchanges handed over at once: they are tokenised before the first is scored


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a model says of an exchange; `value` is None where it says nothing, and `fault` why."""

    value: float | None
    fault: str = ""
    num_tokens: int = 0
    cut_tokens: int = 0


class _EndedError(Exception):
    """The process is gone, or has hung for so long that it was given up."""


class ModelProcess:
    """One model in a process that is started when it is needed, killed when it hangs, and started
    again when it dies.

    Args:
        where: the setting that messages name, such as `rewards.components.helpful.model`.
        settings: of the model.
        modules: the operator's own, which may register further backends.
    """

    def __init__(
        self, where: str, settings: PreferenceSettings, modules: Sequence[str] = ()
    ) -> None:
        self.where, self.settings, self.modules = where, settings, tuple(modules)
        self.process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # callers in several threads take turns

    def start(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            RewardFailedError: it cannot be loaded; trying again is useless.
            WorkerStartError: the process died or did not answer in time.
        """
        if self.process is not None:
            return
        command = "from rewards.preference.serve import main; main()"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=worker_environment(self.settings.threads),
            start_new_session=True,
        )
        self._replies = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(self.process, self._replies), daemon=True)
        reader.start()
        self._send({"options": asdict(self.settings), "modules": list(self.modules)})
        try:
            reply = self._receive(self.settings.start_timeout_seconds)
        except _EndedError as error:
            raise WorkerStartError(
                f"{self.where}: the process of the reward model cannot start: {error}"
            ) from None
        if "error" in reply:
            self.close()
            raise RewardFailedError(f"{self.where}={self.settings.model}: {reply['error']}")

    def score(self, exchanges: Sequence[Exchange]) -> list[Output]:
        """What the model says of each exchange, in order.

        Where the process dies or hangs, it is started again. The texts that it was working on are
        scored one by one then. One that ends it a second time is given up.

        Raises:
            InfrastructureError: more than 1% of the exchanges, and more than one, have no score; or
                the process ends three times in a row before it has scored anything.
            RewardFailedError: as `start`.
        """
        found: dict[int, Output] = {}
        suspects: set[int] = set()  # the process ended while it was working on them
        empty_handed = 0
        with self._lock:
            while waiting := [i for i in range(len(exchanges)) if i not in found]:
                before, at_work = len(found), list[int]()
                try:
                    self.start()
                    self._run(exchanges, waiting[:_REQUEST], suspects, found, at_work)
                except (_EndedError, WorkerStartError) as error:
                    lost = {i: Output(value=None, fault=str(error)) for i in at_work}
                    found |= {i: output for i, output in lost.items() if i in suspects}
                    suspects |= {*at_work}
                    empty_handed = 0 if len(found) > before else empty_handed + 1
                    if empty_handed == _ATTEMPTS:
                        raise InfrastructureError(
                            f"{self.where}: the process of the reward model ended {empty_handed} "
                            f"times without a score: {error}. Look at the memory of the machine, "
                            "or raise timeout_seconds and start_timeout_seconds"
                        ) from None
                self._check(found, len(exchanges))
        return [found[i] for i in range(len(exchanges))]

    def _run(
        self,
        exchanges: Sequence[Exchange],
        waiting: Sequence[int],
        alone: set[int],
        found: dict[int, Output],
        at_work: list[int],
    ) -> None:
        """Have the `waiting` exchanges scored into `found`, those of `alone` one by one.

        Raises:
            _EndedError: the process ended; `at_work` says what it was working on.
        """
        self._send(
            {
                "exchanges": [list(exchanges[i]) for i in waiting],
                "alone": [k for k, i in enumerate(waiting) if i in alone],
            }
        )
        while "done" not in (reply := self._receive(self.settings.timeout_seconds)):
            at_work[:] = [waiting[k] for k in reply.get("begin", [])]
            for k, value, fault, num_tokens, cut_tokens in reply.get("scored", []):
                found[waiting[k]] = Output(
                    value=value, fault=fault, num_tokens=num_tokens, cut_tokens=cut_tokens
                )

    def _check(self, found: dict[int, Output], total: int) -> None:
        """The rule of `rewards.execution.pool`: a text may be lost, and more are a fault of the
        machine.
        """
        lost = [output.fault for output in found.values() if output.value is None]
        if len(lost) > max(1.0, _MAX_LOST_SHARE * total):
            raise InfrastructureError(
                f"{self.where}: {len(lost)} of {total} responses have no score ({lost[0]}); their "
                "rewards would say something about the machine or the model, not about them"
            )

    def close(self) -> str:
        """End the process; returns what it said last. It is started again when it is needed."""
        process, stderr, self.process, self._stderr = self.process, self._stderr, None, None
        if process is None or stderr is None:
            return ""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        with stderr:
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 2_000))
            return stderr.read().decode(errors="replace").strip()

    def _send(self, message: dict[str, Any]) -> None:
        """Hand over a message. A thread does it, because a process that hangs reads nothing."""
        assert self.process is not None
        threading.Thread(target=_write, args=(self.process, message), daemon=True).start()

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next message.

        Raises:
            _EndedError: the process is gone or has said nothing for so long. It is ended for good.
        """
        assert self.process is not None
        try:
            message = self._replies.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise _EndedError(f"timeout: no answer for {seconds:g} s") from None
        if message is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1)  # it closes its streams before it has said everything
            code = self.process.poll()
            raise _EndedError(f"died with exit code {code}: {self.close()[-500:]}")
        return message


def _read(process: subprocess.Popen[bytes], replies: queue.SimpleQueue[Any]) -> None:
    """Move all messages of a process to a queue, and None at its end."""
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError), process.stdout as stream:
        while (message := read_message(stream)) is not None:
            replies.put(message)
    replies.put(None)


def _write(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError):  # who is gone is noticed by its silence
        write_message(process.stdin, message)
