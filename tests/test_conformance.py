"""The cases of conformance/: this project computes them, and they are what they claim to be."""

import copy
import json
import math

import pytest

from conformance.derive.__main__ import derived
from conformance.run import Outcome, judge, main, run, table
from conformance.vectors import CASES, KINDS, NotOfferedError, difference, fault, load

# torch warns of a deviation of one number with n - 1; that case is about it.
pytestmark = pytest.mark.filterwarnings(r"ignore:std\(\)")

NOT_OFFERED = {
    "grpo_eps_inside_the_root",
    "kimi_exact_baseline_tau_0.1",
    "kimi_exact_baseline_tau_0.5",
    "kimi_exact_baseline_tau_5.0",
    "ratio_large_unbounded",
    "loss_large_ratio_unbounded",
    "loss_kl_in_reward",
    "loss_kl_k3_times_ratio",
}


@pytest.fixture(scope="module")
def cases():
    return {case["id"]: case for case in load()}


def test_this_project_computes_every_case_that_it_offers():
    outcomes = run("ours")
    assert [o for o in outcomes if o.outcome == "differs"] == []
    assert {o.id for o in outcomes if o.outcome == "not offered"} == NOT_OFFERED
    assert {o.kind for o in outcomes if o.outcome == "passed"} == set(KINDS)


def test_deriving_again_gives_the_committed_files():
    assert derived() == {path.name: path.read_text() for path in CASES.iterdir()}


@pytest.mark.parametrize(
    ("identifier", "name", "wanted"),
    [
        ("grpo_population_std", "advantages", [[-0.9972, 1.1022, 0.8923, -0.9972]]),
        ("grpo_sample_std", "advantages", [[-0.8636, 0.9545, 0.7727, -0.8636]]),
        ("dr_grpo_no_std", "advantages", [[-0.475, 0.525, 0.425, -0.475]]),
        ("grpo_ungraded_left_out", "advantages", [[0.7071, -1.4142, 0, 0.7071], [-1, -1, 1, 1]]),
        ("rloo", "advantages", [[5 / 6, -0.5, -0.5, 1 / 6]]),
        # tau log mean exp(r / tau) of (1, 0, 0, 1): 0.9307, 0.7169 and 0.5250
        ("kimi_exact_baseline_tau_0.1", "advantages", [[0.0693, -0.9307, -0.9307, 0.0693]]),
        ("kimi_exact_baseline_tau_0.5", "advantages", [[0.2831, -0.7169, -0.7169, 0.2831]]),
        ("kimi_exact_baseline_tau_5.0", "advantages", [[0.4750, -0.5250, -0.5250, 0.4750]]),
        ("reference_accuracy", "advantages", [[0.45, -0.55, 0.4, -0.6]]),
        ("kl_k3", "kl", [0.021403, 0.018731, 0, math.exp(2) - 3]),
        ("kl_k3", "gradient", [1 - math.exp(0.2), 1 - math.exp(-0.2), 0, 1 - math.exp(2)]),
        ("kl_k2", "gradient", [-0.2, 0.2, 0, -2]),
        ("kl_expectation_k1_in_loss", "gradient", [0, 0, 0]),
        # A length of 2 and one of 20: 1/2 and 1/20 of half a batch each.
        ("aggregation_length_bias_seq-mean-token-mean", "aggregate", -1),
        ("aggregation_empty_response_token-mean", "aggregate", (1 + 3 + 2 + 5 + 1) / 5),
        ("loss_extreme_ratio_good", "loss", -1.2),
        ("loss_extreme_ratio_bad_small", "loss", 0.8),
        ("loss_extreme_ratio_bad_dual_clip", "loss", 10),
        ("loss_on_policy_token-mean", "gradient", [[-1 / 9] * 3, [0.5 / 9, 0, 0], [-2 / 9, -2 / 9, 0], [1.25 / 9] * 3]),
        ("reward_soft_overlong", "rewards", [0, 0, 0, 0, -0.05, -0.5, -0.95, -1, -1, -1]),
        ("reward_kimi_length_all_wrong", "rewards", [0, -0.5]),
        ("reward_cosine", "rewards", [2, 1.8536, 1.5, 1.1464, 1.0014, 1.0, -10, -10, -10, -8.5355, -5, -1.4645, -0.0135, 0, -10, -10]),
        ("return_discount_0.99", "returns", [-0.1450651, -0.1465304, -0.1480105, -0.099, -0.1]),
        ("controller_kl_above", "coef", 0.2 * (1 + 0.2 * 512 / 10000)),
    ],
)  # fmt: skip
def test_derived_values_are_those_worked_out_by_hand(cases, identifier, name, wanted):
    tolerance = {"relative": 0.0, "absolute": 6e-5}
    assert difference(cases[identifier]["expected"][name], wanted, tolerance) <= 1


def test_k2_in_the_loss_and_k1_in_the_reward_pull_alike(cases):
    found = [cases[f"kl_expectation_{name}"]["expected"] for name in ("k2_in_loss", "k1_in_reward")]
    assert difference(found[0], found[1], {"relative": 0.0, "absolute": 1e-15}) <= 1


def test_no_case_is_blind_to_the_mistakes_that_it_names(cases):
    for case in cases.values():
        for name, other in case["alternatives"].items():
            far = difference(other, case["expected"], case["tolerance"])
            assert far > 10, (case["id"], name)


def test_alternatives_of_a_case_can_be_told_apart(cases):
    for case in cases.values():
        others = list(case["alternatives"].values())
        for i, one in enumerate(others):
            for other in others[:i]:
                assert difference(one, other, case["tolerance"]) > 1, case["id"]


def test_a_difference_is_named_by_its_setting_and_anything_else_is_a_defect(cases):
    case = cases["grpo_population_std"]
    by_sample = case["alternatives"]["std=sample"]
    assert judge(case, lambda _: case["expected"]).outcome == "passed"
    assert judge(case, lambda _: by_sample).reason == "std=sample"
    for wrong in ([[0.0] * 4], [[math.nan] * 4], [[0.0] * 3], [[None] * 4]):
        found = judge(case, lambda _, wrong=wrong: {"advantages": wrong})
        broken = any(value is not None and math.isnan(value) for value in wrong[0])
        reason = "defect (NaN or infinite)" if broken else "defect"
        assert (found.outcome, found.reason) == ("differs", reason)

    def nothing(case):
        raise NotOfferedError("std=population")

    assert judge(case, nothing) == Outcome(case["id"], "advantage", "not offered", "std=population")


def test_the_table_counts_by_kind_and_names_each_difference():
    outcomes = [
        Outcome("a", "kl", "passed"),
        Outcome("b", "kl", "differs", "defect"),
        Outcome("c", "loss", "not offered", "gspo"),
    ]
    lines = table(outcomes).splitlines()
    counts = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isalpha()}
    assert counts["kl"] == ["1", "1", "0"]
    assert counts["loss"] == ["0", "0", "1"]
    assert counts["all"] == ["1", "1", "1"]
    assert "  b: defect" in lines
    assert "  c: gspo" in lines


def test_the_command_prints_json_for_programs(capsys):
    assert main(["--implementation", "ours", "--json"]) == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert len(outcomes) == len(load())
    assert set(outcomes[0]) == {"id", "kind", "outcome", "reason", "found"}


def test_a_case_that_is_not_of_the_schema_is_refused(cases):
    good = cases["kl_k3"]
    assert fault(good) is None
    for spoil in (
        lambda case: case.pop("trap"),
        lambda case: case.update(note=""),
        lambda case: case.update(kind="k3"),
        lambda case: case["input"].pop("logp"),
        lambda case: case["expected"].pop("gradient"),
        lambda case: case["tolerance"].pop("absolute"),
        lambda case: case["alternatives"]["estimator=k2"].pop("kl"),
    ):
        bad = copy.deepcopy(good)
        spoil(bad)
        assert fault(bad)


def test_cases_are_strict_json_without_nan(cases):
    for path in CASES.iterdir():
        json.loads(path.read_text(), parse_constant=pytest.fail)
