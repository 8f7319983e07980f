"""When the machine switches, what it restarts from, and that its state is all of it."""

import json
import re

import pytest

from grpo.stages import Restart, Stage, StageMachine, parse, retention_problems


def stage(name, until=None, **settings):
    return Stage(name=name, until=None if until is None else parse(until), **settings)


def steps(count):
    return {"max_steps": count}


def switches(machine, rows, first=1):
    found = (machine.observe(step, row) for step, row in enumerate(rows, start=first))
    return [switch for switch in found if switch is not None]


def test_stages_follow_each_other_and_count_their_own_steps():
    machine = StageMachine([stage("a", steps(3)), stage("b", steps(2)), stage("c")])
    first, second = switches(machine, [{}] * 9)
    assert str(first) == "step=3 from=a to=b reason=3 of 3 steps"
    assert str(second) == "step=5 from=b to=c reason=2 of 2 steps"
    assert (first.restart_from, first.optimizer, first.refresh_reference) == (None, "keep", False)
    assert (machine.current, machine.stage.name, machine.steps_in_stage) == (2, "c", 4)


def test_a_switch_says_what_the_new_stage_does_to_the_learner():
    plan = [stage("a", steps(1)), stage("b", optimizer="reset", refresh_reference=True)]
    (switch,) = switches(StageMachine(plan), [{}])
    assert (switch.optimizer, switch.refresh_reference) == ("reset", True)


def test_the_last_stage_can_end_the_run():
    machine = StageMachine([stage("a", steps(2))])
    (switch,) = switches(machine, [{}] * 2)
    assert (switch.target, machine.finished) == (None, True)
    assert str(switch) == "step=2 from=a to=end reason=2 of 2 steps"
    with pytest.raises(ValueError, match="step 3 after step 2, finished=True"):
        machine.observe(3, {})


def test_steps_only_go_forward():
    machine = StageMachine([stage("a")])
    machine.observe(4, {})
    with pytest.raises(ValueError, match="step 4 after step 4"):
        machine.observe(4, {})


def test_until_is_not_asked_before_the_minimum_stay():
    (switch,) = switches(StageMachine([stage("a", steps(2), min_steps=5), stage("b")]), [{}] * 6)
    assert switch.step == 5


def test_tokens_are_those_of_the_stage():
    plan = [stage("a", {"max_tokens": 30}), stage("b", {"max_tokens": 30}), stage("c")]
    rows = [{"generated_tokens": 10}] * 4 + [{"generated_tokens": 25}] * 2
    assert [s.step for s in switches(StageMachine(plan), rows)] == [3, 5]


def test_all_members_must_hold_at_the_same_step():
    until = {"all": [{"above": ["x", 0.5, 8]}, {"above": ["y", 0.5, 8]}]}
    one_after_the_other = [{"x": 1, "y": 0}] * 20 + [{"x": 0, "y": 1}] * 20
    assert switches(StageMachine([stage("a", until), stage("b")]), one_after_the_other) == []
    together = [*one_after_the_other, *[{"x": 1, "y": 1}] * 8]
    (switch,) = switches(StageMachine([stage("a", until), stage("b")]), together)
    # Seven of eight: x is 0.875 +- 0.125 x t(0.95, 7) = at least 0.638. With six of eight, the two
    # neighbours that are alike leave 2.97 independent values, which tell nothing.
    assert switch.step == 47


def test_every_stage_begins_with_empty_windows():
    until = {"above": ["x", 0.5, 8]}
    plan = [stage("a", until), stage("b", until), stage("c")]
    assert [s.step for s in switches(StageMachine(plan), [{"x": 1}] * 16)] == [8, 16]


@pytest.mark.parametrize("hole", [{}, {"x": None}, {"x": float("nan")}, {"x": "nan"}, {"x": True}])
def test_a_missing_value_is_not_counted(hole):
    plan = [stage("a", {"above": ["x", 0.5, 8]}), stage("b")]
    rows = [{"x": 1}] * 4 + [hole] * 10 + [{"x": 1}] * 4
    assert [s.step for s in switches(StageMachine(plan), rows)] == [18]


def test_a_metric_that_never_comes_is_an_error_with_the_nearest_name():
    machine = StageMachine([stage("a", {"above": ["respons_length", 1, 8]}), stage("b")])
    with pytest.raises(ValueError, match=r"'respons_length'.*did you mean 'response_length'"):
        switches(machine, [{"response_length": 5.0, "reward": 1.0}] * 8)
    assert machine.steps_in_stage == 8


def test_evaluations_may_take_their_time():
    until = {"above": ["eval/sampled/reward", 0.5, 8]}
    plan = [stage("a", until), stage("b")]
    rows = [{"eval/sampled/reward": 0.6} if step % 20 == 0 else {} for step in range(1, 200)]
    assert [s.step for s in switches(StageMachine(plan), rows)] == [160]


def best(**settings):
    return Restart(kind="best", metric="reward", **settings)


def test_the_best_checkpoint_is_that_of_the_stage_that_ends():
    plan = [stage("a", steps(4)), stage("b", steps(4), restart=best()), stage("c", restart=best())]
    rows = [{"reward": r} for r in (1, 9, 9, 2, 3, 4, 5, 1)]
    first, second = switches(StageMachine(plan), rows)
    assert (first.restart_from, second.restart_from) == (2, 7)  # the earlier of two equal ones
    assert first.reason == "4 of 4 steps; the best checkpoint is step 2, reward 9"


def test_the_best_can_be_the_least_of_an_earlier_stage_over_a_window():
    last = best(mode="min", window=2, stage="a")
    plan = [stage("a", steps(4)), stage("b", steps(2)), stage("c", restart=last)]
    machine = StageMachine(plan)
    # means of two: 5, 4, 4.5
    rows = [{"reward": r} for r in (7, 3, 5, 4, 0, 0)]
    switches(machine, rows[:4])
    assert machine.may_need() == {3}
    (switch,) = switches(machine, rows[4:], first=5)
    assert switch.restart_from == 3
    assert machine.may_need() == set()


def test_only_checkpoints_can_be_best():
    plan = [stage("a", steps(7)), stage("b", restart=best())]
    rows = [{"reward": r} for r in (1, 9, 2, 1, 1, 3, 8)]
    (switch,) = switches(StageMachine(plan, checkpoint_every=3), rows)
    assert switch.restart_from == 6


@pytest.mark.parametrize("every", [0, 5])
def test_every_evaluated_step_can_be_best_by_an_evaluation(every):
    restart = Restart(kind="best", metric="eval/sampled/reward")
    machine = StageMachine([stage("a", steps(7)), stage("b", restart=restart)], every)
    rows = [{}, {"eval/sampled/reward": 0.5}, {}, {"eval/sampled/reward": 0.6}, {}, {}, {}]
    needed = []
    for step, row in enumerate(rows, start=1):
        switch = machine.observe(step, row)
        needed.append(machine.may_need())
    assert switch.restart_from == 4
    # named with the step itself, so that its checkpoint can be written
    assert needed == [set(), {2}, {2}, {4}, {4}, {4}, set()]


def test_without_checkpoints_no_step_is_best_by_a_metric_of_every_step():
    machine = StageMachine([stage("a", steps(2)), stage("b", restart=best())], 0)
    (switch,) = switches(machine, [{"reward": 1.0}] * 2)
    assert switch.restart_from is None


def test_without_a_candidate_the_weights_go_on():
    plan = [stage("a", steps(4)), stage("b", restart=best(window=5))]
    (switch,) = switches(StageMachine(plan), [{"reward": 1.0}] * 4)
    assert switch.restart_from is None
    assert switch.reason == "4 of 4 steps; no checkpoint has 5 values of reward"


def test_a_stage_waits_for_the_step_that_the_next_one_names():
    plan = [stage("a", steps(2)), stage("b", steps(3), restart=Restart(kind="step", step=4))]
    machine = StageMachine([*plan, stage("c", restart=Restart(kind="step", step=2))])
    assert switches(machine, [{}] * 3) == []
    assert machine.may_need() == {2}
    (switch,) = switches(machine, [{}], first=4)
    assert (switch.step, switch.restart_from) == (4, None)  # its own weights
    (switch,) = switches(machine, [{}] * 3, first=5)
    assert (switch.step, switch.restart_from) == (7, 2)


def test_a_run_that_is_resumed_at_any_step_switches_as_if_it_had_gone_on():
    until = {"any": [{"max_tokens": 900}, {"rising": {"metric": "x", "window": 12}}]}
    plan = [
        stage("a", until, min_steps=3),
        stage("b", {"below": ["x", 0.4, 9]}, restart=best(window=3)),
        stage("c", restart=best(stage="a")),
    ]
    rows = [
        {"x": 1 + 0.1 * (step % 3) + (step > 15) * 0.2 * step, "reward": (step * 7) % 11}
        | {"generated_tokens": 10 + step / 3}
        for step in range(1, 40)
    ]
    rows += [{"x": 0.1 + 0.01 * (s % 4), "reward": s, "generated_tokens": 1} for s in range(20)]
    whole = switches(StageMachine(plan), rows)
    assert [s.target for s in whole] == ["b", "c"]
    machine, found = StageMachine(plan), []
    for step, row in enumerate(rows, start=1):
        state = json.loads(json.dumps(machine.state_dict()))
        machine = StageMachine(plan)
        machine.load_state_dict(state)
        assert machine.state_dict() == state
        found.append(machine.observe(step, row))
    assert [switch for switch in found if switch is not None] == whole


def test_a_state_of_a_stage_that_is_gone_is_refused():
    machine = StageMachine([stage("16k")])
    state = StageMachine([stage("16K")]).state_dict()
    with pytest.raises(ValueError, match=r"in stage '16K', which the recipe does not have.*'16k'"):
        machine.load_state_dict(state)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([], "stages: empty"),
        ([stage("a"), stage("b")], "stages.0.until: missing"),
        ([stage("a", steps(1)), stage("a")], "stages.1.name=a: the name is taken"),
        ([stage("end")], "stages.0.name=end: the name is taken"),
        ([stage("a", restart=best())], "stages.0.restart_from: nothing comes before"),
        (
            [stage("a", steps(1)), stage("b", restart=best(stage="b"))],
            "stages.1.best.stage=b: no earlier stage has this name; known: a",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused(plan, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        StageMachine(plan)


def test_only_a_best_by_a_step_metric_needs_checkpoints_of_their_own():
    def problems(restart, every):
        return retention_problems([stage("a", steps(9)), stage("b", restart=restart)], every)

    assert problems(best(), every=0) == [
        "stages.1.restart_from=best: checkpoint.every=0 leaves no step to choose by reward; set "
        "checkpoint.every, or take a metric of eval/"
    ]
    assert problems(best(), every=10) == []
    assert problems(Restart(kind="best", metric="eval/sampled/reward"), every=0) == []
    assert problems(Restart(kind="step", step=4), every=0) == []
    assert problems(Restart(), every=0) == []
