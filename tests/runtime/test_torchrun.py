"""The parts of the torchrun runtime that need neither torchrun nor an engine. A whole run is in
tests/stack/test_run.py.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from grpo.common.errors import LostError, StalledError, UserError
from grpo.config import load_config, load_sft_config
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.runtime.torchrun.engine_process import EngineProcess, engine_environment
from grpo.runtime.torchrun.group import Group, place_of, where
from grpo.runtime.torchrun.messages import decode, encode
from grpo.runtime.torchrun.ranks import Rank, SpmdLearner, split
from grpo.types import Response, SampleRequest, TrainSample

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "head",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "OMP_NUM_THREADS": "1",
}


def engine_spec(**changes):
    settings = {
        "model_folder": "/nowhere",
        "device": "cpu",
        "dtype": "float32",
        "max_model_len": 64,
        "max_num_seqs": 8,
        "threads": 3,
        "kv_cache_gib": 0.1,
        "gpu_memory_share": 0.5,
        "tensor_parallel": 1,
        "enforce_eager": True,
        "end_token_ids": (1, 2),
    }
    return EngineSpec(**{**settings, **changes})


def learner_spec(config):
    return LearnerSpec(
        model_folder="/nowhere",
        device="cpu",
        dtype="float32",
        world_size=4,
        pad_token_id=0,
        modules=("one", "two"),
        objective=config.algorithm.objective,
        algorithm=config.algorithm,
        optimizer=config.optimizer,
        learner=config.learner,
        transfer_timeout_seconds=9,
    )


def recipe(*overrides):
    sizes = ("learner.num_ranks=4", "rollout.num_engines=4", "runtime=torchrun")
    return load_config("tiny", [*sizes, *overrides])


# --- messages ---------------------------------------------------------------------------------


def test_what_is_sent_arrives_as_the_same_bits():
    logprob, seed = -0.1234567890123456789, 2**63 - 1
    response = Response(7, [5, 6], "x\x00é", [logprob, -0.0], "stop", 3, seed, ((0, 1, 2),))
    sent = [response, {2: None}, SampleRequest(1, [2], seed, begun=response)]
    found = decode(encode(sent))
    assert found == sent
    assert found[0].logprobs[0].hex() == logprob.hex()
    sample = TrainSample.from_tokens([1, 2], [3], [np.float32(-0.3)], version=4)
    again = decode(encode(sample))
    for name in ("token_ids_T", "loss_mask_T", "behaviour_logp_T", "weight_version_T"):
        ours, theirs = getattr(sample, name), getattr(again, name)
        assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
        assert theirs.flags.writeable


def test_the_settings_of_a_rank_arrive_as_they_were():
    spec = learner_spec(recipe("learner.lora={rank: 2, alpha: 4}", "algorithm=dr_grpo"))
    tuned = replace(spec, optimizer=load_sft_config("sft_tiny", []).optimizer)
    assert decode(encode([spec, tuned, engine_spec()])) == [spec, tuned, engine_spec()]


def test_a_message_is_of_known_types_only():
    for value in (print, {1, 2}, signal.SIGTERM, LostError("x")):
        with pytest.raises(TypeError, match="cannot be in a message"):
            encode([value])


# --- where a process is -----------------------------------------------------------------------


def test_without_torchrun_the_command_to_use_is_told():
    with pytest.raises(UserError, match=r"torchrun --standalone --nproc-per-node 4 -m grpo\.train"):
        place_of(recipe(), {}, num_gpus=0)


def test_a_recipe_of_another_size_is_refused_with_both_numbers():
    config = recipe("learner.num_ranks=2", "rollout.num_engines=1")
    with pytest.raises(UserError) as caught:
        place_of(config, TORCHRUN, num_gpus=0)
    ranks, engines = str(caught.value).splitlines()
    assert "learner.num_ranks=2" in ranks and "torchrun has started 4" in ranks
    assert "rollout.num_engines=1" in engines and "set rollout.num_engines=4" in engines


def test_engines_have_the_gpus_behind_those_of_all_ranks_of_the_machine():
    config = recipe("rollout.gpus_per_engine=2")
    place = place_of(config, TORCHRUN, num_gpus=6)
    assert (place.learner_gpu, place.engine_gpus) == ("1", "4,5")
    named = {**TORCHRUN, "CUDA_VISIBLE_DEVICES": "7,6,5,4,3,2"}
    place = place_of(config, named, num_gpus=6)
    assert (place.learner_gpu, place.engine_gpus) == ("6", "3,2")
    with pytest.raises(UserError, match=r"need 6 GPUs.*there are 5"):
        place_of(config, TORCHRUN, num_gpus=5)


def test_an_engine_is_started_without_the_variables_of_torchrun():
    rank = {**TORCHRUN, "PATH": "/bin", "DS_ACCELERATOR": "cpu"}
    found = engine_environment(rank, engine_spec(), gpus=None)
    assert not found.keys() & (TORCHRUN.keys() - {"OMP_NUM_THREADS"})
    assert "DS_ACCELERATOR" not in found
    assert (found["OMP_NUM_THREADS"], found["PATH"]) == ("3", "/bin")
    on_gpu = engine_environment(rank, engine_spec(device="cuda"), gpus="4,5")
    assert on_gpu["CUDA_VISIBLE_DEVICES"] == "4,5" and "OMP_NUM_THREADS" not in on_gpu


def test_the_port_at_which_ranks_meet_is_bound_before_it_is_told(monkeypatch):
    spec, told = learner_spec(recipe()), []
    for name, value in spec.environment().items():  # the rank sets them
        monkeypatch.setenv(name, value)
    group = SimpleNamespace(address="127.0.0.1", collective=lambda own, *call: told.append(call))
    rank = Rank(place_of(recipe(), {**TORCHRUN, "RANK": "0"}, num_gpus=0))
    learner = SpmdLearner(group, rank, spec)
    ((method, _, address, port),) = told
    assert (method, address) == ("start_learner", "127.0.0.1")
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind(("", port))
    del learner


# --- shares -----------------------------------------------------------------------------------


def test_groups_stay_together_and_go_where_the_fewest_samples_are():
    prompts = [[1], [1], [2], [2], [3], [3]]
    requests = [SampleRequest(key, prompt, key) for key, prompt in enumerate(prompts)]
    keys = [[request.key for request in share] for share in split(requests, [0, 0])]
    assert keys == [[0, 1, 4, 5], [2, 3]]
    keys = [[request.key for request in share] for share in split(requests, [5, 0])]
    assert keys == [[], [0, 1, 2, 3, 4, 5]]


# --- the engine's process ---------------------------------------------------------------------


def test_an_engine_that_is_killed_is_lost_at_once_and_says_how():
    engine = EngineProcess(engine_spec(), "the engine of rank 5")
    began = time.monotonic()
    os.kill(engine._process.pid, signal.SIGKILL)
    name = rf"the engine of rank 5 \(PID {engine._process.pid} on {where()}\)"
    with pytest.raises(LostError, match=rf"{name} has died \(exit code -9\)"):
        engine.is_ready(60)
    with pytest.raises(LostError):
        engine.call("completed", seconds=60)
    assert time.monotonic() - began < 50
    engine.close()


# --- rank 0 leads -----------------------------------------------------------------------------


class Calls:
    """What a rank does in these tests."""

    def __init__(self):
        self.heard = []

    def note(self, value):
        self.heard.append(value)

    def double(self, value):
        return [2 * value]

    def refuse(self, value):
        raise UserError(f"no room for {value}")

    def rest(self, seconds):
        time.sleep(seconds)

    def receive_signal(self):
        os.kill(os.getpid(), signal.SIGTERM)


def two_ranks(lead):
    """Rank 0 in a thread, which calls `lead`; rank 1 here. Returns what both came to."""
    store, results = dist.HashStore(), {}

    def join(rank):
        homes = [(os.getpid(), where())] * 2
        group = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=60))
        return Group(rank, 2, group, learn_seconds=2, homes=homes)

    def first():
        group = join(0)
        results["lead"] = lead(group)
        group.leave(75)

    calls = Calls()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    thread = threading.Thread(target=first)
    thread.start()
    try:
        results["code"] = join(1).follow(calls)
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
        thread.join(60)
    return results, calls


def test_calls_are_made_in_order_and_the_exit_code_of_rank_0_is_that_of_all():
    own = Calls()

    def lead(group):
        group.tell("note", "a")
        assert group.collective(own.note, "note", "b") is None
        return group.ask(own.double, "double", 21, seconds=60)

    results, calls = two_ranks(lead)
    assert (calls.heard, own.heard) == (["a", "b"], ["b"])
    assert results == {"lead": [[42], [42]], "code": 75}


def test_an_error_of_another_rank_is_raised_on_rank_0_and_ends_nothing():
    def lead(group):
        with pytest.raises(UserError, match=r"rank 1 \(PID \d+ on .*\): no room for 3"):
            group.ask(Calls().double, "refuse", 3, seconds=60)
        with pytest.raises(RuntimeError, match=r"rank 1 .*: Traceback(.|\n)*AttributeError"):
            group.ask(lambda: None, "nonsense", seconds=60)
        return group.ask(Calls().double, "double", 1, seconds=60)

    assert two_ranks(lead)[0] == {"lead": [[2], [2]], "code": 75}


def wait_for_a_collective(group):
    def never(value):
        group.group.recv([torch.zeros(1)], 1, 77).wait(timedelta(seconds=1))

    group.collective(never, "note", 1)


def wait_for_an_answer(group):
    group.ask(lambda seconds: None, "rest", 4.0, seconds=1)


def wait_for_a_call_to_be_taken(group):
    group.tell("rest", 4.0)
    group.tell("note", bytes(50_000_000))


@pytest.mark.parametrize(
    ("late", "phase"),
    [
        (wait_for_a_collective, "learner, note"),
        (wait_for_an_answer, "answer to rest"),
        (wait_for_a_call_to_be_taken, "call of note"),
    ],
)
def test_a_rank_that_does_not_come_is_named_and_its_stack_is_kept(
    monkeypatch, tmp_path, late, phase
):
    monkeypatch.setattr("grpo.runtime.stacks.claimed", lambda: [tmp_path])
    told = []

    def lead(group):
        try:
            late(group)
        except StalledError as error:
            told.append(str(error))

    with pytest.raises(LostError, match="rank 0 has ended"):
        two_ranks(lead)
    (message,) = told
    rank_1 = f"rank 1 (PID {os.getpid()} on {where()}) ("
    assert message.startswith(f"{phase}: no answer in time from {rank_1}")
    assert "Timed out" in message
    assert message.endswith(f"(stacks of the processes: {tmp_path / 'stacks'})")
    (file,) = (tmp_path / "stacks").glob("*_rank_1.txt")
    assert "two_ranks (" in file.read_text()


def test_a_signal_to_another_rank_is_passed_on_to_rank_0(monkeypatch):
    relayed = []
    monkeypatch.setattr("grpo.runtime.torchrun.group.relay", relayed.append)

    def lead(group):
        group.ask(lambda: None, "receive_signal", seconds=60)
        return group.ask(Calls().double, "double", 1, seconds=60)

    assert two_ranks(lead)[0]["code"] == 75
    assert relayed == [signal.SIGTERM]


def test_after_a_collective_that_failed_nothing_more_is_sent():
    def fail(value):
        raise ValueError("torn")

    def lead(group):
        with pytest.raises(ValueError, match="torn"):
            group.collective(fail, "note", 1)
        with pytest.raises(LostError, match="note has failed on rank 0: torn"):
            group.tell("note", 2)
        group.lost = None  # so that the other rank hears of the end
        return "done"

    results, calls = two_ranks(lead)
    assert results["lead"] == "done" and calls.heard == [1]
