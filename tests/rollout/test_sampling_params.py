"""What an engine is told of one request."""

from __future__ import annotations

from grpo.rollout.vllm.worker import sampling_params
from grpo.types import SamplingSettings


def params(**changes: object):
    values = {"num_samples": 4, "temperature": 0.6, "max_tokens": 40, **changes}
    return sampling_params(SamplingSettings(**values), seed=11, end_ids=(0, 9))


def test_stop_and_cut_strings_both_end_a_response_and_stay_in_what_the_engine_returns():
    found = params(stop=("</answer>",), cut=("\nUser:",))
    assert found.stop == ["</answer>", "\nUser:"]
    assert found.include_stop_str_in_output


def test_a_request_is_one_response_with_its_own_seed_at_the_sampling_temperature():
    found = params(top_p=0.9)
    assert (found.n, found.seed, found.temperature, found.top_p) == (1, 11, 0.6, 0.9)
    assert (found.max_tokens, found.logprobs) == (40, 0)


def test_every_end_token_of_the_model_ends_a_response_unless_it_is_ignored():
    assert params().stop_token_ids == [0, 9]
    ignoring = params(ignore_eos=True)
    assert (ignoring.stop_token_ids, ignoring.ignore_eos) == ([], True)
