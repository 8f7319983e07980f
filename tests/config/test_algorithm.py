"""Objectives and advantages refuse settings that they would ignore, and what they cannot do."""

from __future__ import annotations

import pytest

from data.types import Problem
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.config.algorithm import algorithm_problems, check_reference_rates


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.objective=gsp0"], r"algorithm\.objective=gsp0: no such name.*gspo"),
        (["algorithm.advantage=rlo"], r"algorithm\.advantage=rlo: no such name.*rloo"),
        (
            ["algorithm={objective: cispo, clip_low: 0.1}"],
            r"algorithm\.clip_low=0\.1: algorithm\.objective=cispo does not look at it, "
            "grpo, gspo would",
        ),
        (["algorithm={objective: gspo, dual_clip: 3.0}"], r"algorithm\.dual_clip=3\.0"),
        (["algorithm.mirror_tau=0.5"], r"algorithm\.mirror_tau=0\.5.*kimi would"),
        (
            ["algorithm={advantage: rloo, advantage_std: none}"],
            r"algorithm\.advantage_std=none: algorithm\.advantage=rloo does not look at it",
        ),
        (
            ["algorithm.objective=reinforce", "batch.num_updates=2"],
            r"batch\.num_updates=2: algorithm\.objective=reinforce has no ratio",
        ),
        (
            ["algorithm={objective: kimi, aggregation: token-mean}"],
            r"algorithm\.aggregation=token-mean: .*use seq-sum-constant",
        ),
        (
            ["algorithm.objective=gspo", "+rewards.components.token_repetition.weight=1.0"],
            "token_repetition: algorithm.objective=gspo has one ratio for a response",
        ),
    ],
)
def test_what_objective_and_advantage_cannot_use_is_refused(overrides, message):
    (problem,) = algorithm_problems(load_config("tiny", overrides))
    import re

    assert re.search(message, problem)


def test_what_they_do_use_is_accepted():
    for overrides in (
        ["algorithm={objective: cispo, clip_high: 4.0, advantage: batch_std}"],
        ["algorithm={objective: gspo, clip_low: 3e-4, clip_high: 4e-4}"],
        ["algorithm={dual_clip: 10.0, advantage_std: sample}"],
    ):
        assert algorithm_problems(load_config("tiny", overrides)) == []


@pytest.mark.parametrize("rate", [None, "often", 1.5, True])
def test_a_reference_accuracy_that_is_missing_is_named_with_its_problem(rate):
    config = load_config("tiny", ["algorithm.advantage=reference_accuracy"])
    extra = {} if rate is None else {"pass_rate": rate}
    problems = [Problem(id="p7", question="1+1", answer="2", source="s", extra=extra)]
    with pytest.raises(UserError, match=r"problem 'p7' of data\.train has pass_rate="):
        check_reference_rates(config, problems)
    good = Problem(id="p7", question="1+1", answer="2", source="s", extra={"pass_rate": 0.25})
    check_reference_rates(config, [good])
    check_reference_rates(load_config("tiny", []), problems)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.kl_in=reward"], r"algorithm\.kl_in=reward: without algorithm\.kl_coef"),
        (["algorithm.reference_refresh_every=5"], "without algorithm.kl_coef it has no effect"),
        (["algorithm.kl_horizon=5"], "without algorithm.kl_target it has no effect"),
        (["algorithm.entropy_coef_max=0.1"], "without algorithm.entropy_target it has no effect"),
        (["algorithm={kl_coef: 0.1, kl_estimator: k1}"], "in the loss it holds nothing back"),
        (["algorithm={kl_coef: 0.1, kl_in: reward}"], "set algorithm.kl_estimator=k1"),
        (
            [
                "algorithm={kl_coef: 0.1, kl_in: reward, kl_estimator: k1}",
                "batch.zero_variance=drop",
            ],
            "the rewards of a dropped group would still change",
        ),
        (["algorithm={entropy_coef: -0.1, entropy_target: 0.2}"], "start at 0 or above"),
        (["algorithm.mismatch.low=0.5"], "only algorithm.mismatch.correction=mask looks at it"),
        (["algorithm.mismatch={correction: mask, low: 1.5}"], "use low below 1 and high above 1"),
        (["algorithm.mismatch={correction: truncate, high: 0.5}"], "use 1 or more"),
        (["health.min_effective_share=0.5"], "without algorithm.mismatch.correction all samples"),
    ],
)
def test_settings_without_the_one_they_need_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config("tiny", overrides)
