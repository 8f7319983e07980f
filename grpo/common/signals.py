"""Ctrl-C and SIGTERM: the first one ends a command by an exception, so that everything is closed.

A block that must not be torn apart holds it back (`held`), and a limit of time can be set for all
that follows (`limit_grace`). A second signal ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from grpo.common.errors import OutOfTime, Terminated

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}

_holding = 0  # blocks that hold signals back
_waiting: BaseException | None = None  # what the end of the outermost of them raises
_grace: float | None = None  # seconds


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block Ctrl-C is `KeyboardInterrupt` and SIGTERM is `Terminated`, raised in the
    main thread.
    """
    global _waiting, _grace
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (*_NAMES, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    _waiting = _grace = None
    take_signals()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def take_signals() -> None:
    """Set the handlers. Libraries that set some of their own (`ray.init` does) undo this. Call it
    again after them.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _NAMES:
            signal.signal(number, _handle)


def limit_grace(seconds: float) -> None:
    """From its first signal on, the command has so many seconds. Then `OutOfTime` is raised, in
    held blocks too.
    """
    global _grace
    _grace = seconds


def _handle(number: int, frame: object) -> None:
    global _waiting
    for one in _NAMES:
        signal.signal(one, signal.SIG_DFL)  # the next one ends the process at once
    if _grace is not None:
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, _grace)
    error = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
    if not _holding:
        raise error
    _waiting = error


def relay(number: int) -> None:
    """Take a signal that came to another process of the run as if it had come here.

    It may come here as well, as one that is sent to all processes does. So none that follows ends
    this process.
    """
    if signal.getsignal(number) is _handle:
        try:
            _handle(number, None)
        finally:
            for one in _NAMES:
                signal.signal(one, signal.SIG_IGN)


def _ring(number: int, frame: object) -> None:
    global _waiting
    _waiting = None  # the end of a held block would raise the signal in place of this
    raise OutOfTime


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes within the block is raised at its end, whatever that end is.

    For work that leaves nothing usable when it is torn apart, such as an update of the weights.
    """
    global _holding, _waiting
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if not _holding and _waiting is not None:
            error, _waiting = _waiting, None
            raise error


def name_of(error: BaseException) -> str:
    """What a user calls the signal behind an exception."""
    return _NAMES[signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM]
