"""What a training sample can express, and that packing keeps every token's own numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.types import Problem
from grpo.learner.packing import advantages_of, collate, plan_microbatches
from grpo.types import Prompt, Response, TrainSample

PROMPT = Prompt(Problem(id="p", question="1+1", answer="2", source="s"), "1+1", [1, 2, 3])


def response(ids, version=0, spans=()):
    logprobs = [-0.1 * (i + 1) for i in range(len(ids))]
    return Response(0, ids, "text", logprobs, "stop", version, 7, spans)


def test_two_turns_with_a_tool_in_between_train_what_the_policy_wrote():
    sample = TrainSample.from_turns([PROMPT, response([4, 5], 3), ("tool", [6]), response([7], 4)])
    assert sample.token_ids_T.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert sample.loss_mask_T.tolist() == [False] * 3 + [True, True, False, True]
    assert sample.weight_version_T.tolist() == [-1, -1, -1, 3, 3, -1, 4]
    assert sample.behaviour_logp_T == pytest.approx([0, 0, 0, -0.1, -0.2, 0, -0.1])
    assert [(s.role, s.start, s.stop) for s in sample.segments] == [
        ("prompt", 0, 3),
        ("response", 3, 5),
        ("context", 5, 6),
        ("response", 6, 7),
    ]


def test_a_response_that_two_policies_wrote_carries_both_versions():
    sample = TrainSample.from_turns([PROMPT, response([4, 5, 6], 9, ((0, 2, 8), (2, 3, 9)))])
    assert sample.weight_version_T.tolist() == [-1, -1, -1, 8, 8, 9]


def test_one_advantage_is_shared_and_many_are_taken_at_the_mask():
    sample = TrainSample.from_turns([PROMPT, response([4, 5]), ("forced", [6]), response([7])])
    assert sample.advantage_N(0.5).tolist() == [0.5, 0.5, 0.5]
    per_token = np.arange(7, dtype=np.float32)
    assert sample.advantage_N(per_token).tolist() == [3.0, 4.0, 6.0]


def test_a_trained_first_token_is_refused_because_nothing_predicts_it():
    with pytest.raises(ValueError, match="nothing predicts it"):
        TrainSample.from_tokens([], [1, 2], [0.0, 0.0])


turns = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(1, 99), min_size=0, max_size=6)), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(st.lists(turns, min_size=1, max_size=7), st.integers(1, 3), st.integers(4, 60))
def test_packing_keeps_every_trained_token_with_its_own_numbers(conversations, num_ranks, budget):
    """Over all ranks and micro-batches each trained token occurs once, with the tokens before it as
    its context.
    """
    samples = []
    for turns in conversations:
        parts = [response(ids) if trained else ("text", ids) for trained, ids in turns]
        samples.append(TrainSample.from_turns([PROMPT, *parts]))
    weights = [float(i + 1) for i in range(len(samples))]
    advantages = [
        np.arange(s.num_tokens, dtype=np.float32) + 100 * i for i, s in enumerate(samples)
    ]
    lengths = [sample.num_tokens for sample in samples]
    seen = set()
    for ranks in plan_microbatches(lengths, num_ranks, budget):
        for rows in ranks:
            mb = collate(samples, rows, weights, pad_token_id=0)
            advantage_N = advantages_of(mb, samples, advantages)
            if not rows:
                assert mb.weight_N.tolist() == [0.0]
                continue
            places = mb.predicts_BT.nonzero().tolist()
            assert len(places) == len(mb.targets_N) == len(advantage_N)
            for n, (b, t) in enumerate(places):
                i = rows[b]
                context = samples[i].token_ids_T[: t + 1].tolist()
                assert mb.input_ids_BT[b, : t + 1].tolist() == context
                assert mb.targets_N[n] == samples[i].token_ids_T[t + 1]
                assert samples[i].loss_mask_T[t + 1]
                assert mb.weight_N[n] == weights[i]
                assert mb.row_N[n] == b
                assert advantage_N[n] == 100 * i + t + 1
                behaviour = torch.tensor(samples[i].behaviour_logp_T[t + 1])
                assert mb.behaviour_logp_N[n] == behaviour
                seen.add((i, t + 1))
    wanted = {(i, t) for i, s in enumerate(samples) for t in np.flatnonzero(s.loss_mask_T).tolist()}
    assert seen == wanted
