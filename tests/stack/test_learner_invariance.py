"""The gradient of a batch depends neither on micro-batches nor on the number of ranks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from tests.closeness import close
from tests.models import SMALL_MODEL

pytestmark = pytest.mark.stack

# Runs one rank, without Ray: an actor is a plain class.
RANK = """
import json, random, sys
from grpo.config import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.learner.spec import LearnerSpec
from grpo.learner.worker import LearnerWorker
from grpo.types import Batch, TrainSample

rank, world_size, port, tokens, updates, kl = map(float, sys.argv[1:7])
rng = random.Random(3)
samples = [
    TrainSample([rng.randrange(2, 90) for _ in range(rng.randint(2, 9))],
                [rng.randrange(2, 90) for _ in range(n)], [-1.0] * n, rng.uniform(-1, 1))
    for n in (3, 17, 5, 30, 8, 2, 21, 11)
]
case = sys.argv[8]
if case == "half":
    samples = samples[:4]
elif case == "still":
    samples[4:] = [TrainSample(s.prompt_token_ids, s.response_token_ids, s.engine_logprobs, 0.0) for s in samples[4:]]
elif case == "empty":
    samples[4:] = [TrainSample(s.prompt_token_ids, [], [], s.advantage) for s in samples[4:]]
elif case == "partly":
    samples[5:] = [TrainSample(s.prompt_token_ids, [], [], s.advantage) for s in samples[5:]]
spec = LearnerSpec(
    model_folder=sys.argv[7], device="cpu", dtype="float32", world_size=int(world_size), num_updates=int(updates),
    max_steps=10, pad_token_id=0, aggregation_constant=32,
    algorithm=AlgorithmConfig(kl_coef=kl), optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e9, eps=1.0),
    learner=LearnerConfig(num_ranks=int(world_size), tokens_per_microbatch=int(tokens), param_persistence_threshold=0),
)
worker = LearnerWorker(spec, int(rank))
worker.start("127.0.0.1", int(port))
stats = [worker.update(Batch(samples, 0.8, 0), step) for step in range(2)]
logprobs = worker.logprobs(samples, 0.8)
if rank == 0:
    print(json.dumps({"stats": stats, "logprobs": logprobs}))
"""


def learn(world_size, tokens_per_microbatch, updates=1, kl=0.0, case="whole"):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = (world_size, port, tokens_per_microbatch, updates, kl, SMALL_MODEL, case)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), *map(str, settings)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    out = [process.communicate(timeout=300)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * world_size
    return json.loads(out[0].splitlines()[-1])


@pytest.fixture(scope="module")
def one_rank():
    return learn(world_size=1, tokens_per_microbatch=10_000)


@pytest.mark.parametrize(("world_size", "tokens"), [(1, 40), (2, 10_000)])
def test_neither_micro_batches_nor_ranks_change_the_update(one_rank, world_size, tokens):
    other = learn(world_size, tokens)
    for mine, reference in zip(other["stats"], one_rank["stats"], strict=True):
        for key, value in reference.items():
            assert mine[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for mine, reference in zip(other["logprobs"], one_rank["logprobs"], strict=True):
        assert mine == close(reference)


def test_two_updates_a_batch_clip_and_a_reference_measures_the_way_from_it():
    first, second = learn(world_size=1, tokens_per_microbatch=40, updates=2, kl=0.1)["stats"]
    assert first["kl"] < second["kl"]
    assert first["ratio_max"] > 1.0  # the second update of the batch is no longer on-policy


@pytest.fixture(scope="module")
def half():
    return learn(world_size=1, tokens_per_microbatch=40, updates=1, case="half")


@pytest.mark.parametrize("case", ["still", "empty"])
def test_an_update_with_nothing_to_learn_leaves_weights_and_momentum_alone(half, case):
    """Half of the batch has no advantages, or no response tokens: what is left is as if the other
    half were all.
    """
    both = learn(world_size=1, tokens_per_microbatch=40, updates=2, case=case)
    for mine, reference in zip(both["logprobs"][:4], half["logprobs"], strict=True):
        assert mine == close(reference)
    assert both["stats"][1]["grad_norm"] == pytest.approx(half["stats"][1]["grad_norm"], rel=1e-4)


def test_empty_responses_among_others_count_and_do_not_harm():
    first, second = learn(world_size=1, tokens_per_microbatch=20, case="partly")["stats"]
    for stats in (first, second):
        assert 0 < stats["grad_norm"] < 1e3
        assert stats["ratio_max"] == 1.0
