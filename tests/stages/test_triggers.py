"""Every trigger by hand, and how recipes write them."""

import re

import pytest

from grpo.stages import TRIGGERS, History, Verdict, parse

WAVES = [1, -1, -1, 1, 1, -1, -1, 1]  # tests/stages/test_trend.py
UNKNOWN = {"rising": "unseen"}
TRUE, FALSE = {"max_steps": 5}, {"max_steps": 6}


def history(values=(), steps=5, tokens=0.0, metric="m"):
    return History(steps=steps, tokens=tokens, windows={metric: list(enumerate(values))})


def holds(setting, *args, **kwargs):
    return parse(setting).judge(history(*args, **kwargs)).holds


def test_max_steps_and_max_tokens():
    assert holds({"max_steps": 5}) is True
    assert holds({"max_steps": 6}) is False
    assert holds({"max_tokens": 1e6}, tokens=1e6) is True
    assert holds({"max_tokens": 1_000_001}, tokens=1e6) is False


def test_rising_wants_the_near_end_of_the_interval_above_its_limit():
    # 10 a step over 7 steps is 70, of a mean of 135: 51.85%. The error is 0.17817 x 7 / 135 =
    # 0.924%, times t(0.95, 6) = 1.943: at least 50.06%.
    values = [100 + 10 * step + wave for step, wave in enumerate(WAVES)]
    setting = {"metric": "m", "window": 8, "confidence": 0.95}
    assert holds({"rising": setting | {"min_rise": 0.50}}, values) is True
    assert holds({"rising": setting | {"min_rise": 0.501}}, values) is False
    assert holds({"falling": setting | {"min_fall": 0.0}}, values) is False
    down = [170 - 10 * step + wave for step, wave in enumerate(WAVES)]
    assert holds({"falling": setting | {"min_fall": 0.50}}, down) is True
    assert holds({"falling": setting | {"min_fall": 0.501}}, down) is False
    assert holds({"rising": setting | {"min_rise": 0.0}}, down) is False


def test_a_window_is_the_last_values():
    values = [5000.0] * 20 + [100 + 10 * step + wave for step, wave in enumerate(WAVES)]
    assert holds({"rising": {"metric": "m", "window": 8, "confidence": 0.95}}, values) is True


def test_plateau_wants_the_far_end_of_the_interval_below_its_limit():
    # change 0, error 0.17817 x 7 / 100 = 1.247%, times 1.943: at most 2.42%
    values = [100.0 + wave for wave in WAVES]
    setting = {"metric": "m", "window": 8}
    assert holds({"plateau": setting | {"max_rise": 0.025}}, values) is True
    assert holds({"plateau": setting | {"max_rise": 0.024}}, values) is False
    assert holds({"plateau": setting}, [100.0 - 5 * step for step in range(8)]) is True


def test_above_and_below_look_at_the_mean_and_its_error():
    # mean 10, error 0.37796, times t(0.95, 7) = 1.8946: from 9.284 to 10.716
    values = [10.0 + wave for wave in WAVES]
    assert holds({"above": ["m", 9.28, 8]}, values) is True
    assert holds({"above": ["m", 9.29, 8]}, values) is False
    assert holds({"below": ["m", 10.72, 8]}, values) is True
    assert holds({"below": ["m", 10.71, 8]}, values) is False


@pytest.mark.parametrize("name", ["rising", "falling", "plateau"])
def test_a_window_that_is_not_full_tells_nothing(name):
    full = {name: {"metric": "m", "window": 8}}
    assert holds(full, [3.0] * 8) is not None
    assert holds(full, [3.0] * 7) is None
    assert holds({"above": ["m", 1, 8]}, [3.0] * 7) is None
    assert holds({"below": ["m", 5, 8]}, [3.0] * 7) is None


def test_a_change_relative_to_a_mean_of_zero_cannot_be_told():
    assert holds({"plateau": {"metric": "m", "window": 8}}, [0.0] * 8) is None


@pytest.mark.parametrize(
    ("name", "members", "expected"),
    [
        ("any", [TRUE, FALSE], True),
        ("any", [TRUE, UNKNOWN], True),
        ("any", [FALSE, UNKNOWN], None),
        ("any", [FALSE, FALSE], False),
        ("all", [TRUE, TRUE], True),
        ("all", [TRUE, FALSE], False),
        ("all", [UNKNOWN, FALSE], False),
        ("all", [TRUE, UNKNOWN], None),
        ("not", TRUE, False),
        ("not", FALSE, True),
        ("not", UNKNOWN, None),
    ],
)
def test_combinations_know_what_cannot_be_told(name, members, expected):
    assert holds({name: members}) is expected


def test_reasons_name_the_conditions_that_hold():
    both = {"all": [{"max_steps": 2}, {"any": [{"max_steps": 9}, {"max_tokens": 10}]}]}
    verdict = parse(both).judge(history(tokens=12))
    assert verdict == Verdict(True, "5 of 2 steps and 12 of 10 tokens")
    assert parse({"not": FALSE}).judge(history()).says == "not: 5 of 6 steps"


def test_what_bounds_a_stage_whatever_the_metrics():
    def latest(setting):
        return parse(setting).latest()

    assert latest({"any": [{"max_steps": 9}, {"max_steps": 4}, UNKNOWN]}) == 4
    assert latest({"all": [{"max_steps": 9}, {"max_steps": 4}]}) == 9
    assert latest({"all": [{"max_steps": 9}, UNKNOWN]}) is None
    assert latest({"not": {"max_steps": 9}}) is None


def test_the_longest_window_of_a_metric_is_kept():
    setting = {"all": [{"rising": "m"}, {"not": {"above": ["m", 3]}}, {"plateau": ["n", 30]}]}
    assert parse(setting).needs() == {"m": 100, "n": 30}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_step": 3}, "no trigger is called 'max_step'; did you mean 'max_steps'?"),
        ({"max_steps": 0}, "max_steps: steps=0: must be at least 1"),
        ({"max_steps": 2.5}, "max_steps: steps=2.5: expected a whole number"),
        ({"max_tokens": 0}, "max_tokens: tokens=0: must be greater than 0"),
        ({"rising": {"metrc": "m"}}, "rising: metrc: unknown; did you mean 'metric'?"),
        ({"rising": {"window": 9}}, "rising: metric: missing; it has no default"),
        ({"rising": {"metric": "m", "window": 7}}, "rising: window=7: fewer than 8 values"),
        ({"above": ["m", 1, 9, 1.0]}, "above: confidence=1.0: must be in [0.5, 1)"),
        ({"above": ["m"]}, "above: threshold: missing"),
        ({"above": ["m", float("nan")]}, "above: threshold=nan: must be a finite number"),
        ({"above": ["m", True]}, "above: threshold=True: expected a number"),
        ({"above": ["m", 1, 9, 0.9, 5]}, "at most 4: metric, threshold, window, confidence"),
        ({"any": []}, "any: []: expected a list of conditions"),
        ({"max_steps": 3, "rising": "m"}, "a condition is one trigger with its setting"),
        ("max_steps", "a condition is one trigger with its setting"),
    ],
)
def test_a_mistake_is_refused_with_its_name_and_the_fix(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(setting)


def test_all_mistakes_of_a_combination_come_at_once():
    with pytest.raises(ValueError, match="any: max_steps: steps=0") as caught:
        parse({"any": [{"max_steps": 0}, {"all": [{"rising": {}}, {"xyz": 1}]}]})
    assert len(str(caught.value).splitlines()) == 3


def test_a_trigger_of_ones_own_is_one_function():
    class Friday:
        def judge(self, history):
            return Verdict(history.steps % 7 == 5, "it is Friday")

        def needs(self):
            return {}

        def latest(self):
            return 7

    TRIGGERS.register("friday")(lambda setting: Friday())
    assert holds({"all": [{"friday": {}}, {"max_steps": 1}]}) is True
