"""The first Ctrl-C or SIGTERM is an exception, which a block can hold back; the grace ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from grpo.common.errors import OutOfTime, Terminated
from grpo.common.signals import held, limit_grace, signals_raise


def test_a_signal_within_a_held_block_is_raised_at_its_end():
    done = []
    with pytest.raises(Terminated), signals_raise():
        with held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("update")
        done.append("never")
    assert done == ["update"]


def test_only_the_outermost_of_held_blocks_lets_a_signal_through():
    done = []
    with pytest.raises(KeyboardInterrupt), signals_raise(), held():
        with held():
            os.kill(os.getpid(), signal.SIGINT)
        done.append("rest")
    assert done == ["rest"]


def test_an_error_within_a_held_block_gives_way_to_the_signal():
    with pytest.raises(Terminated), signals_raise(), held():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("of the torn work")


def test_the_grace_ends_a_held_block():
    began = time.monotonic()
    with pytest.raises(OutOfTime), signals_raise():
        limit_grace(0.2)
        with held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
    assert time.monotonic() - began < 10


def test_handlers_and_the_alarm_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    with pytest.raises(Terminated), signals_raise():
        limit_grace(60)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from grpo.common.signals import held, signals_raise\n"
        "with signals_raise(), held():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('held', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "held\n")
