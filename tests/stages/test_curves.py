"""The plan of the published recipe on records of the published shape."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest

from grpo.stages import Stage, StageMachine, Switch, parse
from tests.stages.curves import deepscaler, flat

RULE = {
    "all": [
        {"above": ["truncation_share", 0.06]},
        {"rising": "response_length"},
        {"plateau": "reward"},
    ]
}
UNTIL = {"any": [{"max_steps": 1300}, RULE]}


def first_switch(until: object, log: Iterable[dict[str, float]]) -> Switch | None:
    machine = StageMachine([Stage(name="8k", until=parse(until)), Stage(name="16k")])
    for step, metrics in enumerate(log, start=1):
        if (switch := machine.observe(step, metrics)) is not None:
            return switch
    return None


@pytest.mark.parametrize("seed", range(8))
def test_the_published_curve_switches_near_step_1040_because_of_its_metrics(seed):
    switch = first_switch(UNTIL, deepscaler(seed, 1300))
    assert 950 <= switch.step <= 1150
    for part in ("response_length rises", "truncation_share is 0.06", "reward changes"):
        assert part in switch.reason
    assert "1300 steps" not in switch.reason


def test_the_same_curve_300_steps_later_switches_300_steps_later():
    # the first 300 steps are those of a run that has not begun to learn
    before = itertools.islice(flat(99, 300), 300)
    sooner = first_switch(RULE, deepscaler(0, 1300))
    later = first_switch(RULE, itertools.chain(before, deepscaler(0, 1300)))
    assert abs(later.step - sooner.step - 300) <= 1


def test_without_more_truncation_the_stage_stays_to_its_bound():
    switch = first_switch(UNTIL, deepscaler(0, 1400, truncation=False))
    assert (switch.step, switch.reason) == (1300, "1300 of 1300 steps")


def test_noise_alone_switches_nothing():
    # the rule on 100 records of 500 steps, and a trend alone, which has no other guard, on 50 windows
    # of each
    assert [seed for seed in range(100) if first_switch(RULE, flat(seed, 500))] == []
    for trend in ("rising", "falling"):
        until = {trend: "response_length"}
        assert [seed for seed in range(100) if first_switch(until, flat(seed, 150))] == []


def test_a_reward_that_still_rises_is_no_plateau():
    # 0.40 to 0.58 in 300 steps: 23% of the mean in a window of 200
    log = ({"reward": 0.40 + 0.0006 * step} for step in range(300))
    assert first_switch({"plateau": "reward"}, log) is None
    noisy = (
        {"reward": row["reward"] - 0.5 + 0.40 + 0.0006 * step}
        for step, row in enumerate(flat(3, 300))
    )
    assert first_switch({"plateau": "reward"}, noisy) is None


def test_the_reason_reads_like_the_rule():
    reason = first_switch(UNTIL, deepscaler(1, 1300)).reason
    assert re.fullmatch(
        r"truncation_share is 0\.06\d* over 50 values \(at least 0\.06\d*, limit 0\.06\) and "
        r"response_length rises \d+\.\d% in 99 steps \(at least \d\.\d%, limit 2\.0%\) and "
        r"reward changes [+-]\d\.\d% in 199 steps \(at most [+-]\d\.\d%, limit \+5\.0%\)",
        reason,
    )
