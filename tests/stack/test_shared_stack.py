"""What must hold between engines and learner, on the real parts."""

from __future__ import annotations

import random

import pytest

from grpo.evaluation.evaluate import EVALUATION_STEP
from grpo.rollout.scoring import make_requests, sample_groups
from grpo.types import SampleRequest, SamplingSettings, StepSettings, TrainSample
from rewards import Component, Scorer

pytestmark = pytest.mark.stack


def fixed_texts(vocabulary=300, count=6, length=60):
    rng = random.Random(7)
    return [[rng.randrange(2, vocabulary) for _ in range(length)] for _ in range(count)]


def update(learner, samples, advantages, lr=1e-3):
    """One update of all samples."""
    settings = StepSettings(lr=lr, temperature=1.0)
    learner.prepare(samples, settings)
    return learner.optimise(advantages, settings)


def gap(stack, temperature):
    """Largest distance between the log-probs of engine and learner over fixed text."""
    worst = 0.0
    samples = [
        TrainSample.from_tokens(ids[:1], ids[1:], [0.0] * (len(ids) - 1)) for ids in fixed_texts()
    ]
    ours = stack.learner.logprobs(samples, temperature)
    for sample, logprobs in zip(samples, ours, strict=True):
        ids = sample.token_ids_T.tolist()
        for theirs in stack.rollouts.prompt_logprobs(ids, temperature):
            worst = max(worst, *(abs(a - b) for a, b in zip(logprobs, theirs, strict=True)))
    return worst


def sampled(stack, prompts, seed=0, temperature=1.0, version=None):
    settings = SamplingSettings(
        num_samples=4,
        temperature=temperature,
        max_tokens=40,
        stop=stack.config.template.stop,
        cut=stack.config.template.cut,
        seed=seed,
    )
    scorer = Scorer({"accuracy": Component(weight=1.0), "format": Component(weight=0.1)})
    return sample_groups(prompts, settings, EVALUATION_STEP, stack.rollouts, scorer).groups


def assert_partitioned(stack):
    reports = stack.learner.partition_reports()
    assert len(reports) == 2
    for report in reports:
        assert report["whole"] == 0
        assert report["local_share"] == pytest.approx(0.5, abs=0.01)


def test_parameters_are_partitioned_from_the_start(stack):
    assert_partitioned(stack)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_log_probs_agree_with_the_learner(stack, temperature):
    groups = sampled(stack, stack.inputs.prompts[:8], temperature=temperature)
    samples = [
        TrainSample.from_turns([group.group.prompt, response])
        for group in groups
        for response in group.group.responses
    ]
    ours = stack.learner.logprobs(samples, temperature)
    gaps = [
        abs(a - b)
        for sample, ids in zip(samples, ours, strict=True)
        for a, b in zip(sample.behaviour_logp_T[sample.loss_mask_T].tolist(), ids, strict=True)
    ]
    assert sum(gaps) / len(gaps) <= 1e-5


def test_an_update_reaches_the_engine_whole_and_with_its_version(stack):
    assert gap(stack, 1.0) < 1e-4
    groups = sampled(stack, stack.inputs.prompts[:8])
    assert {response.weight_version for group in groups for response in group.group.responses} == {
        0
    }
    samples = [
        TrainSample.from_turns([group.group.prompt, response])
        for group in groups
        for response in group.group.responses
    ]
    text = fixed_texts()[0]
    before = stack.rollouts.prompt_logprobs(text)[0]
    stats = update(stack.learner, samples, [1.0, -1.0] * 16)
    assert stats["grad_norm"] > 0
    assert gap(stack, 1.0) > 1e-4  # the learner has moved on, the engine has not
    report = stack.learner.push_weights(5, check=True)
    assert (report.differing, report.unproven) == ([], [])
    assert len(report.hashes) == 27  # both names of a tied weight
    assert gap(stack, 1.0) < 1e-4
    assert_partitioned(stack)  # gathering whole weights for the engine leaves none behind
    assert stack.rollouts.prompt_logprobs(text)[0] != before
    groups = sampled(stack, stack.inputs.prompts[:2])
    assert {response.weight_version for group in groups for response in group.group.responses} == {
        5
    }


def test_a_batch_without_gradient_moves_nothing(stack):
    text = TrainSample.from_tokens([2], [3, 4], [-1.0, -1.0])
    before = stack.learner.logprobs([text], 1.0)
    stats = update(stack.learner, [text] * 4, [0.0] * 4)
    assert (stats["loss"], stats["grad_norm"]) == (0.0, 0.0)
    assert stack.learner.logprobs([text], 1.0) == before


def test_a_response_that_meets_its_stop_string_keeps_it_and_scores_format_one(stack):
    groups = sampled(stack, stack.inputs.prompts[:8])
    pairs = [
        (response, score)
        for group in groups
        for response, score in zip(group.group.responses, group.scores, strict=True)
        if response.text.endswith("</answer>") and response.text.startswith("<think>")
    ]
    assert pairs
    assert {response.finish_reason for response, _ in pairs} == {"stop"}
    assert {score.components["format"].score for _, score in pairs} == {1.0}


def test_text_and_tokens_are_the_same_thing(stack):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stack.inputs.model_folder)
    for group in sampled(stack, stack.inputs.prompts[:8]):
        for response in group.group.responses:
            assert (
                tokenizer.decode(response.token_ids).removesuffix(tokenizer.eos_token)
                == response.text
            )


def test_a_sample_is_the_same_bit_for_bit_alone_and_in_any_company(stack):
    """Prompts of more than 80 tokens, some of them shared by a group, alone, among 32 and among
    256.
    """
    rng = random.Random(1)
    bodies = [
        [rng.randrange(2, 300) for _ in range(rng.choice((85, 100, 130, 200, 300)))]
        for _ in range(64)
    ]
    requests = [SampleRequest(i, bodies[i // 4], 1000 + i) for i in range(256)]

    def run(chosen):
        rng.shuffle(chosen)
        stack.rollouts.submit(
            chosen, SamplingSettings(num_samples=4, temperature=1.0, max_tokens=16)
        )
        batches = stack.rollouts.completed()
        return {r.key: (r.token_ids, r.logprobs) for responses in batches for r in responses}

    among_256 = run(list(requests))
    among_32 = run(requests[:32])
    assert all(among_256[key] == value for key, value in among_32.items())
    for request in requests[:12]:
        assert run([request])[request.key] == among_256[request.key]


def test_requests_of_a_group_have_seeds_of_their_own(stack):
    settings = SamplingSettings(num_samples=4, temperature=1.0, max_tokens=8, seed=0)
    seeds = [request.seed for request in make_requests(stack.inputs.prompts[:8], settings, 1)]
    assert len(set(seeds)) == 32


def test_engines_that_have_slept_sample_the_same_under_the_weights_that_woke_them(stack):
    """The calls of colocation, on real engines. On CPU they keep their memory all the same."""
    prompts = stack.inputs.prompts[:2]
    before = sampled(stack, prompts)
    version = before[0].group.responses[0].weight_version
    calls = stack.rollouts.client(60)
    calls.sleep()
    with pytest.raises(Exception, match="the engine sleeps"):
        stack.rollouts.prompt_logprobs([5, 6, 7])
    calls.wake("weights")
    stack.learner.push_weights(version + 1)
    calls.wake("kv_cache")
    after = sampled(stack, prompts)
    texts = [[r.token_ids for g in groups for r in g.group.responses] for groups in (before, after)]
    assert texts[0] == texts[1]
    assert after[0].group.responses[0].weight_version == version + 1
