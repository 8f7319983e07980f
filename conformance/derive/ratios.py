"""Importance ratios, the correction of the engine's probabilities, and estimates of the KL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.derive.numbers import Real, Rows, case, exact, gradient, mean, real

GSPO = "GSPO (arXiv:2507.18071), equations 5 to 7"
PPO = "PPO (arXiv:1707.06347), section 3"
SCHULMAN = "Schulman, Approximating KL divergence (2020)"
TIS = "Yao et al., Your efficient RL framework secretly brings you off-policy RL training (2025)"
ICEPOP = "IcePop (Ling team, 2025)"
MIS = "Liu et al., When speed kills stability (2025)"


def log_ratios(upper: Rows, lower: Rows, mask: list[list[bool]]) -> Rows:
    """[B][trained tokens] upper - lower; what is masked is left out."""
    return [
        [a - b for a, b, there in zip(*rows, strict=True) if there]
        for rows in zip(upper, lower, mask, strict=True)
    ]


def spread(rows: Rows, mask: list[list[bool]], nothing: Any) -> list[list[Any]]:
    """Values of trained tokens at their positions, `nothing` elsewhere."""
    return [
        [row.pop(0) if there else nothing for there in flags]
        for row, flags in zip([list(row) for row in rows], mask, strict=True)
    ]


def bounded(value: Real, bound: float | None) -> Real:
    """A log-ratio within [-bound, bound]."""
    return value if bound is None else min(max(value, exact.mpf(-bound)), exact.mpf(bound))


def correction(rows: Rows, settings: Mapping[str, Any]) -> Rows:
    """[B][trained tokens] weights for the log-ratios learner / engine."""
    out = []
    for row in rows:
        if settings["level"] == "token":
            logs = row
        else:
            total = exact.fsum(row)
            logs = [total if settings["level"] == "sequence" else total / len(row) for _ in row]
        ratios = [exact.exp(value) for value in logs]
        high = exact.mpf(settings["high"])
        if settings["kind"] == "truncate":
            out.append([min(ratio, high) for ratio in ratios])
        else:
            low = exact.mpf(settings["low"])
            keep = [low <= ratio <= high for ratio in ratios]
            value = [exact.mpf(1)] * len(ratios) if settings.get("ones") else ratios
            pairs = zip(value, keep, strict=True)
            out.append([v if kept else exact.mpf(0) for v, kept in pairs])
    return out


def kl(estimator: str, logp: Real, reference: Real) -> Real:
    """One token's estimate of KL(policy || reference)."""
    d = reference - logp
    return {
        "k1": lambda: -d,
        "k2": lambda: d * d / 2,
        "k3": lambda: exact.exp(d) - d - 1,
        "k3_reversed": lambda: exact.exp(-d) + d - 1,
    }[estimator]()


def ratio_cases() -> Iterator[dict[str, Any]]:
    """The kind `ratio`: policy over the policy at the start of the step."""

    def ratios(input: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        known = real(input)
        rows = log_ratios(known["logp"], known["old_logp"], input["mask"])
        bound = settings.get("log_ratio_bound")
        rows = [[bounded(value, bound) for value in row] for row in rows]
        if settings["level"] in ("token", "inverse"):
            sign = 1 if settings["level"] == "token" else -1
            by_token = [[exact.exp(sign * value) for value in row] for row in rows]
            return {"ratios": spread(by_token, input["mask"], None)}

        def of_response(row: list[Real]) -> Real:
            if settings["level"] == "mean of ratios":
                return mean([exact.exp(value) for value in row])
            total = exact.fsum(row)
            return exact.exp(total if settings["level"] == "product" else total / len(row))

        return {"ratios": [of_response(row) if row else None for row in rows]}

    def make(
        identifier: str,
        source: str,
        trap: str,
        input: Mapping[str, Any],
        settings: Mapping[str, Any],
        others: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        return case(
            identifier,
            "ratio",
            source=source,
            trap=trap,
            input=input,
            settings=settings,
            expected=ratios(input, settings),
            alternatives={n: ratios(input, {**settings, **c}) for n, c in others.items()},
        )

    two = {
        "logp": [[-1.0, -2.0, -0.5], [-0.7, None, None]],
        "old_logp": [[-1.5, -1.75, -0.75], [-0.2, None, None]],
        "mask": [[True, True, True], [True, False, False]],
    }
    yield make(
        "ratio_token",
        PPO,
        "old / new",
        two,
        {"level": "token"},
        {"old / new": {"level": "inverse"}},
    )
    yield make(
        "ratio_sequence",
        GSPO,
        "the product of the token ratios instead of its root; the mean of the ratios; a mean over "
        "the padded length",
        two,
        {"level": "sequence"},
        {
            "product of the ratios": {"level": "product"},
            "mean of the ratios": {"level": "mean of ratios"},
        },
    )
    yield make(
        "ratio_sequence_empty_response",
        GSPO,
        "0 / 0 for a response without a trained token",
        {
            "logp": [[-1.0, -2.0], [None, None]],
            "old_logp": [[-1.5, -1.75], [None, None]],
            "mask": [[True, True], [False, False]],
        },
        {"level": "sequence"},
        {"product of the ratios": {"level": "product"}},
    )
    extreme = {
        "logp": [[-1.0, -1001.0]],
        "old_logp": [[-1001.0, -1.0]],
        "mask": [[True, True]],
    }
    yield make(
        "ratio_extreme_bounded",
        "log-ratio within 20, as verl and this project",
        "exp(1000) overflows",
        extreme,
        {"level": "token", "log_ratio_bound": 20.0},
        {"log_ratio_bound=10": {"log_ratio_bound": 10.0}},
    )
    yield make(
        "ratio_large_unbounded",
        PPO,
        "a bound that nobody asked for",
        {"logp": [[-1.0]], "old_logp": [[-31.0]], "mask": [[True]]},
        {"level": "token", "log_ratio_bound": None},
        {"log_ratio_bound=20": {"log_ratio_bound": 20.0}},
    )


def mismatch_cases() -> Iterator[dict[str, Any]]:
    """The kind `mismatch`: learner over engine, as a weight without gradient."""
    input: dict[str, Any] = {
        "old_logp": [[-1.0, -2.0, -0.5], [-3.0, -0.4, None], [-0.5, -0.5, -4.0]],
        "behaviour_logp": [[-1.2, -1.7, -1.75], [-2.8, -0.5, None], [-0.5, -0.7, -0.5]],
        "mask": [[True, True, True], [True, True, False], [True, True, True]],
    }

    def weights(settings: Mapping[str, Any]) -> dict[str, Any]:
        known = real(input)
        rows = log_ratios(known["old_logp"], known["behaviour_logp"], input["mask"])
        return {"weights": spread(correction(rows, settings), input["mask"], None)}

    for kind, level, low, high, source in (
        ("truncate", "token", 0.0, 2.0, TIS),
        ("truncate", "sequence", 0.0, 1.5, TIS),
        ("truncate", "geometric", 0.0, 1.1, "prime-rl and OpenRLHF: the geometric mean"),
        ("mask", "token", 0.5, 2.0, ICEPOP),
        ("mask", "sequence", 0.5, 2.0, MIS),
        ("mask", "geometric", 0.9, 1.1, MIS),
    ):
        settings = {"kind": kind, "level": level, "low": low, "high": high}
        others = {
            f"level={other}": weights({**settings, "level": other})
            for other in ("token", "sequence", "geometric")
            if other != level
        }
        if kind == "truncate":
            others["kind=mask"] = weights({**settings, "kind": "mask"})
        else:
            others["kind=truncate"] = weights({**settings, "kind": "truncate"})
            others["kept tokens weigh 1"] = weights({**settings, "ones": True})
        yield case(
            f"mismatch_{kind}_{level}",
            "mismatch",
            source=source,
            trap="the product over a response where the token is meant, or the other way round; a "
            "mask that keeps tokens at weight 1; cutting where dropping is meant; engine / learner",
            input=input,
            settings=settings,
            expected=weights(settings),
            alternatives=others,
        )


def kl_cases() -> Iterator[dict[str, Any]]:
    """The kinds `kl`, on tokens, and `kl_expectation`, on a whole distribution."""
    input = {"logp": [-1.0, -1.0, -1.0, -3.0], "reference_logp": [-0.8, -1.2, -1.0, -1.0]}

    def tokens(estimator: str) -> dict[str, Any]:
        rows = real([input["logp"]])
        references = real(input["reference_logp"])

        def total(moved: Rows) -> Real:
            pairs = zip(moved[0], references, strict=True)
            return exact.fsum(kl(estimator, a, b) for a, b in pairs)

        values = [kl(estimator, a, b) for a, b in zip(rows[0], references, strict=True)]
        return {"kl": values, "gradient": gradient(total, rows)[0]}

    for name, trap in (
        ("k1", "the sign"),
        ("k2", "the half; the gradient is log(policy / reference), unlike that of k3"),
        ("k3", "policy and reference swapped; the sign of d; k2's gradient, equal to first order"),
    ):
        others = [other for other in ("k1", "k2", "k3", "k3_reversed") if other != name]
        yield case(
            f"kl_{name}",
            "kl",
            source=SCHULMAN
            + (", and DeepSeekMath (arXiv:2402.03300), equation 4" if name == "k3" else ""),
            trap=trap,
            input=input,
            settings={"estimator": name},
            expected=tokens(name),
            alternatives={f"estimator={other}": tokens(other) for other in others},
        )

    logits = {"logits": [0.5, -0.25, 1.0], "reference_logits": [0.0, 0.75, -0.5]}

    def log_softmax(values: list[Real]) -> list[Real]:
        whole = exact.log(exact.fsum(exact.exp(v) for v in values))
        return [v - whole for v in values]

    def expectation(estimator: str, place: str) -> dict[str, Any]:
        """Mean gradient over every symbol, drawn from the policy itself."""
        known = real(logits)
        fixed, reference = log_softmax(known["logits"]), log_softmax(known["reference_logits"])

        def total(moved: Rows) -> Real:
            logp = log_softmax(moved[0])
            terms = []
            for now, at_first, other in zip(logp, fixed, reference, strict=True):
                if place == "loss":
                    terms.append(exact.exp(at_first) * kl(estimator, now, other))
                else:
                    terms.append(exact.exp(at_first) * kl(estimator, at_first, other) * now)
            return exact.fsum(terms)

        return {"gradient": gradient(total, [known["logits"]])[0]}

    traps = {
        ("k1", "loss"): "k1 in the loss does nothing: its mean gradient is 0, not that of the KL",
        ("k2", "loss"): "taking it for biased: on-policy its mean gradient is that of KL(policy || "
        "reference)",
        ("k3", "loss"): "taking it for unbiased: its mean gradient is that of KL(reference || "
        "policy)",
        ("k1", "reward"): "a gradient through the reward, which makes it 0. Without one it is that "
        "of KL(policy || reference), as k2 in the loss",
    }
    for (estimator, place), trap in traps.items():
        # k1 in the reward and k2 in the loss have one gradient.
        same_as = ("k2", "loss") if place == "reward" else (estimator, place)
        yield case(
            f"kl_expectation_{estimator}_in_{place}",
            "kl_expectation",
            source=SCHULMAN + "; the gradients by enumeration",
            trap=trap,
            input=logits,
            settings={"estimator": estimator, "place": place},
            expected=expectation(estimator, place),
            alternatives={
                f"estimator={e} place={p}": expectation(e, p)
                for e, p in traps
                if p == "loss" and (e, p) not in ((estimator, place), same_as)
            },
        )
