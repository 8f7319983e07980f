"""The metrics of a run: what each key means, in which order they are written, where they are shown.

A run is recorded under flat keys (`response_length`). TensorBoard and wandb make one panel group of
each prefix, so there the same number is called `length/mean`; `panel_key` is the whole mapping.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

GROUPS = ("reward", "eval", "length", "stage", "policy", "speed", "health")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric: its key, its name on panels, its unit and its meaning."""

    key: str  # in metrics.jsonl; a name in <> stands for any
    panel: str  # in TensorBoard and wandb: group/name
    unit: str
    meaning: str


def _metric(key: str, panel: str, unit: str, meaning: str) -> Metric:
    return Metric(key=key, panel=panel, unit=unit, meaning=meaning)


METRICS = (
    _metric(
        "step",
        "step",
        "updates",
        "updates done when the row was written; evaluation of the base is step 0",
    ),
    _metric("stage", "stage/number", "", "stage of the schedule, from 1"),
    _metric("switch", "stage/switch", "", "1 where a stage ends; switch/reason says why"),
    _metric(
        "reward",
        "reward/mean",
        "reward",
        "mean over the step's samples of the total reward, which GRPO maximises",
    ),
    _metric(
        "reward_std",
        "reward/std",
        "reward",
        "standard deviation of the total reward over the step's samples",
    ),
    _metric(
        "reward/<component>",
        "reward/component_<component>",
        "reward",
        "mean of one component, before its weight",
    ),
    _metric("accuracy", "reward/accuracy", "share", "samples whose answer is right"),
    _metric("format", "reward/format", "share", "samples that keep the asked-for form"),
    _metric("response_length", "length/mean", "tokens", "mean length of a response"),
    _metric("response_length_max", "length/max", "tokens", "longest response"),
    _metric(
        "truncation_share",
        "length/truncation_share",
        "share",
        "samples cut off at the longest allowed length",
    ),
    _metric(
        "zero_variance_share",
        "reward/zero_variance_share",
        "share",
        "groups whose rewards are all equal: they have no policy gradient",
    ),
    _metric("groups_sampled", "reward/groups_sampled", "groups", "groups that the step sampled"),
    _metric(
        "groups_trained",
        "reward/groups_trained",
        "groups",
        "groups that the update computed; `batch.zero_variance` decides",
    ),
    _metric(
        "refills",
        "reward/refills",
        "rounds",
        "rounds of sampling after the first, until enough groups teach something",
    ),
    _metric(
        "entropy",
        "policy/entropy",
        "nats per token",
        "mean entropy of the policy at the sampled tokens",
    ),
    _metric(
        "kl",
        "policy/kl",
        "nats per token",
        "divergence from the reference policy, where the recipe has one",
    ),
    _metric(
        "loss",
        "policy/loss",
        "",
        "the loss of the update (about 0 on-policy: advantages are centred)",
    ),
    _metric(
        "nll",
        "policy/nll",
        "nats per token",
        "`grpo sft`: mean negative log-likelihood of the trained tokens before the update",
    ),
    _metric("perplexity", "policy/perplexity", "", "`grpo sft`: exp(nll)"),
    _metric(
        "reward_margin",
        "policy/reward_margin",
        "reward",
        "`grpo sft` with `dpo`: mean of chosen minus rejected reward, before the update",
    ),
    _metric(
        "pair_accuracy",
        "policy/pair_accuracy",
        "share",
        "`grpo sft` with `dpo`: pairs whose chosen response has the larger reward",
    ),
    _metric(
        "chosen_reward",
        "policy/chosen_reward",
        "reward",
        "`grpo sft` with `dpo`: mean beta (log policy - log reference) of chosen responses",
    ),
    _metric(
        "rejected_reward",
        "policy/rejected_reward",
        "reward",
        "`grpo sft` with `dpo`: the same of rejected responses",
    ),
    _metric(
        "epoch", "health/epoch", "epochs", "`grpo sft`: times that the examples have been seen"
    ),
    _metric("examples", "health/examples", "examples", "`grpo sft`: examples of the step"),
    _metric(
        "trained_tokens", "speed/trained_tokens", "tokens", "`grpo sft`: tokens that carry loss"
    ),
    _metric(
        "ratio_max",
        "policy/ratio_max",
        "ratio",
        "largest probability ratio of new to old policy over the tokens",
    ),
    _metric("clip_share", "policy/clip_share", "share", "tokens whose ratio was clipped"),
    _metric(
        "dual_clip_share",
        "policy/dual_clip_share",
        "share",
        "tokens whose loss `algorithm.dual_clip` bounded",
    ),
    _metric(
        "kl_coef", "policy/kl_coef", "", "weight of the KL, where `algorithm.kl_target` moves it"
    ),
    _metric(
        "entropy_coef",
        "policy/entropy_coef",
        "",
        "weight of the entropy bonus, where `algorithm.entropy_target` moves it",
    ),
    _metric("grad_norm", "policy/grad_norm", "", "norm of the gradient before clipping"),
    _metric("lr", "policy/lr", "", "learning rate of the update"),
    _metric("weight_max", "health/weight_max", "", "largest absolute weight after the update"),
    _metric(
        "logprob_gap_mean",
        "health/logprob_gap_mean",
        "nats",
        "mean absolute difference of a token's log-prob in engine and learner at equal weights",
    ),
    _metric("logprob_gap_max", "health/logprob_gap_max", "nats", "largest such difference"),
    _metric(
        "mismatch_kl",
        "health/mismatch_kl",
        "nats per token",
        "KL(engine, learner) at equal weights, by the k3 estimate",
    ),
    _metric(
        "effective_share",
        "health/effective_share",
        "share",
        "what weighted samples are worth under `algorithm.mismatch.correction`, of all",
    ),
    _metric(
        "weight_version",
        "health/weight_version",
        "updates",
        "version of the weights that made the samples",
    ),
    _metric(
        "staleness",
        "health/staleness",
        "updates",
        "how many updates older than the trained weights those were that sampled; mean over tokens",
    ),
    _metric("staleness_max", "health/staleness_max", "updates", "the same, of the oldest token"),
    _metric(
        "generated_tokens",
        "speed/generated_tokens",
        "tokens",
        "response tokens sampled in the step",
    ),
    _metric(
        "tokens_per_second",
        "speed/tokens_per_second",
        "tokens / s",
        "response tokens over the step's duration; `grpo sft`: all tokens of the examples",
    ),
    _metric("seconds/sample", "speed/seconds_sample", "s", "time that the loop waited for samples"),
    _metric(
        "seconds/generate",
        "speed/seconds_generate",
        "s",
        "from the first request of the batch to its last score, hidden behind learning or not",
    ),
    _metric("seconds/score", "speed/seconds_score", "s", "time for rewards"),
    _metric("seconds/learn", "speed/seconds_learn", "s", "time of advantages and the update"),
    _metric(
        "seconds/transfer",
        "speed/seconds_transfer",
        "s",
        "time to send the new weights to the engines",
    ),
    _metric(
        "seconds/evaluate",
        "speed/seconds_evaluate",
        "s",
        "time of the evaluations after the step, which the loop waits for; not a part of the step",
    ),
    _metric(
        "seconds/idle", "speed/seconds_idle", "s", "rest of the step: neither of the above ran"
    ),
    _metric(
        "eval/<name>/<metric>",
        "eval/<name>_<metric>",
        "as <metric>",
        "a metric on held-out problems",
    ),
    _metric(
        "eval/<name>/accuracy_low",
        "eval/<name>_accuracy_low",
        "share",
        "lower end of the 95% interval of the accuracy, with problems as clusters",
    ),
    _metric(
        "eval/<name>/accuracy_high",
        "eval/<name>_accuracy_high",
        "share",
        "its upper end",
    ),
    _metric(
        "eval/<name>/pass@<k>",
        "eval/<name>_pass@<k>",
        "share",
        "chance that at least one of k samples is right, for k = 2, 4, ... up to num_samples",
    ),
    _metric(
        "eval/<name>/num_problems",
        "eval/<name>_num_problems",
        "problems",
        "size of the evaluation",
    ),
    _metric(
        "eval/<name>/num_samples",
        "eval/<name>_num_samples",
        "samples",
        "responses to each problem of it",
    ),
)

_PANEL_OF = {metric.key: metric.panel for metric in METRICS}
_POSITION = {metric.key: position for position, metric in enumerate(METRICS)}


def panel_key(key: str) -> str:
    """The name of a metric in TensorBoard and wandb: exactly one `/`, with the panel group before
    it.

    A key that METRICS does not list keeps its name, with what stands before its first `/` as the
    group. One without a group goes to `other`. So a new objective or probe needs no change here.
    """
    if key in _PANEL_OF:
        return _PANEL_OF[key]
    group, _, rest = key.partition("/")
    if group == "reward" and rest:
        return f"reward/component_{rest.replace('/', '_')}"
    if group == "eval" and rest:
        return f"eval/{rest.replace('/', '_')}"
    return f"{group}/{rest.replace('/', '_')}" if group and rest else f"other/{key.strip('/')}"


def in_order(metrics: Mapping[str, Value]) -> dict[str, Value]:
    """The same metrics in the order of METRICS, so that every line of a run reads alike.

    Unknown ones come after them, evaluations last, both in the order given.
    """
    return {key: metrics[key] for key in sorted(metrics, key=_position)}


def _position(key: str) -> int:
    if key.startswith("eval/"):
        return len(METRICS) + 1
    if key.startswith("reward/"):
        return _POSITION["reward/<component>"]
    return _POSITION.get(key, len(METRICS))


def evaluation_size(metrics: Mapping[str, Any]) -> str:
    """Problems and responses to each, such as `128x1`. Only equal sizes are one curve."""
    sizes = (metrics.get("num_problems"), metrics.get("num_samples"))
    return "x".join("?" if size is None else str(size) for size in sizes)


def panel_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as TensorBoard and wandb show it: without `step`, their axis, and what is None."""
    return {
        panel_key(key): value for key, value in row.items() if key != "step" and value is not None
    }
