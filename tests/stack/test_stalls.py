"""Processes that hang or die, as the driver sees them. They are real actors of a private Ray cluster
with workers that do nothing, so that no model has to be loaded.
"""

from __future__ import annotations

import os
import re
import signal
import time
from types import SimpleNamespace

import pytest

from grpo.common.errors import StalledError
from grpo.config import load_config
from grpo.runtime.ray.cluster import reserve
from grpo.runtime.ray.learner import LearnerGroup
from grpo.runtime.ray.rollouts import RolloutPool
from grpo.types import Response, SampleRequest, SamplingSettings

pytestmark = pytest.mark.stack


def workers():
    """Classes of a function, which travel to the actors whole."""

    class Engine:
        def __init__(self, spec):
            self.keys = []

        async def start(self):
            pass

        async def submit(self, requests, settings):
            self.keys += [request.key for request in requests]

        async def completed(self):
            keys, self.keys = self.keys, []
            return [Response(key, [1], "x", [0.0], "stop", 0, key) for key in keys]

    class Rank:
        def __init__(self, spec, rank):
            self.rank = rank

        def rendezvous(self, address):
            return 1

        def start(self, address, port):
            pass

        def optimise(self, advantages, settings):
            time.sleep(settings)
            return {}

        def wait_for_nobody(self):
            time.sleep(1000)

        def save(self, folder, tokenizer_folder):
            if self.rank == 1:
                self.wait_for_nobody()

    return Engine, Rank


def test_what_hangs_or_dies_is_named_and_leaves_the_stacks_of_all(monkeypatch, tmp_path):
    engine, rank = workers()
    monkeypatch.setattr("grpo.rollout.vllm.worker.RolloutWorker", engine)
    monkeypatch.setattr("grpo.learner.worker.LearnerWorker", rank)
    monkeypatch.setattr("grpo.runtime.stacks.claimed", lambda: [tmp_path])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    notices = []
    spec = SimpleNamespace(
        world_size=2,
        model_folder="",
        num_workers=1,
        max_num_seqs=1,
        transfer_timeout_seconds=60,
        environment=dict,
    )
    config = load_config("tiny", ["rollout.num_engines=2", "learner.num_ranks=2"])
    with reserve(config) as cluster:
        rollouts = RolloutPool(cluster, spec, 60, 3, notices.append)
        learner = LearnerGroup(cluster, spec, 60, 60)
        learner.wait_until_ready(60)
        rollouts.wait_until_ready(60)
        learner._rollouts = rollouts  # what connect() does, without the channel
        pids = {str(one.name): one.whereabouts()[1] for one in cluster.processes._all.values()}
        assert set(pids) == {"engine 0", "engine 1", "learner rank 0", "learner rank 1"}

        # An engine dies while the learner works: it is replaced within 5 s, not at the next sync.
        os.kill(pids["engine 0"], signal.SIGKILL)
        learner.optimise([], 5)
        host = cluster.engines.nodes[0].address
        told = f"engine 0 (PID {pids['engine 0']} on {host}) died while it had nothing to do."
        assert [notice[: len(told)] for notice in notices] == [told]

        # An engine hangs while it samples: the stacks of all are kept before it is replaced.
        os.kill(pids["engine 1"], signal.SIGSTOP)
        rollouts.submit(
            [SampleRequest(7, [1], 7)], SamplingSettings(num_samples=1, temperature=1, max_tokens=1)
        )
        rollouts.feed = lambda: rollouts.client(60)
        assert [one.key for some in rollouts.completed() for one in some] == [7]
        told = rf"engine 1 \(PID {pids['engine 1']} on {host}\) has not answered for rollout\."
        assert re.match(told, notices[1]) and notices[1].endswith("; 1 samples are made again")
        assert f"(stacks of the processes: {tmp_path / 'stacks'})" in notices[1]
        files = {file.name[16:]: file for file in (tmp_path / "stacks").iterdir()}
        names = ["engine_0.txt", "engine_1.txt", "learner_rank_0.txt", "learner_rank_1.txt"]
        assert sorted(files) == names
        text = files["engine_1.txt"].read_text()
        assert text.startswith(notices[1].partition(" (stacks")[0])
        assert f"Process {pids['engine 1']}:" in text
        for file in files.values():
            file.unlink()

        # A rank hangs.
        learner.learn_seconds = 3
        phase = r"learner, save \(cluster\.learn_timeout_seconds\): no answer for 3 s from "
        late = rf"learner rank 1 \(PID {pids['learner rank 1']} on {host}\) \(stacks of"
        with pytest.raises(StalledError, match=phase + late):
            learner.save("", "")
        (file,) = (tmp_path / "stacks").glob("*_learner_rank_1.txt")
        assert "wait_for_nobody" in file.read_text()
        assert len(list((tmp_path / "stacks").iterdir())) == 4
        learner.close()
        rollouts.close()
