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
from grpo.types import StepSettings, TrainSample

rank, world_size, port, tokens, updates, kl = map(float, sys.argv[1:7])
rng = random.Random(3)
pairs, advantages = [], []
for n in (3, 17, 5, 30, 8, 2, 21, 11):
    prompt = [rng.randrange(2, 90) for _ in range(rng.randint(2, 9))]
    pairs.append((prompt, [rng.randrange(2, 90) for _ in range(n)]))
    advantages.append(rng.uniform(-1, 1))
case = sys.argv[8]
if case == "half":
    pairs, advantages = pairs[:4], advantages[:4]
elif case == "still":
    advantages[4:] = [0.0] * 4
elif case in ("empty", "partly"):
    first = 4 if case == "empty" else 5
    pairs[first:] = [(prompt, []) for prompt, _ in pairs[first:]]
samples = [TrainSample.from_tokens(p, r, [-1.0] * len(r)) for p, r in pairs]
spec = LearnerSpec(
    model_folder=sys.argv[7], device="cpu", dtype="float32", world_size=int(world_size), pad_token_id=0,
    modules=(), objective="grpo", transfer_timeout_seconds=60,
    algorithm=AlgorithmConfig(kl_coef=kl), optimizer=OptimizerConfig(lr=1e-3, max_grad_norm=1e9, eps=1.0),
    learner=LearnerConfig(num_ranks=int(world_size), tokens_per_microbatch=int(tokens), param_persistence_threshold=0),
)
worker = LearnerWorker(spec, int(rank))
worker.start("127.0.0.1", int(port))
settings = StepSettings(
    lr=1e-3, temperature=0.8, kl_coef=kl, aggregation_constant=32, num_updates=int(updates)
)
stats = []
for _ in range(2):
    worker.prepare(samples, settings)
    stats.append(worker.optimise(advantages, settings))
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
