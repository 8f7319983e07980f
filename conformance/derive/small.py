"""Rewards of length, returns of tokens, schedules and controllers: formulas of one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.derive.numbers import Real, case, exact, real

DEMYSTIFYING = "Demystifying long chain-of-thought (arXiv:2502.03373)"


def reward_cases() -> Iterator[dict[str, Any]]:
    """The kind `reward`: scores of length, one for each response of a group."""

    def overlong(lengths: list[int], settings: Mapping[str, Any], **wrong: Any) -> dict[str, Any]:
        longest, cache = settings["max_tokens"], settings["cache_tokens"]
        start = wrong.get("start", longest - cache)
        out = []
        for length in lengths:
            if length <= start:
                out.append(exact.mpf(0))
            elif length <= longest:
                out.append(exact.mpf(start - length) / wrong.get("cache", cache))
            else:
                out.append(exact.mpf(-1))
        return {"rewards": out}

    lengths = [0, 1, 60, 80, 81, 90, 99, 100, 101, 500]
    settings = {"reward": "soft_overlong", "max_tokens": 100, "cache_tokens": 20}
    yield case(
        "reward_soft_overlong",
        "reward",
        source="DAPO (arXiv:2503.14476), equation 13",
        trap="the slope begins at L instead of L - C; division by L; no floor beyond L",
        input={"lengths": lengths},
        settings=settings,
        expected=overlong(lengths, settings),
        alternatives={"division by max_tokens": overlong(lengths, settings, cache=100)},
    )
    whole = {**settings, "cache_tokens": 100}
    yield case(
        "reward_soft_overlong_whole_window",
        "reward",
        source="DAPO (arXiv:2503.14476), equation 13",
        trap="a stretch as long as the window makes a penalty of every token; 0 / 0 at no length",
        input={"lengths": [0, 25, 100, 101]},
        settings=whole,
        expected=overlong([0, 25, 100, 101], whole),
    )

    def kimi(input: Mapping[str, Any], over: str = "all") -> dict[str, Any]:
        known = [
            n
            for n, right in zip(input["lengths"], input["correct"], strict=True)
            if right or over == "all"
        ]
        low, high = min(known, default=0), max(known, default=0)
        out = []
        for length, right in zip(input["lengths"], input["correct"], strict=True):
            share = exact.mpf(1) / 2 - exact.mpf(length - low) / (high - low) if high > low else 0
            out.append(exact.mpf(share if right else min(0, share)))
        return {"rewards": out}

    for name, input in (
        (
            "right_and_wrong",
            {"lengths": [100, 200, 300, 400], "correct": [True, False, True, False]},
        ),
        ("all_wrong", {"lengths": [100, 300], "correct": [False, False]}),
        ("equal_lengths", {"lengths": [50, 50, 50], "correct": [True, False, True]}),
    ):
        others = {"min and max over right answers": kimi(input, "right")}
        yield case(
            f"reward_kimi_length_{name}",
            "reward",
            source="Kimi k1.5 (arXiv:2501.12599), section 2.3.3",
            trap="min and max over the right answers only; a bonus for short wrong answers; 0 / 0",
            input=input,
            settings={"reward": "length_kimi"},
            expected=kimi(input),
            alternatives=others if name == "right_and_wrong" else None,
        )

    def cosine(input: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        limit, out = settings["max_tokens"], []
        for length, right in zip(input["lengths"], input["correct"], strict=True):
            if length + settings["margin_tokens"] >= limit:
                out.append(exact.mpf(settings["exceeded"]))
                continue
            key = "right" if right else "wrong"
            start, end = exact.mpf(settings[f"{key}_short"]), exact.mpf(settings[f"{key}_long"])
            turn = 1 + exact.cos(exact.pi * length / limit)
            out.append(end + (start - end) * turn / 2)
        return {"rewards": out}

    lengths = [0, 3584, 7168, 10752, 14000, 14319, 14320, 20000]
    both = {"lengths": lengths * 2, "correct": [True] * 8 + [False] * 8}
    main_run = {
        "reward": "length_cosine",
        "max_tokens": 14336,
        "margin_tokens": 16,
        "right_short": 2.0,
        "right_long": 1.0,
        "wrong_short": -10.0,
        "wrong_long": 0.0,
        "exceeded": -10.0,
    }
    swapped = {**main_run, "wrong_short": 0.0, "wrong_long": -10.0}
    yield case(
        "reward_cosine",
        "reward",
        source=DEMYSTIFYING + ", section 3",
        trap="ends swapped for wrong answers; a right answer beyond the limit is still right; the "
        "edge of the margin",
        input=both,
        settings=main_run,
        expected=cosine(both, main_run),
        alternatives={
            "ends of the wrong answers swapped": cosine(both, swapped),
            "margin_tokens=0": cosine(both, {**main_run, "margin_tokens": 0}),
        },
    )


def return_cases() -> Iterator[dict[str, Any]]:
    """The kind `return`: discounted sums of token scores."""

    def returns(scores: list[float], discount: float) -> dict[str, Any]:
        values, later = [], exact.mpf(0)
        for score in reversed(real(scores)):
            later = score + exact.mpf(discount) * later
            values.append(later)
        return {"returns": values[::-1]}

    scores = [0.0, 0.0, -0.05, 0.0, -0.1]
    for discount in (1.0, 0.99, 0.0):
        yield case(
            f"return_discount_{discount}",
            "return",
            source=DEMYSTIFYING,
            trap="discounting forwards; a discount of its own for each reward is forgotten",
            input={"scores": scores},
            settings={"discount": discount},
            expected=returns(scores, discount),
            alternatives={
                f"discount={d}": returns(scores, d) for d in (1.0, 0.9, 0.0) if d != discount
            },
        )


def schedule_cases() -> Iterator[dict[str, Any]]:
    """The kind `learning_rate`: of update `step`, counted from 0."""

    def rates(
        steps: list[int], settings: Mapping[str, Any], first: int = 1, end: int = 1
    ) -> dict[str, Any]:
        peak, warmup = exact.mpf(settings["peak"]), settings["warmup_steps"]
        last, out = settings["max_steps"] - end, []
        for step in steps:
            if step < warmup:
                out.append(peak * (step + first) / warmup)
                continue
            way = min(exact.mpf(step - warmup) / max(last - warmup, 1), exact.mpf(1))
            falling = {
                "constant": exact.mpf(1),
                "linear": 1 - way,
                "cosine": (1 + exact.cos(exact.pi * way)) / 2,
            }[settings["schedule"]]
            share = exact.mpf(settings["final_share"])
            out.append(peak * (share + (1 - share) * falling))
        return {"learning_rates": out}

    steps = [0, 1, 9, 10, 11, 50, 98, 99, 100]
    for schedule, share in (("constant", 1.0), ("linear", 0.0), ("cosine", 0.1)):
        settings = {
            "schedule": schedule,
            "peak": 1.0,
            "warmup_steps": 10,
            "max_steps": 100,
            "final_share": share,
        }
        yield case(
            f"learning_rate_{schedule}",
            "learning_rate",
            source="linear warm-up, then the schedule; update k of w in the warm-up has k / w",
            trap="the first update at a learning rate of 0; the peak one update late; the end at "
            "max_steps instead of max_steps - 1",
            input={"steps": steps},
            settings=settings,
            expected=rates(steps, settings),
            alternatives={
                "first update at 0"
                + ("" if schedule == "constant" else ", end at max_steps"): rates(
                    steps, settings, first=0, end=0
                ),
                "no warm-up": rates(steps, {**settings, "warmup_steps": 0}),
            },
        )


def controller_cases() -> Iterator[dict[str, Any]]:
    """The kind `controller`: coefficients that follow a target."""

    def kl(values: Mapping[str, Any], bound: float | None = 0.2) -> dict[str, Any]:
        known = real(values)
        error: Real = known["kl"] / known["target"] - 1
        if bound is not None:
            error = min(max(error, exact.mpf(-bound)), exact.mpf(bound))
        return {"coef": known["coef"] * (1 + error * known["samples"] / known["horizon"])}

    for name, measured in (("above", 0.5), ("near", 0.11), ("below", 0.0)):
        values = {"coef": 0.2, "kl": measured, "target": 0.1, "horizon": 10000, "samples": 512}
        yield case(
            f"controller_kl_{name}",
            "controller",
            source="Ziegler et al. (arXiv:1909.08593), section 2.2",
            trap="an error without bounds",
            input=values,
            settings={"controller": "kl"},
            expected=kl(values),
            alternatives={"no bound": kl(values, None)} if name != "near" else None,
        )
    for name, entropy, coef, moved in (
        ("low", 0.1, 0.001, 0.0011),
        ("high", 0.4, 0.001, 0.0009),
        ("at_most", 0.1, 0.005, 0.005),
        ("at_least", 0.4, 0.00005, 0.0),
    ):
        yield case(
            f"controller_entropy_{name}",
            "controller",
            source="Skywork-OR1 (arXiv:2505.22312)",
            trap="the direction; no bounds",
            input={
                "coef": coef,
                "entropy": entropy,
                "target": 0.2,
                "step": 0.0001,
                "highest": 0.005,
            },
            settings={"controller": "entropy"},
            expected={"coef": exact.mpf(moved)},
            tolerance={"relative": 1e-5, "absolute": 1e-9},
        )
