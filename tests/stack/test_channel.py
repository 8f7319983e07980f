"""Two engines and two ranks: the weight channel, the prefix cache, aborts, and work that goes where
there is room.
"""

from __future__ import annotations

import dataclasses
import random
import time

import pytest

from grpo.trainer import make_samples
from grpo.types import SampleRequest, SamplingSettings, StepSettings, TrainSample
from tests.models import SMALL_MODEL
from tests.stack.conftest import running
from tests.stack.test_shared_stack import sampled, update

pytestmark = pytest.mark.stack

SAMPLING = SamplingSettings(num_samples=1, temperature=1.0, max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def stack():
    with running(SMALL_MODEL, "rollout.num_engines=2", "rollout.max_num_seqs=4") as living:
        yield living


def requests(count, length=90):
    """Requests with the same prompt and seeds of their own."""
    prompt = [random.Random(5).randrange(2, 300) for _ in range(length)]
    return [SampleRequest(i, prompt, 100 + i) for i in range(count)]


def run(stack, chosen, settings=SAMPLING):
    stack.rollouts.submit(chosen, settings)
    return {r.key: r for batch in stack.rollouts.completed() for r in batch}


def move(stack, seed=1):
    """An update large enough to be seen, not yet handed over."""
    rng = random.Random(seed)
    text = [rng.randrange(2, 300) for _ in range(40)]
    samples = [TrainSample.from_tokens(text[:4], text[4:], [-5.0] * 36)] * 4
    return update(stack.learner, samples, [1.0] * 4, lr=1e-2)


def test_both_engines_get_every_new_weight(stack):
    text = [random.Random(2).randrange(2, 300) for _ in range(50)]
    for version in (1, 2):
        before = stack.rollouts.prompt_logprobs(text)
        move(stack, version)
        stack.learner.push_weights(version)
        first, second = stack.rollouts.prompt_logprobs(text)
        assert first == second
        assert first != before[0]
        sample = TrainSample.from_tokens(text[:1], text[1:], [0.0] * 49)
        (ours,) = stack.learner.logprobs([sample], 1.0)
        assert first == pytest.approx(ours, abs=1e-4)


def test_the_weights_of_both_engines_are_proven(stack):
    first = stack.learner.push_weights(3, check=True)
    move(stack, 3)
    second = stack.learner.push_weights(4, check=True)
    for report in (first, second):
        assert (report.differing, report.unproven) == ([], [])
    moved = [name for name in first.hashes if first.hashes[name] != second.hashes[name]]
    assert moved == list(first.hashes)  # an update with this learning rate moves every tensor


def test_a_prompt_of_several_kv_blocks_is_computed_anew_under_new_weights(stack):
    """With blocks of the old weights in the cache the samples would be those of a policy that never
    was.
    """
    chosen = requests(4, length=400)  # three whole blocks: vLLM's have 128 tokens on CPU
    run(stack, chosen)  # fills the prefix cache
    move(stack, 7)
    stack.learner.push_weights(20)
    cached = run(stack, chosen)
    samples = [
        TrainSample.from_tokens(chosen[0].prompt_token_ids, r.token_ids, r.logprobs)
        for _, r in sorted(cached.items())
    ]
    ours = stack.learner.logprobs(samples, 1.0)
    for sample, logprobs in zip(samples, ours, strict=True):
        theirs = sample.behaviour_logp_T[sample.loss_mask_T].tolist()
        assert theirs == pytest.approx(logprobs, abs=1e-4)


def test_the_channel_can_be_closed_and_opened_again(stack):
    stack.learner.connect(stack.rollouts)
    move(stack, 8)
    stack.learner.push_weights(21)
    assert {r.weight_version for r in run(stack, requests(4)).values()} == {21}


def test_more_requests_than_both_engines_can_run_are_all_answered_once(stack):
    found = run(stack, requests(37))
    assert sorted(found) == list(range(37))
    assert {len(r.token_ids) for r in found.values()} == {24}
    assert run(stack, requests(3))[2].token_ids == found[2].token_ids


def test_aborted_requests_come_back_with_what_they_have(stack):
    long = SamplingSettings(num_samples=1, temperature=1.0, max_tokens=400, ignore_eos=True)
    # On a busy machine an engine may be done with its first before the abort arrives. Once in five
    # it does arrive in time, or it does not work.
    for _ in range(5):
        stack.rollouts.submit(requests(12), long)
        partials = stack.rollouts.abort()
        finished = [r for batch in stack.rollouts.completed() for r in batch]
        assert sorted(r.key for r in [*partials, *finished]) == list(range(12))
        assert {r.finish_reason for r in finished} <= {"length"}
        if not finished:
            break
    assert not finished, "requests go on to their end after an abort"
    assert {r.finish_reason for r in partials} == {"abort"}
    assert all(len(r.token_ids) == len(r.logprobs) < 400 for r in partials)
    whole = run(stack, requests(12), long)
    for partial in partials:
        assert whole[partial.key].token_ids[: len(partial.token_ids)] == partial.token_ids


def test_a_sample_of_other_weights_is_refused(stack):
    groups = sampled(stack, stack.inputs.prompts[:2])
    version = groups[0].group.responses[0].weight_version
    assert len(make_samples(groups, version)) == 8
    with pytest.raises(ValueError, match="which can use those from"):
        make_samples(groups, version + 1)


def test_weights_may_change_while_requests_are_in_flight(stack):
    """Sampling pauses, goes on with the new weights, and every token says which weights made it."""
    long = SamplingSettings(num_samples=1, temperature=1.0, max_tokens=300, ignore_eos=True)
    stack.rollouts.submit(requests(8), long)
    move(stack, 9)
    stack.learner.push_weights(22)
    found = [r for batch in stack.rollouts.completed() for r in batch]
    assert len(found) == 8
    versions = [sorted(set(r.versions_T().tolist())) for r in found]
    assert all(row[-1] == 22 for row in versions)
    after = run(stack, requests(2))
    assert {r.weight_version for r in after.values()} == {22}


def test_a_response_goes_on_in_segments_and_each_follows_the_weights_that_made_it(stack):
    """What partial rollouts rest on: the second segment is of the new policy, given the first."""
    segmented = dataclasses.replace(SAMPLING, max_tokens=24, segment_tokens=10)
    asked, found, logprobs = requests(4), {}, {}
    for segment, (length, reason) in enumerate([(10, "segment"), (20, "segment"), (24, "length")]):
        if segment:
            move(stack, 30 + segment)
            stack.learner.push_weights(30 + segment)
            asked = [dataclasses.replace(r, seed=50 * segment + r.key, begun=found[r.key])
                     for r in asked]  # fmt: skip
        found = run(stack, asked, segmented)
        assert {(len(r.token_ids), r.finish_reason) for r in found.values()} == {(length, reason)}
        samples = [
            TrainSample.from_tokens(
                asked[0].prompt_token_ids, found[key].token_ids, found[key].logprobs
            )
            for key in sorted(found)
        ]
        logprobs[segment] = stack.learner.logprobs(samples, 1.0)
    for i, key in enumerate(sorted(found)):
        theirs = found[key].logprobs
        for segment, (start, stop) in enumerate([(0, 10), (10, 20), (20, 24)]):
            assert theirs[start:stop] == pytest.approx(logprobs[segment][i][start:stop], abs=1e-4)
        # the last weights see the first segment otherwise
        assert theirs[:10] != pytest.approx(logprobs[2][i][:10], abs=1e-4)
        assert found[key].versions_T().tolist() == [22] * 10 + [31] * 10 + [32] * 4


def test_measuring_first_changes_nothing_in_the_update(stack):
    groups = sampled(stack, stack.inputs.prompts[:4])
    samples = make_samples(groups, 32)
    settings = StepSettings(lr=0.0, temperature=1.0)
    advantages = [1.0, -1.0] * 8
    measured = stack.learner.prepare(samples, settings, measure=True)
    first = stack.learner.optimise(advantages, settings)
    stack.learner.prepare(samples, settings)
    assert stack.learner.optimise(advantages, settings) == first
    assert len(measured) == 16
    assert all(abs(m.mismatch) < 1e-5 and m.kl is None for m in measured)


def test_a_request_that_fails_ends_the_wait_with_its_error(stack):
    """The last test of this stack. An engine that dies must end a run at once, not after a deadline."""
    too_long = [SampleRequest(0, [5] * 600, 1)]  # the context has 512 tokens
    start = time.monotonic()
    with pytest.raises(Exception, match="512"):
        run(stack, too_long)
    assert time.monotonic() - start < 20
