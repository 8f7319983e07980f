"""What the self-test makes of two steps that should have moved nothing."""

from __future__ import annotations

import math

import pytest

from grpo.commands import doctor
from grpo.commands.self_test import Check, Snapshot, compared
from grpo.types import WeightReport

STATS = {"grad_norm": 0.5, "ratio_max": 1.0}


def snapshot(version, hashes=(("a", 1), ("b", 2)), engine=-1.0, learner=-1.001, differing=()):
    report = WeightReport(version=version, hashes=dict(hashes), differing=list(differing))
    return Snapshot(report, [[[engine, -2.0], [engine, -2.0]]], [[learner, -2.0]])


def bad(*later, stats=STATS):
    checks = compared([snapshot(0), *later], [stats] * len(later))
    return {check.what: check.text for check in checks if not check.ok}


def test_steps_that_moved_nothing_pass():
    assert bad(snapshot(1), snapshot(2)) == {}


@pytest.mark.parametrize(
    ("later", "what", "text"),
    [
        ({"differing": ["x at version 2"]}, "engine weights are the learner's", "x at version 2"),
        ({"hashes": [("a", 1), ("b", 3)]}, "weights between steps", "moved: b"),
        ({"engine": -1.0000001}, "engine log-probs between steps", "1e-07"),
        ({"engine": math.nan}, "engine log-probs between steps", "tokens"),
        ({"learner": -1.0010001}, "learner log-probs between steps", "1e-07"),
        ({"learner": -1.0010001}, "ratio of new and old policy", "0.9999999"),
    ],
)
def test_the_smallest_movement_in_the_last_step_is_found(later, what, text):
    assert text in bad(snapshot(1), snapshot(2, **later))[what]


def test_a_ratio_of_the_loss_that_is_not_one_is_found():
    found = bad(snapshot(1), stats={**STATS, "ratio_max": 1.0000001})
    assert list(found) == ["ratio of new and old policy"]


def test_steps_without_a_gradient_prove_nothing():
    found = bad(snapshot(1), stats={**STATS, "grad_norm": 0.0})
    assert list(found) == ["steps had a gradient"]


def test_engines_at_another_temperature_do_not_agree():
    far = snapshot(0, engine=-1.6)
    checks = compared([far, snapshot(1, engine=-1.6)], [STATS])
    assert [check.what for check in checks if not check.ok] == ["engine and learner agree"]


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 76)])
def test_the_exit_code_says_whether_anything_moved(monkeypatch, capsys, ok, code):
    from grpo.commands import self_test

    monkeypatch.setattr(self_test, "run_self_test", lambda config: [Check("weights", ok, "text")])
    assert doctor.main(["--self-test", "--config-name", "tiny", "seed=1"]) == code
    assert ("bad" in capsys.readouterr().out) is not ok


@pytest.mark.parametrize("arguments", [["--self-test"], ["--config-name", "tiny"]])
def test_a_self_test_needs_a_recipe_and_a_recipe_a_self_test(arguments, capsys):
    assert doctor.main(arguments) == 78
    assert "--self-test runs a recipe" in capsys.readouterr().err
