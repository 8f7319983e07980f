"""Advantages: what a reward is worth beside the others of its group or batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.derive.numbers import Real, Rows, case, exact, mean, real, variance

GRPO = "DeepSeekMath (arXiv:2402.03300), section 4.1.2"
DR_GRPO = "Dr. GRPO (arXiv:2503.20783), section 3.2"
RLOO = "Ahmadian et al. (arXiv:2402.14740)"
REINFORCE_PP = "REINFORCE++ (arXiv:2501.03262)"
SCALE_RL = "ScaleRL (arXiv:2510.13786)"
GDPO = "GDPO (arXiv:2601.05242)"
DDOF = {"population": 0, "sample": 1}


def advantages(input: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """[P][G] by the formulas of the papers. Ungraded responses are in no moment and get 0."""
    input, settings = real(input), {"eps_place": "outside", **settings}
    rewards: Rows = input["rewards"]
    graded = input.get("graded") or [[True] * len(row) for row in rewards]
    eps = exact.mpf(settings.get("eps", 0))

    def divisor(values: list[Real], std: str) -> Real:
        if std == "none":
            return exact.mpf(1)
        spread = variance(values, DDOF[std])
        if settings["eps_place"] == "inside":
            return exact.sqrt(spread + eps)
        return exact.sqrt(spread) + eps

    def known(rows: Rows, p: int) -> list[Real]:
        return [r for r, there in zip(rows[p], graded[p], strict=True) if there]

    def each(change: Any) -> Rows:
        return [
            [change(p, i) if graded[p][i] else exact.mpf(0) for i in range(len(rewards[p]))]
            for p in range(len(rewards))
        ]

    def by_group(rows: Rows, std: str) -> Rows:
        def change(p: int, i: int) -> Real:
            away = rows[p][i] - mean(known(rows, p))
            return away / divisor(known(rows, p), std) if away else exact.mpf(0)

        return each(change)

    def by_batch(rows: Rows, std: str, *, centre: bool, spread_of: Rows | None = None) -> Rows:
        values = [r for p in range(len(rows)) for r in known(rows, p)]
        spreads = [r for p in range(len(rows)) for r in known(spread_of or rows, p)]
        middle = mean(values) if centre else exact.mpf(0)

        def change(p: int, i: int) -> Real:
            away = rows[p][i] - middle
            return away / divisor(spreads, std) if away else exact.mpf(0)

        return each(change)

    std = settings.get("std", "population")
    estimator = settings["estimator"]
    if estimator == "grpo":
        return by_group(rewards, std)
    if estimator == "rloo":
        return each(
            lambda p, i: (
                rewards[p][i] - mean(_without(known(rewards, p), rewards[p][i]))
                if len(known(rewards, p)) > 1
                else exact.mpf(0)
            )
        )
    if estimator == "reinforce_pp":
        return by_batch(rewards, std, centre=True)
    if estimator in ("reinforce_pp_tokens", "reinforce_pp_baseline_tokens"):
        # Every token of a response votes.
        rows = by_group(rewards, "none") if "baseline" in estimator else rewards
        pairs = [
            pair
            for values, lengths in zip(rows, input["lengths"], strict=True)
            for pair in zip(values, lengths, strict=True)
        ]
        votes = [value for value, length in pairs for _ in range(int(length))]
        return each(lambda p, i: (rows[p][i] - mean(votes)) / divisor(votes, std))
    if estimator == "reinforce_pp_baseline":
        return by_batch(by_group(rewards, "none"), std, centre=True)
    if estimator == "batch_std":
        return by_batch(by_group(rewards, "none"), std, centre=False)
    if estimator == "batch_std_of_rewards":
        return by_batch(by_group(rewards, "none"), std, centre=False, spread_of=rewards)
    if estimator == "gdpo":
        weights = input["weights"]
        first = settings.get("weights_before", False)
        parts = {
            name: by_group(
                [[r * (weights[name] if first else 1) for r in row] for row in rows], std
            )
            for name, rows in input["components"].items()
        }
        total = each(
            lambda p, i: exact.fsum(
                rows[p][i] * (1 if first else weights[name]) for name, rows in parts.items()
            )
        )
        return (
            by_batch(total, settings["batch_std"], centre=True) if settings["batch_std"] else total
        )
    if estimator == "reference_accuracy":
        return each(lambda p, i: rewards[p][i] - input["reference"][p])
    assert estimator == "kimi_exact"
    tau = exact.mpf(settings["tau"])

    def log_mean_exp(p: int) -> Real:
        return tau * exact.log(mean([exact.exp(r / tau) for r in known(rewards, p)]))

    return each(lambda p, i: rewards[p][i] - log_mean_exp(p))


def _without(values: list[Real], one: Real) -> list[Real]:
    left = list(values)
    left.remove(one)
    return left


def cases() -> Iterator[dict[str, Any]]:
    """All cases of the kind `advantage`."""

    def make(
        identifier: str,
        source: str,
        trap: str,
        input: Mapping[str, Any],
        settings: Mapping[str, Any],
        others: Mapping[str, Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """`others` are changed settings, or changed inputs under `input`, by name."""
        alternatives = {}
        for name, changes in (others or {}).items():
            changed = {**input, **changes.get("input", {})}
            rest = {key: value for key, value in changes.items() if key != "input"}
            alternatives[name] = {"advantages": advantages(changed, {**settings, **rest})}
        if sum(map(len, input["rewards"])) == 1:
            alternatives["no baseline for one response"] = {"advantages": real(input["rewards"])}
        expected = {"advantages": advantages(input, settings)}
        return case(
            identifier,
            "advantage",
            source=source,
            trap=trap,
            input=input,
            settings=settings,
            expected=expected,
            alternatives=alternatives,
            **more,
        )

    survey = {"rewards": [[0.1, 1.1, 1.0, 0.1]]}
    population = {"estimator": "grpo", "std": "population", "eps": 1e-6}
    by_sample: dict[str, dict[str, Any]] = {
        "std=sample": {"std": "sample"},
        "std=sample eps=1e-4": {"std": "sample", "eps": 1e-4},
    }
    yield make(
        "grpo_population_std",
        GRPO,
        "torch.std divides by n - 1 unless it is told not to; numpy.std divides by n",
        survey,
        population,
        {**by_sample, "std=none": {"std": "none"}, "eps=1e-4": {"eps": 1e-4}},
    )
    yield make(
        "grpo_sample_std",
        GRPO,
        "numpy.std divides by n unless it is told not to",
        survey,
        {**population, "std": "sample"},
        {
            "std=population": {"std": "population"},
            "std=none": {"std": "none"},
            "eps=1e-4": {"eps": 1e-4},
        },
    )
    yield make(
        "dr_grpo_no_std",
        DR_GRPO,
        "dividing by the standard deviation all the same",
        survey,
        {"estimator": "grpo", "std": "none"},
        {"std=population": {"std": "population", "eps": 1e-6}, **by_sample},
    )
    yield make(
        "grpo_two_groups",
        GRPO,
        "moments over the batch instead of the group",
        {"rewards": [[0.0, 1.0, 0.0, 0.0], [3.0, 3.0, 5.0, 3.0]]},
        population,
        {**by_sample, "estimator=reinforce_pp": {"estimator": "reinforce_pp"}},
    )
    for name, number, eps, reason in (
        ("grpo_equal_rewards_float64", 3, 1e-12, "three times 0.1 in float64: 1.4e-17 / 1e-12"),
        ("grpo_equal_rewards_float32", 7, 1e-6, "seven times 0.1 in float32: 7.5e-9 / 1e-6"),
    ):
        yield make(
            name,
            GRPO,
            "the mean of equal rewards is rounded, so r - mean is not 0, and the division blows it "
            f"up ({reason})",
            {"rewards": [[0.1] * number]},
            {**population, "eps": eps},
            tolerance={"relative": 0.0, "absolute": 1e-9},
        )
    yield make(
        "grpo_equal_rewards_no_eps",
        GRPO,
        "0 / 0 is NaN, and one NaN is a lost model",
        {"rewards": [[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]},
        {**population, "eps": 0.0},
        by_sample,
    )
    yield make(
        "grpo_one_response_sample_std",
        GRPO,
        "the deviation of one number with n - 1 is 0 / 0",
        {"rewards": [[1.0]]},
        {**population, "std": "sample"},
    )
    yield make(
        "grpo_eps_outside_the_root",
        GRPO,
        "sqrt(variance + eps) instead of sqrt(variance) + eps; told apart by an eps that is large",
        survey,
        {**population, "eps": 0.01},
        {"eps_place=inside": {"eps_place": "inside"}, **by_sample},
    )
    yield make(
        "grpo_eps_inside_the_root",
        GRPO + ", with the eps as in batch normalisation",
        "sqrt(variance) + eps instead of sqrt(variance + eps)",
        survey,
        {**population, "eps": 0.01, "eps_place": "inside"},
        {"eps_place=outside": {"eps_place": "outside"}, **by_sample},
    )
    graded = [[True, True, False, True], [True, True, True, True]]
    everyone = {"input": {"graded": None}}
    yield make(
        "grpo_ungraded_left_out",
        "a response that the grader lost is no evidence about its group",
        "it counts as a reward of 0 in the mean and deviation of the others",
        {"rewards": [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]], "graded": graded},
        population,
        {
            "ungraded counts as its placeholder": everyone,
            "ungraded counts as its placeholder, std=sample eps=1e-4": {
                **everyone,
                "std": "sample",
                "eps": 1e-4,
            },
            **by_sample,
        },
    )
    yield make(
        "grpo_ungraded_without_placeholder",
        "as grpo_ungraded_left_out",
        "NaN of the one that was lost spreads over its group",
        {"rewards": [[1.0, 0.0, None, 1.0], [0.0, 0.0, 1.0, 1.0]], "graded": graded},
        population,
        by_sample,
    )
    yield make(
        "grpo_one_graded",
        "as grpo_ungraded_left_out: one response alone has no baseline but itself",
        "a deviation of one number; the reward itself as advantage",
        {"rewards": [[1.0, 0.0, 0.0]], "graded": [[True, False, False]]},
        population,
        {"ungraded counts as its placeholder": everyone},
    )
    yield make(
        "rloo",
        RLOO,
        "the mean includes the response itself, so that all is (G - 1) / G as large",
        {"rewards": [[1.0, 0.0, 0.0, 0.5]]},
        {"estimator": "rloo"},
        {"mean includes the response": {"estimator": "grpo", "std": "none"}},
    )
    yield make(
        "rloo_ungraded",
        RLOO,
        "G / (G - 1) with the G of all instead of the graded",
        {"rewards": [[1.0, 0.0, 0.0, 0.5]], "graded": [[True, True, False, True]]},
        {"estimator": "rloo"},
        {"ungraded counts as its placeholder": everyone},
    )
    yield make(
        "rloo_one_response",
        RLOO,
        "0 / 0: nobody is left out of",
        {"rewards": [[1.0]]},
        {"estimator": "rloo"},
    )
    batch = {
        "rewards": [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.5, 0.0]],
        "lengths": [[1, 1, 2, 4], [3, 1, 2, 2]],
    }
    over_batch = {"std": "population", "eps": 1e-6}
    yield make(
        "reinforce_pp",
        REINFORCE_PP,
        "a mean for each group; moments over tokens, so that long responses count more; n - 1",
        batch,
        {"estimator": "reinforce_pp", **over_batch},
        {
            "std=sample": {"std": "sample"},
            "moments over tokens": {"estimator": "reinforce_pp_tokens"},
            "moments over tokens, std=sample": {
                "estimator": "reinforce_pp_tokens",
                "std": "sample",
            },
            "estimator=grpo": {"estimator": "grpo"},
        },
    )
    yield make(
        "reinforce_pp_baseline",
        REINFORCE_PP,
        "stopping after the mean of the group; dividing by the deviation of the group",
        batch,
        {"estimator": "reinforce_pp_baseline", **over_batch},
        {
            "std=sample": {"std": "sample"},
            "std=none": {"std": "none"},
            "moments over tokens, std=sample": {
                "estimator": "reinforce_pp_baseline_tokens",
                "std": "sample",
            },
            "estimator=grpo": {"estimator": "grpo"},
            "estimator=reinforce_pp": {"estimator": "reinforce_pp"},
        },
    )
    yield make(
        "batch_std",
        SCALE_RL,
        "the deviation of the rewards instead of the centred ones: prompts differ in their means",
        batch,
        {"estimator": "batch_std", **over_batch},
        {
            "std=sample": {"std": "sample"},
            "deviation of the rewards": {"estimator": "batch_std_of_rewards"},
            "deviation of the rewards, std=sample eps=1e-4": {
                "estimator": "batch_std_of_rewards",
                "std": "sample",
                "eps": 1e-4,
            },
            "estimator=grpo": {"estimator": "grpo"},
        },
    )
    yield make(
        "batch_std_equal_rewards",
        SCALE_RL,
        "0 / 0 where all centred rewards are 0",
        {"rewards": [[0.1, 0.1, 0.1], [0.7, 0.7, 0.7]]},
        {"estimator": "batch_std", **over_batch},
        tolerance={"relative": 0.0, "absolute": 1e-9},
    )
    yield make(
        "batch_std_ungraded",
        SCALE_RL,
        "the 0 of the ungraded counts in the deviation of the batch",
        {"rewards": [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]], "graded": graded},
        {"estimator": "batch_std", **over_batch},
        {
            "std=sample": {"std": "sample"},
            "ungraded counts as its placeholder": everyone,
            "deviation of the rewards, std=sample eps=1e-4": {
                "estimator": "batch_std_of_rewards",
                "std": "sample",
                "eps": 1e-4,
            },
        },
    )
    components = {
        "correct": [[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]],
        "format": [[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]],
    }

    def weighted(weights: Mapping[str, float]) -> dict[str, Any]:
        rewards = [
            [sum(weights[name] * rows[p][i] for name, rows in components.items()) for i in range(4)]
            for p in range(2)
        ]
        return {"rewards": rewards, "components": components, "weights": dict(weights)}

    gdpo = {"estimator": "gdpo", "std": "population", "batch_std": "population", "eps": 1e-6}
    ways: dict[str, dict[str, Any]] = {
        # The deviation of the group scales all, and that of the batch undoes it.
        "batch_std=sample": {"std": "sample", "batch_std": "sample"},
        "batch_std=sample eps=1e-4": {"std": "sample", "batch_std": "sample", "eps": 1e-4},
        "sum before normalising": {"estimator": "grpo"},
        "no moments of the batch": {"batch_std": None},
    }
    yield make(
        "gdpo",
        GDPO,
        "one normalisation of the sum; no second one over the batch. The component that is equal "
        "in the second group must give 0, not NaN",
        weighted({"correct": 1.0, "format": 1.0}),
        gdpo,
        ways,
    )
    yield make(
        "gdpo_weights",
        GDPO,
        "a weight that multiplies the reward is divided out again by the deviation: it must "
        "multiply the normalised advantage",
        weighted({"correct": 1.0, "format": 0.25}),
        gdpo,
        {**ways, "weights multiply the rewards": {"weights_before": True}},
    )
    yield make(
        "reference_accuracy",
        "AdaptThink (arXiv:2505.13417): reference 0.6, delta 0.05 in the rewards",
        "the mean of the group as baseline",
        {"rewards": [[1.05, 0.05, 1.0, 0.0]], "reference": [0.6]},
        {"estimator": "reference_accuracy"},
        {"estimator=grpo std=none": {"estimator": "grpo", "std": "none"}},
    )
    for tau in (0.1, 0.5, 5.0):
        yield make(
            f"kimi_exact_baseline_tau_{tau}",
            "Kimi k1.5 (arXiv:2501.12599), section 2.3.2: tau log mean exp(r / tau)",
            "the mean of the rewards, which is its limit for a large tau",
            {"rewards": [[1.0, 0.0, 0.0, 1.0]]},
            {"estimator": "kimi_exact", "tau": tau},
            {"estimator=grpo std=none": {"estimator": "grpo", "std": "none"}},
        )
