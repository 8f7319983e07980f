"""What the loop makes of groups and recipes before anything reaches the learner."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from data.types import Problem
from grpo.common.errors import UnhealthyError, UserError
from grpo.config import load_config
from grpo.config.schema import TrackingConfig, WandbConfig
from grpo.rollout.batch_rules import Batch
from grpo.stages import Stage, StageMachine
from grpo.state import TrainState
from grpo.tracking import open_run
from grpo.tracking.record import cut_back, read_rollouts
from grpo.trainer import (
    Parts,
    advantages_of,
    check_health,
    hand_over,
    make_samples,
    needs_log_probs,
    next_coefficients,
    oldest_version,
    staleness,
    step_settings,
    token_advantages,
    train,
)
from grpo.types import (
    Fingerprint,
    Group,
    Measured,
    Prompt,
    Response,
    ScoredGroup,
    WeightReport,
)
from rewards import Score

PROMPT = Prompt(Problem(id="p", question="1+1", answer="2", source="s"), "1+1", [1, 2, 3])


def group(*responses: Response, token_scores: list[float] | None = None) -> ScoredGroup:
    return ScoredGroup(
        Group(PROMPT, list(responses)), [Score(1.0, {}, token_scores) for _ in responses]
    )


def response(version: int, spans: tuple[tuple[int, int, int], ...] = ()) -> Response:
    return Response(0, [4, 5], "text", [-0.1, -0.2], "stop", version, 7, spans)


def test_samples_of_the_weights_of_this_step_are_taken_group_by_group():
    samples = make_samples([group(response(3), response(3)), group(response(3))], 3)
    assert [sample.token_ids_T.tolist() for sample in samples] == [[1, 2, 3, 4, 5]] * 3


@pytest.mark.parametrize("strange", [response(2), response(4), response(3, ((0, 1, 2), (1, 2, 3)))])
def test_one_token_of_other_weights_is_refused(strange: Response):
    with pytest.raises(ValueError, match="which can use those from 3 on"):
        make_samples([group(response(3)), group(strange)], 3)


def test_a_step_may_train_on_weights_as_old_as_the_recipe_allows():
    off_policy = ["algorithm.mismatch.correction=truncate"]
    config = load_config("tiny", [*off_policy, "rollout.max_staleness=1"])
    groups = [group(response(2), response(3))]
    samples = make_samples(groups, 3, oldest=oldest_version(config, 3))
    assert staleness(samples, 3) == {"staleness": 0.5, "staleness_max": 1.0}
    with pytest.raises(ValueError, match=r"\[1\] came in the step of weights 3"):
        make_samples([group(response(1))], 3, oldest=oldest_version(config, 3))
    partial = ["rollout.strategy=partial", "rollout.segment_tokens=8"]
    config = load_config("tiny", [*off_policy, *partial])
    mixed = response(3, ((0, 1, 0), (1, 2, 3)))
    assert len(make_samples([group(mixed)], 3, oldest=oldest_version(config, 3))) == 1


def test_token_scores_come_on_top_of_what_the_whole_response_earned():
    scored = [group(response(0)), group(response(0), token_scores=[0.0, -0.25])]
    config = load_config("tiny", [])
    plain, per_token = token_advantages(config, [[1.5], [0.5]], scored, make_samples(scored, 0))
    assert plain == 1.5
    assert np.asarray(per_token).tolist() == [0.0, 0.0, 0.0, 0.5, 0.25]  # the prompt has none


def test_the_learner_is_told_what_the_recipe_says_of_a_step():
    config = load_config(
        "tiny",
        [
            "optimizer={lr: 2.0e-3, schedule: linear, warmup_steps: 4}",
            "algorithm={clip_low: 0.1, clip_high: 0.3, kl_coef: 0.05, entropy_coef: 0.01}",
            "sampling={temperature: 0.7, max_response_tokens: 37}",
        ],
    )
    settings = step_settings(config, 0)
    assert settings.lr == pytest.approx(2.0e-3 / 4)  # the first of four steps of warm-up
    assert (settings.clip_low, settings.clip_high) == (0.1, 0.3)
    assert (settings.kl_coef, settings.entropy_coef) == (0.05, 0.01)
    assert settings.temperature == 0.7
    assert settings.aggregation_constant == 37  # the longest response, in tokens


def test_steps_that_are_not_finite_end_the_run_only_in_a_row():
    config = load_config("tiny", ["health.max_bad_steps=2"])
    # Neither the data nor the learner has a say in this.
    state = TrainState(stream=None, stages=StageMachine([Stage(name="all")]))  # type: ignore[arg-type]
    for loss in (math.nan, 0.5, math.inf):
        check_health(config, {"loss": loss}, state)
    assert state.bad_steps == 1
    with pytest.raises(UnhealthyError, match="grad_norm=inf; that is bad step 2 in a row"):
        check_health(config, {"loss": 0.1, "grad_norm": math.inf}, state)


class Pushes:
    """A learner that notes what it is asked to hand over and finds what it is told to find."""

    def __init__(self, differing=(), unproven=()):
        self.checked: list[tuple[int, bool]] = []
        self.found = list(differing), list(unproven)

    def push_weights(self, version, *, check=False):
        self.checked.append((version, check))
        if not check:
            return None
        differing, unproven = self.found
        return WeightReport(version=version, hashes={}, differing=differing, unproven=unproven)


def test_the_first_hand_over_and_every_kth_are_proven():
    config = load_config("tiny", ["health.weight_check_every=3"])
    learner = Pushes()
    hand_over(config, learner, 4, first=True)  # type: ignore[arg-type]
    for version in (5, 6, 7, 8, 9):
        hand_over(config, learner, version)  # type: ignore[arg-type]
    assert [version for version, check in learner.checked if check] == [4, 6, 9]
    off = Pushes(differing=["never asked"])
    config = load_config("tiny", ["health.weight_check_every=0"])
    hand_over(config, off, 0, first=True)  # type: ignore[arg-type]
    assert off.checked == [(0, False)]


def test_an_engine_with_other_weights_ends_the_run_and_is_named():
    config = load_config("tiny", [])
    learner = Pushes(differing=["lm_head.weight at version 0 in engine 1, lm_head.weight"])
    with pytest.raises(UnhealthyError, match=r"lm_head.weight at version 0 in engine 1"):
        hand_over(config, learner, 0, first=True)  # type: ignore[arg-type]


def test_weights_that_cannot_be_compared_are_refused_with_the_setting():
    learner = Pushes(unproven=["engine 0: experts.w13 is kept as int8"])
    with pytest.raises(UserError, match=r"health.weight_check_every=50.*experts.w13.*Set it to 0"):
        hand_over(load_config("tiny", []), learner, 0, first=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [math.nan, math.inf])
def test_one_step_whose_weights_are_not_finite_ends_the_run(largest: float):
    config = load_config("tiny", ["health.max_bad_steps=9"])
    state = TrainState(stream=None, stages=StageMachine([Stage(name="all")]))  # type: ignore[arg-type]
    check_health(config, {"grad_norm": math.inf, "weight_max": 3.0}, state)  # one bad step of nine
    with pytest.raises(UnhealthyError, match=r"step 1: a weight of the policy is not finite"):
        check_health(config, {"grad_norm": 1.0, "weight_max": largest}, state)


class BrokenLearner(Pushes):
    """Its second update has a loss that is not finite."""

    updates = 0

    def connect(self, rollouts):
        """No engines."""

    def prepare(self, samples, settings, *, measure=False):
        return None

    def optimise(self, advantages, settings):
        self.updates += 1
        found = {"loss": 0.5, "grad_norm": 1.0, "weight_max": 1.0, "lr": settings.lr}
        return found | ({"loss": math.nan} if self.updates == 2 else {})

    def fingerprint(self, *, with_weights=True):
        return Fingerprint(gradients={}, weights={})


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_the_batch_of_the_step_that_ends_the_run_is_kept_and_named(tmp_path, monkeypatch, broken):
    config = load_config("tiny", ["health.max_bad_steps=1", "tracking.plots=false"])
    sound, odd = response(0), Response(1, [6, 7], "odd", [-0.5, broken], "stop", 1, 99)
    served = [[group(sound, sound)], [group(replace(sound, weight_version=1), odd)]]
    monkeypatch.setattr(
        "grpo.trainer.Batches",
        lambda *_: SimpleNamespace(
            next=lambda clock: Batch(served[0], served.pop(0), [False]),
            begin_next=lambda: None,
            wait=lambda clock: None,
        ),
    )
    stream = SimpleNamespace(update=lambda rates: None)
    state = TrainState(stream=stream, stages=StageMachine([Stage(name="all")]), base={"s": {}})
    quiet = TrackingConfig(tensorboard=False, plots=False, wandb=WandbConfig(mode="disabled"))
    with open_run(tmp_path, {}, quiet, "tiny", 45, None) as run:
        parts = Parts(
            held_out=[], sampling=None, rollouts=None, learner=BrokenLearner(), scorer=None,
            run=run, journal=None, commit=lambda state: None,
        )  # fmt: skip
        with pytest.raises(UnhealthyError, match=r"step 2: loss=nan") as caught:
            train(config, state, parts)
    folder = tmp_path / "unhealthy"
    assert f"are in {folder}" in str(caught.value)
    assert "log-probs are not finite in p with seed 99" in str(caught.value)
    rows = read_rollouts(folder, 2)
    assert [(row["response"], row["seed"]) for row in rows] == [("text", 7), ("odd", 99)]
    assert np.array_equal(rows[1]["logprobs"], np.float32([-0.5, broken]), equal_nan=True)
    why = json.loads((folder / "step_000002.json").read_text())
    assert why["reason"].startswith("step 2: loss=nan")
    assert (why["metrics"]["loss"], why["metrics"]["grad_norm"]) == ("nan", 1.0)
    cut_back(tmp_path, 0, 0)  # as a new start from step 0 does
    assert len(read_rollouts(folder, 2)) == 2
    assert not list((tmp_path / "rollouts").iterdir())


def test_truncated_responses_leave_the_loss_where_the_recipe_says_so():
    cut = Response(1, [4, 5], "text", [-0.1, -0.2], "length", 0, 7)
    scored = [group(response(0), cut, token_scores=[0.1, 0.2])]
    samples = make_samples(scored, 0, mask_truncated=True)
    assert [sample.num_trained for sample in samples] == [2, 0]
    assert [sample.num_trained for sample in make_samples(scored, 0)] == [2, 2]
    config = load_config("tiny", ["algorithm.token_discount=0.5"])
    first, second = token_advantages(config, [[1.0, 3.0]], scored, samples)
    assert np.asarray(first).tolist() == pytest.approx([0, 0, 0, 1.2, 1.2])  # 0.1 + 0.5 x 0.2
    assert second == 3.0


def test_kl_in_the_reward_is_that_of_the_whole_response():
    config = load_config(
        "tiny", ["algorithm={kl_coef: 0.5, kl_in: reward, kl_estimator: k1, advantage_std: none}"]
    )
    assert needs_log_probs(config)
    assert not needs_log_probs(load_config("tiny", ["algorithm.kl_coef=0.5"]))
    measured = [Measured(kl=kl, entropy=1.0, mismatch=0.0) for kl in (0.4, 0.0)]
    # rewards 1 - 0.5 x 0.4 and 1
    found = advantages_of(config, [group(response(0), response(0))], measured, 0.5)
    assert found == [pytest.approx([-0.1, 0.1])]


def test_controllers_move_their_coefficients_and_the_next_step_uses_them():
    config = load_config(
        "tiny",
        [
            "algorithm={kl_coef: 0.1, kl_target: 0.02, kl_horizon: 512, entropy_target: 0.2, "
            "entropy_coef: 1e-3}",
        ],
    )
    settings = step_settings(config, 0, {})
    assert (settings.kl_coef, settings.entropy_coef) == (0.1, 1e-3)
    moved = next_coefficients(config, settings, {"kl": 1.0, "entropy": 0.1})
    assert moved == pytest.approx({"kl_coef": 0.12, "entropy_coef": 1.1e-3})
    settings = step_settings(config, 1, moved)
    assert (settings.kl_coef, settings.entropy_coef) == (moved["kl_coef"], moved["entropy_coef"])
    assert next_coefficients(load_config("tiny", []), settings, {}) == {}


@pytest.mark.parametrize(
    ("setting", "stats"),
    [
        ("max_logprob_gap=0.01", {"logprob_gap_mean": 0.02}),
        ("max_mismatch_kl=5e-4", {"mismatch_kl": 6e-4}),
        ("min_effective_share=0.9", {"effective_share": 0.8}),
    ],
)
def test_a_limit_of_the_mismatch_ends_the_run_with_its_reason(setting, stats):
    overrides = [f"health.{setting}", "algorithm.mismatch.correction=truncate"]
    config = load_config("tiny", overrides)
    state = TrainState(stream=None, stages=StageMachine([Stage(name="all")]))  # type: ignore[arg-type]
    fine = {"logprob_gap_mean": 0.001, "mismatch_kl": 1e-6, "effective_share": 0.99}
    check_health(config, fine, state)
    with pytest.raises(UnhealthyError, match=rf"step 1: {next(iter(stats))}=.*{setting[:15]}"):
        check_health(config, fine | stats, state)


def test_the_best_evaluation_of_a_stage_is_by_the_number_that_the_recipe_names():
    state = TrainState(stream=None, stages=StageMachine([Stage(name="all")]))
    for step, accuracy in ((20, 0.5), (40, 0.75), (60, 0.75), (80, 0.25)):
        state.step = step
        state.note_evaluation({"greedy": {"accuracy": accuracy}}, "greedy/accuracy")
    assert state.best == {"step": 40, "value": 0.75}  # the earlier of two equal ones
    with pytest.raises(UserError, match=r"checkpoint.best=greedy/acuracy.*'greedy/accuracy'"):
        state.note_evaluation({"greedy": {"accuracy": 1.0}}, "greedy/acuracy")
