"""Weights of tokens, and losses with their gradients by the log-probs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.derive.numbers import Real, Rows, case, exact, gradient, real
from conformance.derive.ratios import (
    GSPO,
    ICEPOP,
    MIS,
    TIS,
    bounded,
    correction,
    kl,
    log_ratios,
    spread,
)

GRPO = "DeepSeekMath (arXiv:2402.03300), equation 3"
DAPO = "DAPO (arXiv:2503.14476), section 3"
DR_GRPO = "Dr. GRPO (arXiv:2503.20783), section 3.2"
SCALE_RL = "ScaleRL (arXiv:2510.13786)"
CISPO = "MiniMax-M1 (arXiv:2506.13585), equations 4 and 5"
DUAL_CLIP = "Ye et al. (arXiv:1912.09729), dual-clip PPO"
KIMI = "Kimi k1.5 (arXiv:2501.12599), section 2.3.2, equation 3"
AGGREGATIONS = ("seq-mean-token-mean", "token-mean", "seq-sum-constant", "prompt-mean")


def token_weights(lengths: list[int], settings: Mapping[str, Any]) -> list[Real]:
    """One weight for every token of each response; all together they make the batch's mean."""
    number, aggregation = exact.mpf(len(lengths)), settings["aggregation"]
    if aggregation == "seq-mean-token-mean":
        return [1 / (number * max(n, 1)) for n in lengths]
    if aggregation == "token-mean":
        return [1 / exact.mpf(max(sum(lengths), 1)) for _ in lengths]
    if aggregation == "seq-sum-constant":
        return [1 / (number * settings["constant"]) for _ in lengths]
    if aggregation == "sum":  # of no paper; what stands for a missing mean
        return [exact.mpf(1) for _ in lengths]
    size = settings["group_size"]
    out = []
    for start in range(0, len(lengths), size):
        tokens = exact.mpf(max(sum(lengths[start : start + size]), 1))
        out += [1 / (tokens * (number / size))] * size
    return out


def batch_weights(input: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Real]:
    """Weights of the whole batch, or by the wrong code named in `weights_of`."""
    lengths = [sum(flags) for flags in input["mask"]]
    wrong = settings.get("weights_of")
    if wrong == "padded length":
        return token_weights([len(flags) for flags in input["mask"]], settings)
    if wrong == "micro-batch":  # the mean of each micro-batch, then the mean over these
        weights = [exact.mpf(0)] * len(lengths)
        for rows in input["micro_batches"]:
            part = token_weights([lengths[i] for i in rows], settings)
            for i, weight in zip(rows, part, strict=True):
                weights[i] = weight / len(input["micro_batches"])
        return weights
    if wrong == "responses with tokens":
        some = token_weights([n for n in lengths if n], settings)
        return [some.pop(0) if n else exact.mpf(0) for n in lengths]
    return token_weights(lengths, settings)


def loss(logp: Rows, input: Mapping[str, Any], settings: Mapping[str, Any]) -> Real:
    """The loss of a batch, as a function of the log-probs of its trained tokens.

    What carries no gradient is read from `input`, never from `logp`.
    """
    mask, objective = input["mask"], settings["objective"]
    fixed = _trained(input["logp"], mask)
    old = _trained(input["old_logp"], mask)
    weights = batch_weights(input, settings)
    behaviour = settings.get("correction")
    factors = [[exact.mpf(1)] * len(row) for row in fixed]
    if behaviour:
        factors = correction(
            log_ratios(input["old_logp"], input["behaviour_logp"], mask), behaviour
        )
        if behaviour.get("denominator") == "kept tokens":
            kept = [sum(1 for f in row if f) for row in factors]
            weights = token_weights(kept, settings)
    penalty = settings.get("kl")
    reference = _trained(input["reference_logp"], mask) if penalty else None
    bound = settings.get("log_ratio_bound")

    total = exact.mpf(0)
    for b, row in enumerate(logp):
        ratios = [bounded(a - o, bound) for a, o in zip(row, old[b], strict=True)]
        for t, now in enumerate(row):
            given = input["advantages"][b]
            advantage = given[t] if isinstance(given, list) else given
            if penalty and penalty["place"] == "reward":
                assert reference is not None
                spent = kl(penalty["estimator"], fixed[b][t], reference[b][t])
                advantage = advantage - exact.mpf(penalty["coef"]) * spent
            term = _term(objective, settings, now, fixed[b][t], old[b][t], ratios, t, advantage)
            total += weights[b] * factors[b][t] * term
            if penalty and penalty["place"] == "loss":
                assert reference is not None
                estimate = kl(penalty["estimator"], now, reference[b][t])
                factor = factors[b][t] if penalty.get("corrected") else exact.mpf(1)
                if penalty.get("times_ratio"):
                    factor = factor * exact.exp(now - old[b][t])
                total += exact.mpf(penalty["coef"]) * weights[b] * factor * estimate
    return total


def _term(
    objective: str,
    settings: Mapping[str, Any],
    now: Real,
    fixed: Real,
    old: Real,
    log_ratios_T: list[Real],
    t: int,
    advantage: Real,
) -> Real:
    """What one token costs, before its weight."""
    if objective == "reinforce":
        return -advantage * now
    if objective == "kimi":
        way, share = exact.fsum(log_ratios_T), exact.mpf(settings["tau"]) / 2
        if settings.get("square") == "of tokens":
            return -advantage * now + share * log_ratios_T[t] ** 2
        return -advantage * now + share * way**2 / len(log_ratios_T)
    low, high = 1 - exact.mpf(settings.get("clip_low") or 0), 1 + exact.mpf(settings["clip_high"])
    if objective == "cispo":
        return -min(exact.exp(fixed - old), high) * advantage * now
    if objective == "cispo_ratio_not_detached":
        return -min(exact.exp(now - old), high) * advantage * now
    logs = {
        "grpo": log_ratios_T[t],
        "gspo": exact.fsum(log_ratios_T) / len(log_ratios_T),
        "gspo_product": exact.fsum(log_ratios_T),
    }[objective]
    ratio = exact.exp(logs)
    clipped = min(max(ratio, low), high)
    if settings.get("pessimism") == "none":  # a clip without the minimum
        return -clipped * advantage
    gain = min(ratio * advantage, clipped * advantage)
    if settings.get("dual_clip") is not None and advantage < 0:
        gain = max(gain, exact.mpf(settings["dual_clip"]) * advantage)
    return -gain


def _trained(rows: list[list[Any]], mask: list[list[bool]]) -> Rows:
    pairs = zip(rows, mask, strict=True)
    return [[v for v, there in zip(row, flags, strict=True) if there] for row, flags in pairs]


def loss_and_gradient(input: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The loss, and its derivative by every log-prob; exactly 0 where the mask is False."""
    known = {**real({k: v for k, v in input.items() if k != "micro_batches"}), **_plain(input)}
    rows = _trained(known["logp"], known["mask"])
    by_token = gradient(lambda moved: loss(moved, known, settings), rows)
    return {
        "loss": loss(rows, known, settings),
        "gradient": spread(by_token, known["mask"], exact.mpf(0)),
    }


def _plain(input: Mapping[str, Any]) -> dict[str, Any]:
    return {key: input[key] for key in ("mask", "micro_batches") if key in input}


def aggregation_cases() -> Iterator[dict[str, Any]]:
    """The kind `aggregation`: how token values become one number."""

    def result(input: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        weights = batch_weights(input, settings)
        values = _trained(real(input["values"]), input["mask"])
        rows = [[w] * len(row) for w, row in zip(weights, values, strict=True)]
        total = exact.fsum(w * v for w, row in zip(weights, values, strict=True) for v in row)
        return {"weights": spread(rows, input["mask"], exact.mpf(0)), "aggregate": total}

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
            "aggregation",
            source=source,
            trap=trap,
            input=input,
            settings=settings,
            expected=result(input, settings),
            alternatives={n: result(input, {**settings, **c}) for n, c in others.items()},
        )

    sources = dict(zip(AGGREGATIONS, (GRPO, DAPO, DR_GRPO, SCALE_RL), strict=True))
    four = {
        "values": [[1.0, 2.0, -1.0], [4.0, None, None], [0.5, 0.25, None], [-2.0, 3.0, 1.5]],
        "mask": [[True] * 3, [True, False, False], [True, True, False], [True] * 3],
    }
    for name in AGGREGATIONS:
        settings = {"aggregation": name, "constant": 8, "group_size": 2}
        others = {
            f"aggregation={other}": {"aggregation": other}
            for other in AGGREGATIONS
            if other != name
        }
        if name != "seq-sum-constant":
            others["mean over the padded length"] = {"weights_of": "padded length"}
        yield make(
            f"aggregation_{name}",
            sources[name],
            "another aggregation; positions of the padding in a denominator",
            four,
            settings,
            others,
        )
    lengths = {
        "values": [[-1.0] * 2 + [None] * 18, [-1.0] * 20],
        "mask": [[True] * 2 + [False] * 18, [True] * 20],
    }
    for name in ("seq-mean-token-mean", "seq-sum-constant"):
        other = {"seq-mean-token-mean": "seq-sum-constant"}.get(name, "seq-mean-token-mean")
        yield make(
            f"aggregation_length_bias_{name}",
            DR_GRPO,
            "two wrong answers of 2 and 20 tokens: the mean over tokens punishes a token of the "
            "long one ten times less, the constant punishes both alike",
            lengths,
            {"aggregation": name, "constant": 20, "group_size": 2},
            {f"aggregation={other}": {"aggregation": other}},
        )
    empty = {
        "values": [[1.0, 3.0], [None, None], [2.0, None], [5.0, 1.0]],
        "mask": [[True, True], [False, False], [True, False], [True, True]],
    }
    for name in AGGREGATIONS:
        settings = {"aggregation": name, "constant": 4, "group_size": 2}
        others = {}
        if name in ("seq-mean-token-mean", "seq-sum-constant"):
            others["responses without tokens left out"] = {"weights_of": "responses with tokens"}
        others |= {
            f"aggregation={other}": {"aggregation": other}
            for other in AGGREGATIONS
            if other != name
        }
        yield make(
            f"aggregation_empty_response_{name}",
            sources[name],
            "0 / 0 for a response without a token; leaving it out of the number of responses",
            empty,
            settings,
            others,
        )
        yield make(
            f"aggregation_all_masked_{name}",
            sources[name],
            "0 / 0 where nothing is trained: the loss is 0, not NaN",
            {"values": [[None, None], [None, None]], "mask": [[False, False], [False, False]]},
            settings,
            {},
        )
    # The mean over all tokens is another one even where micro-batches have equal sizes.
    uneven, even = [[0], [1], [2, 3]], [[0, 1], [2, 3]]
    for name in ("seq-mean-token-mean", "token-mean", "seq-sum-constant"):
        micro = {**four, "micro_batches": even if name == "token-mean" else uneven}
        yield make(
            f"aggregation_micro_batches_{name}",
            sources[name] + "; the denominator is that of the global batch",
            "the mean of the micro-batches' means: a token's weight then depends on its neighbours",
            micro,
            {"aggregation": name, "constant": 8, "group_size": 2},
            {"denominator of the micro-batch": {"weights_of": "micro-batch"}},
        )


def cases() -> Iterator[dict[str, Any]]:
    """The kind `loss`."""

    def make(
        identifier: str,
        source: str,
        trap: str,
        input: Mapping[str, Any],
        settings: Mapping[str, Any],
        others: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        return case(
            identifier,
            "loss",
            source=source,
            trap=trap,
            input=input,
            settings=settings,
            expected=loss_and_gradient(input, settings),
            alternatives={
                name: loss_and_gradient(input, {**settings, **changes})
                for name, changes in (others or {}).items()
            },
        )

    def one(log_ratio: float, advantage: float) -> dict[str, Any]:
        """One response of one token, with this log-ratio."""
        old = -1.0 if log_ratio <= 0 else -1.0 - log_ratio
        return {
            "logp": [[old + log_ratio]],
            "old_logp": [[old]],
            "advantages": [advantage],
            "mask": [[True]],
        }

    plain = {
        "objective": "grpo",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "dual_clip": None,
        "aggregation": "seq-mean-token-mean",
        "constant": 8,
        "group_size": 2,
    }
    on_policy = {
        "logp": [[-1.0, -0.5, -2.0], [-0.25, None, None], [-1.5, -0.75, None], [-3.0, -0.1, -0.4]],
        "old_logp": [
            [-1.0, -0.5, -2.0],
            [-0.25, None, None],
            [-1.5, -0.75, None],
            [-3.0, -0.1, -0.4],
        ],
        "advantages": [1.0, -0.5, 2.0, -1.25],
        "mask": [[True] * 3, [True, False, False], [True, True, False], [True] * 3],
    }
    sources = dict(zip(AGGREGATIONS, (GRPO, DAPO, DR_GRPO, SCALE_RL), strict=True))
    for name in AGGREGATIONS:
        yield make(
            f"loss_on_policy_{name}",
            sources[name],
            "at a ratio of 1 the gradient is -weight * advantage; another aggregation shows here "
            "first",
            on_policy,
            {**plain, "aggregation": name},
            {
                f"aggregation={other}": {"aggregation": other}
                for other in AGGREGATIONS
                if other != name
            },
        )
    for objective, source in (("grpo", GRPO), ("gspo", GSPO), ("cispo", CISPO)):
        yield make(
            f"loss_nan_in_padding_{objective}",
            source,
            "NaN * 0 is NaN: what is masked must be left out or replaced, not multiplied by 0",
            on_policy,
            {**plain, "objective": objective, "aggregation": "token-mean", "padding": "nan"},
            {"aggregation=seq-mean-token-mean": {"aggregation": "seq-mean-token-mean"}},
        )
    yield make(
        "loss_advantage_per_token",
        GRPO + ", section 4.1.3 (process supervision)",
        "one advantage for a response",
        {
            **on_policy,
            "advantages": [
                [1.0, -1.0, 0.5],
                [-0.5, None, None],
                [2.0, 0.0, None],
                [-1.25, 1.0, 3.0],
            ],
        },
        plain,
        {"aggregation=token-mean": {"aggregation": "token-mean"}},
    )
    # Ratios above both bounds, below both, and between, for a good and a bad response.
    both_signs = {
        "logp": [[-0.5, -1.5, -1.05], [-0.5, -1.5, -1.05]],
        "old_logp": [[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]],
        "advantages": [1.0, -1.0],
        "mask": [[True] * 3, [True] * 3],
    }
    yield make(
        "loss_clip_asymmetric",
        DAPO + ".1, clip-higher",
        "one width for both sides; a clip without the minimum, which stops a bad token from coming "
        "back and lets nothing be learnt from it",
        both_signs,
        {**plain, "clip_high": 0.28},
        {
            "clip_high=clip_low": {"clip_high": 0.2},
            "clip_low=clip_high": {"clip_low": 0.28},
            "clip without the minimum": {"pessimism": "none"},
            "no clip": {"clip_low": 1.0, "clip_high": 1e9},
        },
    )
    yield make(
        "loss_between_the_clips",
        DAPO + ".1, clip-higher",
        "a ratio of 1.25 is inside 1.28 and outside 1.2: with one width its gradient is gone",
        {
            "logp": [[-0.775, -1.0], [-1.2, -1.0]],
            "old_logp": [[-1.0, -1.0], [-1.0, -1.0]],
            "advantages": [1.0, -1.0],
            "mask": [[True, True], [True, True]],
        },
        {**plain, "clip_high": 0.28},
        {"clip_high=clip_low": {"clip_high": 0.2}, "clip_low=0.1": {"clip_low": 0.1}},
    )
    grown = {
        "logp": [[-0.5, -0.5], [-0.5, -1.0]],
        "old_logp": [[-2.5, -1.0], [-2.5, -1.0]],
        "advantages": [-1.0, 1.0],
        "mask": [[True, True], [True, True]],
    }
    yield make(
        "loss_dual_clip",
        DUAL_CLIP,
        "no bound for a bad token of a large ratio; the bound on good tokens too",
        grown,
        {**plain, "dual_clip": 3.0},
        {"dual_clip=null": {"dual_clip": None}, "dual_clip=5": {"dual_clip": 5.0}},
    )
    yield make(
        "loss_no_dual_clip",
        GRPO,
        "a dual clip that nobody asked for (verl: 3)",
        grown,
        plain,
        {"dual_clip=3": {"dual_clip": 3.0}},
    )
    yield make(
        "loss_extreme_ratio_good",
        GRPO,
        "exp(1000) is infinite, and 0 * infinity in the backward pass of the minimum is NaN; the "
        "loss is the clipped one and its gradient 0",
        one(1000.0, 1.0),
        plain,
    )
    yield make(
        "loss_extreme_ratio_bad_small",
        GRPO,
        "a ratio of exp(-1000) with a negative advantage: clipped, gradient 0",
        one(-1000.0, -1.0),
        plain,
    )
    yield make(
        "loss_extreme_ratio_bad_dual_clip",
        DUAL_CLIP,
        "the dual clip bounds the loss, but NaN comes back through the infinite ratio",
        one(1000.0, -1.0),
        {**plain, "dual_clip": 10.0},
    )
    yield make(
        "loss_large_ratio_bounded",
        "log-ratio within 20, as verl and this project; beyond it no gradient",
        "no bound: one token has a loss of 1e13",
        one(30.0, -1.0),
        {**plain, "log_ratio_bound": 20.0},
        {"log_ratio_bound=null": {"log_ratio_bound": None}},
    )
    yield make(
        "loss_large_ratio_unbounded",
        GRPO,
        "a bound that nobody asked for, and with it no gradient",
        one(30.0, -1.0),
        {**plain, "log_ratio_bound": None},
        {"log_ratio_bound=20": {"log_ratio_bound": 20.0}},
    )
    uneven = [[0], [1], [2, 3]]
    empty = {
        "logp": [[-0.5, -1.5], [None, None], [-0.75, None], [-1.0, -1.1]],
        "old_logp": [[-0.6, -1.4], [None, None], [-0.75, None], [-1.0, -1.0]],
        "advantages": [1.0, -1.0, 0.5, -0.5],
        "mask": [[True, True], [False, False], [True, False], [True, True]],
    }
    for name in ("seq-mean-token-mean", "token-mean", "seq-sum-constant"):
        left_out = {"responses without tokens left out": {"weights_of": "responses with tokens"}}
        yield make(
            f"loss_empty_and_one_token_responses_{name}",
            sources[name],
            "0 / 0 for the response without a token; it still counts as a response",
            empty,
            {**plain, "aggregation": name},
            left_out if name != "token-mean" else {},
        )
        yield make(
            f"loss_all_masked_{name}",
            sources[name],
            "0 / 0 where nothing is trained: loss and gradient are 0, not NaN",
            {
                "logp": [[-1.0, -2.0], [-0.5, None]],
                "old_logp": [[-1.0, -2.0], [-0.5, None]],
                "advantages": [1.0, -1.0],
                "mask": [[False, False], [False, False]],
            },
            {**plain, "aggregation": name},
        )
        yield make(
            f"loss_micro_batches_{name}",
            sources[name] + "; the denominator is that of the global batch",
            "each micro-batch divides by its own tokens",
            {**on_policy, "micro_batches": [[0, 1], [2, 3]] if name == "token-mean" else uneven},
            {**plain, "aggregation": name},
            {"denominator of the micro-batch": {"weights_of": "micro-batch"}},
        )
    off_policy = {
        "logp": [[-1.0, -0.5, -2.0], [-0.25, -1.25, None]],
        "old_logp": [[-1.1, -0.45, -2.2], [-0.3, -1.1, None]],
        "advantages": [1.0, -0.75],
        "mask": [[True] * 3, [True, True, False]],
    }
    sequence = {
        "objective=grpo": {"objective": "grpo"},
        "product of the ratios": {"objective": "gspo_product"},
    }
    yield make(
        "loss_gspo",
        GSPO,
        "token ratios; the product instead of its root; a gradient that reaches only one token",
        off_policy,
        {**plain, "objective": "gspo"},
        {**sequence, "mean over the padded length": {"weights_of": "padded length"}},
    )
    yield make(
        "loss_gspo_clipped",
        GSPO,
        "clip widths of token ratios: of a response all tokens are clipped or none",
        off_policy,
        {**plain, "objective": "gspo", "clip_low": 3e-4, "clip_high": 4e-4},
        {"clip_low=clip_high=0.2": {"clip_low": 0.2, "clip_high": 0.2}},
    )
    yield make(
        "loss_cispo",
        CISPO,
        "clipping the objective, which takes the gradient of the clipped tokens; a gradient "
        "through the weight; a lower bound",
        both_signs,
        {**plain, "objective": "cispo", "clip_low": None, "clip_high": 0.28},
        {
            "objective=grpo": {"objective": "grpo", "clip_low": 0.2},
            "ratio not detached": {"objective": "cispo_ratio_not_detached"},
            "clip_high=0.2": {"clip_high": 0.2},
        },
    )
    yield make(
        "loss_cispo_token_mean",
        CISPO + "; the mean over the tokens of the group",
        "as loss_cispo",
        {**off_policy, "logp": [[-1.0, -0.1, -2.0], [-0.25, -1.25, None]]},
        {
            **plain,
            "objective": "cispo",
            "clip_low": None,
            "clip_high": 0.1,
            "aggregation": "token-mean",
        },
        {
            "aggregation=seq-mean-token-mean": {"aggregation": "seq-mean-token-mean"},
            "ratio not detached": {"objective": "cispo_ratio_not_detached"},
        },
    )
    yield make(
        "loss_reinforce",
        "Williams (1992), equation 4",
        "the sign; a ratio",
        on_policy,
        {**plain, "objective": "reinforce", "clip_low": None, "clip_high": None},
        {"aggregation=token-mean": {"aggregation": "token-mean"}},
    )
    for tau in (0.1, 2.0):
        yield make(
            f"loss_kimi_tau_{tau}",
            KIMI,
            "a square for each token instead of one of the sum; a mean over tokens",
            off_policy,
            {
                "objective": "kimi",
                "tau": tau,
                "aggregation": "seq-sum-constant",
                "constant": 1,
                "group_size": 2,
            },
            {
                "square of every token": {"square": "of tokens"},
                "aggregation=seq-mean-token-mean": {"aggregation": "seq-mean-token-mean"},
            },
        )
    with_reference = {
        **off_policy,
        "reference_logp": [[-1.4, -0.3, -1.2], [-0.2, -2.0, None]],
    }
    penalty = {"coef": 0.5, "place": "loss"}
    for estimator in ("k2", "k3"):
        yield make(
            f"loss_kl_{estimator}",
            GRPO if estimator == "k3" else "Schulman, Approximating KL divergence (2020)",
            "k2 and k3 agree to second order, their gradients only to first; the penalty in the "
            "reward; a penalty without the weights of the tokens",
            with_reference,
            {**plain, "kl": {**penalty, "estimator": estimator}},
            {
                **{
                    f"kl.estimator={other}": {"kl": {**penalty, "estimator": other}}
                    for other in ("k1", "k2", "k3", "k3_reversed")
                    if other != estimator
                },
                "kl.times_ratio=true": {
                    "kl": {**penalty, "estimator": estimator, "times_ratio": True}
                },
                "kl.place=reward": {"kl": {"coef": 0.5, "place": "reward", "estimator": estimator}},
                "no kl": {"kl": None},
            },
        )
    yield make(
        "loss_kl_k3_times_ratio",
        "DeepSeek-V3.2 (arXiv:2512.02556): the unbiased KL estimate",
        "k3 alone, whose gradient is biased off-policy; the ratio without its gradient",
        with_reference,
        {**plain, "kl": {**penalty, "estimator": "k3", "times_ratio": True}},
        {"kl.times_ratio=false": {"kl": {**penalty, "estimator": "k3"}}},
    )
    yield make(
        "loss_kl_in_reward",
        "Ziegler et al. (arXiv:1909.08593), section 2; a penalty per token, without gradient",
        "a gradient through the penalty; the penalty in the loss",
        with_reference,
        {**plain, "kl": {"coef": 0.5, "place": "reward", "estimator": "k1"}},
        {
            "kl.place=loss": {"kl": {**penalty, "estimator": "k1"}},
            "no kl": {"kl": None},
        },
    )
    sampled = {
        **with_reference,
        "behaviour_logp": [[-2.1, -0.5, -2.2], [-0.35, -0.1, None]],
    }
    tis = {"kind": "truncate", "level": "token", "low": 0.0, "high": 2.0}
    yield make(
        "loss_tis",
        TIS,
        "no truncation; the ratio of the objective taken to the engine; the product over the "
        "response",
        sampled,
        {**plain, "correction": tis},
        {
            "correction.high=1000": {"correction": {**tis, "high": 1000.0}},
            "correction.level=sequence": {"correction": {**tis, "level": "sequence"}},
            "no correction": {"correction": None},
        },
    )
    with_kl = {"kl": {**penalty, "estimator": "k3"}}
    yield make(
        "loss_tis_and_kl",
        TIS,
        "the correction on the KL to the reference as well",
        sampled,
        {**plain, **with_kl, "correction": tis},
        {"correction on the kl": {"kl": {**with_kl["kl"], "corrected": True}}},
    )
    for level, low, high, source in (("token", 0.5, 2.0, ICEPOP), ("sequence", 0.5, 4.0, MIS)):
        mis = {"kind": "mask", "level": level, "low": low, "high": high}
        yield make(
            f"loss_mis_{level}",
            source,
            "dropped tokens leave the denominator too; kept tokens at weight 1",
            sampled,
            {**plain, "aggregation": "token-mean", "correction": mis},
            {
                "denominator of the kept tokens": {
                    "correction": {**mis, "denominator": "kept tokens"}
                },
                "kept tokens weigh 1": {"correction": {**mis, "ones": True}},
                "correction.kind=truncate": {"correction": {**mis, "kind": "truncate"}},
            },
        )
